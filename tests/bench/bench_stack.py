"""Broker, database and services for benchmarks: real ones, of this run only."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra import ports
from infra.accounts import unprivileged
from infra.kafka import broker
from infra.postgres import server


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
def stack(folder: Path) -> Iterator[tuple[str, str]]:
    """A broker's address and a database server's DSN."""
    port = ports.free()
    kafka = broker.Broker(folder / "kafka", port, ports.free(taken=frozenset({port})))
    class_path = broker.prepared_class_path()
    kafka.prepare(class_path=class_path)
    log = folder / "kafka.log"
    with (
        running(kafka.command(class_path=class_path), log=log, answers=lambda: broker.answers(kafka.address)),
        database(folder) as dsn,
    ):
        yield kafka.address, dsn


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """A database server's DSN, without a broker."""
    one = server.Server(folder / "postgres", ports.free(), settings=(("max_wal_size", "4GB"),))
    one.prepare()
    account = unprivileged()
    with running(
        one.command(),
        log=folder / "postgres.log",
        answers=lambda: server.answers(one.dsn("postgres")),
        **(account.popen() if account else {}),
    ):
        yield one.dsn("postgres")


@contextmanager
def service(folder: Path, *words: str, **env: str) -> Iterator[int]:
    """One of Telltale's services, from its readiness on; its pid."""
    name = "-".join(words)
    ready, log = folder / f"{name}-{time.monotonic_ns()}.ready", folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.command", *words],
            stdout=out,
            stderr=out,
            env={**os.environ, **env, "TELLTALE_READY_FILE": str(ready)},
        )
    try:
        while not ready.exists():
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            time.sleep(0.02)
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)
