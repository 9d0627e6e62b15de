"""Telltale's own services as real processes, started as the supervisor starts them, and ended with the test."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

READY_S_MAX = 120


class Service:
    """One running service. `kill` ends it at once; `freeze` and `wake` stop and continue it."""

    def __init__(self, words: list[str], folder: Path, env: dict[str, str]) -> None:
        self._words = words
        self._ready = folder / f"ready-{time.monotonic_ns()}"
        self.log = folder / f"{'-'.join(words).replace('/', '_')}-{time.monotonic_ns()}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.command", *words],
                env={**os.environ, **env, "TELLTALE_READY_FILE": str(self._ready)},
                stdout=output,
                stderr=output,
                cwd=folder,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def await_ready(self) -> "Service":
        await_true(lambda: self._ready.exists() or not self.lives, what=f"{self._words} ready", within_s=READY_S_MAX)
        if not self.lives:
            pytest.fail(f"{self._words} ended with {self._process.returncode}:\n{self.log.read_text()[-4000:]}")
        return self

    @property
    def exit_code(self) -> int | None:
        """None: it lives."""
        return self._process.poll()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask_to_end(self) -> None:
        """Without waiting for it."""
        self._process.terminate()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self._process.terminate()
        return self._process.wait(timeout=30)

    def end(self) -> None:
        if not self.lives:
            return
        self.wake()
        self._process.terminate()  # one that leaves its group need not be missed by the next test's
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()


def await_true(happened: Callable[[], bool], *, what: str, within_s: float = 60, every_s: float = 0.05) -> None:
    """Look until it has happened; fail when it has not by then: far more than it takes, the machine may be busy."""
    until = time.monotonic() + within_s
    while not happened():
        if time.monotonic() > until:
            pytest.fail(f"{what}: not within {within_s} s")
        time.sleep(every_s)


@contextmanager
def steadily(work: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Does it again and again in a thread of its own until it is left; what it throws is told then."""
    over, failures = threading.Event(), list[BaseException]()

    def run() -> None:
        try:
            while not over.wait(every_s):
                work()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        assert not failures, failures


Start = Callable[..., Service]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a service: `start("streams", "run", TELLTALE_KAFKA=address)`."""
    running: list[Service] = []

    def start_one(*words: str, **env: str) -> Service:
        service = Service(list(words), tmp_path, env)
        running.append(service)
        return service

    yield start_one
    for service in running:
        service.end()
