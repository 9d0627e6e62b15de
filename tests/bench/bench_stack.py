"""Broker, database and services for benchmarks: real ones, of this run only."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra import ports
from infra.accounts import unprivileged
from infra.kafka import broker
from infra.postgres import server
from infra.provision import provision


def share_of(records: int, devices: int) -> int:
    """So many of the records, a whole number for each device: `make bench ARGS="... --share 0.1"`."""
    return max(1, round(float(os.environ.get("TELLTALE_BENCH_SHARE", "1")) * records / devices)) * devices


@dataclass(frozen=True)
class Figure:
    """One measured number, and what share of its limit it is."""

    bench: str
    what: str
    value: float
    unit: str
    of_limit: float | None


def figure(bench: str, what: str, value: float, unit: str, *, beside: float | None = None) -> Figure:
    return Figure(bench, what, round(value, 2 if value < 1000 else None), unit, beside and round(value / beside, 2))


def peak_mb(pid: int) -> float:
    """The most memory that a process has had."""
    [peak] = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line]
    return int(peak) / 1024


@contextmanager
def running(command: list[str], *, log: Path, answers: Callable[[], bool], **options: object) -> Iterator[None]:
    """A server process, from its first answer on."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent, **options)
    try:
        while not answers():
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def own_stack(
    *, partitions: int | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[Path, str, str]]:
    """A folder, the address of a broker with the catalogue's topics, and a database server's DSN."""
    with own_folder() as folder, stack(folder, settings) as (kafka, dsn):
        provision(kafka, partitions=partitions)
        yield folder, kafka, dsn


@contextmanager
def own_folder() -> Iterator[Path]:
    """For one run; the database's account may pass through."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as named:
        folder = Path(named)
        folder.chmod(0o711)
        yield folder


@contextmanager
def stack(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """A broker's address and a database server's DSN."""
    port = ports.free()
    kafka = broker.Broker(folder / "kafka", port, ports.free(taken=frozenset({port})))
    class_path = broker.prepared_class_path()
    kafka.prepare(class_path=class_path)
    log = folder / "kafka.log"
    with (
        running(kafka.command(class_path=class_path), log=log, answers=lambda: broker.answers(kafka.address)),
        database(folder, settings) as dsn,
    ):
        yield kafka.address, dsn


@contextmanager
def database(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """A database server's DSN, without a broker."""
    told = {"max_wal_size": "4GB", **(settings or {})}
    one = server.Server(folder / "postgres", ports.free(), settings=tuple(told.items()))
    one.prepare()
    account = unprivileged()
    try:
        with running(
            one.command(),
            log=folder / "postgres.log",
            answers=lambda: server.answers(one.dsn("postgres")),
            **(account.popen() if account else {}),
        ):
            yield one.dsn("postgres")
    finally:
        one.remove()


@contextmanager
def service(folder: Path, *words: str, **env: str) -> Iterator[int]:
    """One of Telltale's services, from its readiness on; its pid."""
    with several(folder, 1, *words, **env) as [pid]:
        yield pid


@contextmanager
def several(folder: Path, count: int, *words: str, **env: str) -> Iterator[list[int]]:
    """So many of the same service, started at once, from the readiness of all on; their pids."""
    started: list[tuple[subprocess.Popen[bytes], Path, Path]] = []
    try:
        for nth in range(1, count + 1):
            name = "-".join(words) + (f"-{nth}" if nth > 1 else "")
            ready, log = folder / f"{name}-{time.monotonic_ns()}.ready", folder / f"{name}.log"
            command = [sys.executable, "-m", "infra.command", *words]
            with log.open("wb") as out:
                own = {**os.environ, **env, "TELLTALE_READY_FILE": str(ready)}
                started.append((subprocess.Popen(command, stdout=out, stderr=out, env=own), ready, log))
        for process, ready, log in started:
            while not ready.exists():
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.02)
        yield [process.pid for process, _, _ in started]
    finally:
        for process, _, _ in started:
            process.terminate()
        for process, _, _ in started:
            process.wait(30)
