"""The edge: accepting with fsync, draining a backlog, and from accept to acknowledgement.

Beside it what a person would write first: a row for each reading in SQLite, committed one by one, sent one by one and
deleted when acknowledged (the shape of store-and-forward in many MQTT clients).
"""

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from bench_stack import Figure, figure, running
from confluent_kafka import Producer

from infra import ports
from infra.client import connection
from infra.kafka import broker
from infra.provision import provision
from producers import Edge, EdgeSettings
from producers.spool import Rows, Spool
from schemas.topics import READINGS_RAW

WINS = """
The naive table accepts single readings twice as fast: it writes a row, where the spool checks the reading, numbers its
group and packs it as it will be sent. Both are far beyond what loggers bring; from two readings an accept on the spool
wins.
"""

BATCHES = (1, 20, 1_000)
SECONDS = 3.0  # of each measurement of accepting
BACKLOG = int(os.environ.get("BENCH_EDGE_BACKLOG", "1000000"))  # readings; issue 4 asks for 10,000,000
PACED = 400  # readings whose way is timed
PACE_S = 0.05


def rate(once: Callable[[int], None], batch: int) -> float:
    """Readings a second of a call that takes `batch` of them."""
    until, count, began = time.perf_counter() + SECONDS, 0, time.perf_counter()
    while time.perf_counter() < until:
        once(count)
        count += batch
    return count / (time.perf_counter() - began)


def rows_of(batch: int, first: int) -> Rows:
    times = np.arange(first, first + batch, dtype=np.int64) * 1_000
    return Rows("bench", times, ("a",), np.full((batch, 1), 7.3))


def accepting(folder: Path) -> Iterator[Figure]:
    for batch in BATCHES:
        path = folder / f"naive-{batch}.db"
        naive = sqlite3.connect(path, isolation_level=None)
        naive.executescript("pragma journal_mode = wal; pragma synchronous = full")
        naive.execute("create table readings (id integer primary key, time integer, channel text, value real)")

        def row_by_row(first: int, batch: int = batch, naive: sqlite3.Connection = naive) -> None:
            for number in range(first, first + batch):
                naive.execute("insert into readings (time, channel, value) values (?, ?, ?)", (number, "a", 7.3))

        base = rate(row_by_row, batch)
        naive.close()
        with Spool(folder / f"spool-{batch}", clock_us=lambda: time.time_ns() // 1000) as spool:
            ours = rate(lambda first, batch=batch, spool=spool: spool.accept([rows_of(batch, first)]), batch)
        yield figure("edge", f"accept, groups of {batch}: naive row by row", base, "readings/s")
        yield figure("edge", f"accept, groups of {batch}: spool", ours, "readings/s", beside=base)


def naive_drain(folder: Path, kafka: str, total: int) -> float:
    """Readings a second: each a message, deleted when it is acknowledged."""
    db = sqlite3.connect(folder / "naive.db", isolation_level=None)
    db.executescript("pragma journal_mode = wal; pragma synchronous = full")
    db.execute("create table readings (id integer primary key, time integer, channel text, value real)")
    db.execute("begin")
    db.executemany("insert into readings (time, channel, value) values (?, 'a', 7.3)", ((n,) for n in range(total)))
    db.execute("commit")
    producer = Producer({**connection(kafka), "enable.idempotence": True, "linger.ms": 0})
    began = time.perf_counter()
    for number, at, channel, value in db.execute(
        "select id, time, channel, value from readings order by id"
    ).fetchall():
        producer.produce(READINGS_RAW, f"{at},{channel},{value}".encode(), key=b"bench")
        producer.flush()
        db.execute("delete from readings where id = ?", (number,))
    db.close()
    return total / (time.perf_counter() - began)


def drained(folder: Path, kafka: str) -> Iterator[Figure]:
    spool, channels = folder / "backlog", tuple(f"s{n:02}" for n in range(20))
    chance = np.random.default_rng(1)
    step = 50  # rows of an accept: what a minute or so brings
    with Spool(spool, clock_us=lambda: 0) as filled:
        for first in range(0, BACKLOG // 20, step):
            times = np.arange(first, first + step, dtype=np.int64) * 1_000_000
            filled.accept([Rows("bench", times, channels, chance.normal(8, 2, (step, 20)).round(2))])
    process, peak, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    with Edge(EdgeSettings(device_id="bench", spool=spool), address=kafka) as edge:
        while not edge.drained:
            time.sleep(0.01)
        took_s = time.perf_counter() - began
    done.set()
    watcher.join()
    base = naive_drain(folder, kafka, 2_000)
    yield figure("edge", "drain: naive, each reading sent and deleted", base, "readings/s")
    yield figure("edge", f"drain: backlog of {BACKLOG:,}, groups of 1,000", BACKLOG / took_s, "readings/s", beside=base)
    yield figure("edge", "drain: memory on top", (peak[0] - before) / 1e6, "MB")


def timed(folder: Path, kafka: str) -> Iterator[Figure]:
    """Single readings, 20 a second, as a small logger has them."""
    waited: list[float] = []
    with Edge(EdgeSettings(device_id="bench", spool=folder / "timed"), address=kafka) as edge:
        edge.accept(None, "a", 0.0)
        while not edge.drained:
            time.sleep(0.01)
        acknowledged, due, sent = edge.progress.readings, time.perf_counter(), []
        for _ in range(PACED):
            edge.accept(None, "a", 7.3)
            sent.append(time.perf_counter())
            due += PACE_S
            while (now := time.perf_counter()) < due:
                ready = edge.progress.readings - acknowledged
                waited += [now - sent[number] for number in range(len(waited), ready)]
                time.sleep(0.001)
    for share in (50, 99):
        yield figure(
            "edge", f"accept to acknowledged at 20/s, p{share}", float(np.percentile(waited, share)) * 1e3, "ms"
        )


@contextmanager
def kafka_only(folder: Path) -> Iterator[str]:
    port = ports.free()
    one = broker.Broker(folder / "kafka", port, ports.free(taken=frozenset({port})))
    class_path = broker.prepared_class_path()
    one.prepare(class_path=class_path)
    command, log = one.command(class_path=class_path), folder / "kafka.log"
    with running(command, log=log, answers=lambda: broker.answers(one.address)):
        provision(one.address)
        yield one.address


def run() -> list[Figure]:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as named:
        folder = Path(named)
        figures = list(accepting(folder))
        with kafka_only(folder) as kafka:
            return [*figures, *timed(folder, kafka), *drained(folder, kafka)]
