"""What 1,000 sensors cost a whole stack: CPU and memory of each process, bytes in Kafka and in the database, network.

A stack as `telltale up` starts it, with the parts that people run. Fifty devices of twenty sensors each: at rest, then
once per second by an edge of its own, then one row each at a time, as loggers send that store every ten minutes. CPU is
that of the processes (`/proc`), bytes are those of Kafka's segments and of the database's relations after the run. What
goes over the network is reckoned from the segments, each as often as it is sent.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
from bench_stack import Figure, figure, own_folder
from bench_stage import START_US, device
from confluent_kafka import Producer

from infra.client import connection
from producers.stations.devices import publish
from schemas.codec import Codec
from schemas.frames import RawFrame
from schemas.keys import PARTITIONER
from schemas.topics import READINGS_CLEAN, READINGS_RAW, STREAMS_STATE, WINDOWS

DEVICES, CHANNELS = 50, 20
SENSORS = DEVICES * CHANNELS
REST_S, LIVE_S, WARM_S = 20.0, 70, 20.0
SLOW_ROWS, SLOW_EVERY_S = 144, 600  # a day of rows of each device
PARTS = "kafka,postgres,topics,streams,sink,dashboard,watchdog"
NAMES = tuple(f"ch{number:02}" for number in range(CHANNELS))
RELATIONS = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
UNION ALL SELECT 'database', pg_database_size(current_database())"""


def telltale(*words: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "infra.command", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)


@dataclass
class Site:
    """A stack and what can be read off it."""

    folder: Path
    env: dict[str, str]
    status: dict[str, Any]

    @property
    def kafka(self) -> str:
        return str(self.status["kafka"])

    def cpu_s(self) -> Counter[str]:
        """CPU time so far, by part; that of the database's ended processes included."""
        spent: Counter[str] = Counter()
        for part, tree in self._trees():
            for process in tree:
                with suppress(psutil.NoSuchProcess):  # it has just ended, and is counted as such
                    times = process.cpu_times()
                    spent[part] += times.user + times.system
            ended = tree[0].cpu_times()
            spent[part] += ended.children_user + ended.children_system
        return spent

    def memory_mb(self) -> dict[str, float]:
        """By part, each page once (PSS): the database's processes share much."""
        return {part: sum(p.memory_full_info().pss for p in tree) / 1e6 for part, tree in self._trees()}

    def _trees(self) -> Iterator[tuple[str, list[psutil.Process]]]:
        for each in self.status["services"]:
            if each["pid"]:
                root = psutil.Process(each["pid"])
                yield each["name"], [root, *root.children(recursive=True)]

    def topic_bytes(self) -> Counter[str]:
        """What each topic's segments hold. Indexes are some thousandths of it, and preallocated."""
        held: Counter[str] = Counter()
        for segment in (self.folder / "kafka" / "data").glob("*/*.log"):
            held[segment.parent.name.rpartition("-")[0]] += segment.stat().st_size
        return held

    def table_bytes(self) -> Counter[str]:
        """Of every table with its indexes; partitions count for themselves."""
        with psycopg.connect(self.status["database"], autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            return Counter({name: int(size) for name, size in connection.execute(RELATIONS)})

    def settle(self) -> None:
        telltale("settle", "--timeout", "240", env=self.env)


@contextmanager
def site(parts: str = PARTS) -> Iterator[Site]:
    """A stack with these parts, of this run only."""
    with own_folder() as folder:
        env = {key: value for key, value in os.environ.items() if not key.startswith("TELLTALE_")}
        env |= {"TELLTALE_DIR": str(folder / "stack"), "TELLTALE_BACKUP_FOLDER": str(folder / "backups")}
        telltale("up", "--detach", "--only", parts, env=env)
        try:
            status = json.loads(telltale("status", "--json", env=env).stdout)
            yield Site(folder / "stack", env, status)
        finally:
            telltale("down", env=env)


def spent_over(one: Site, seconds: float) -> Counter[str]:
    """CPU seconds per second, by part."""
    before, began = one.cpu_s(), time.monotonic()
    time.sleep(seconds)
    after, took = one.cpu_s(), time.monotonic() - began
    return Counter({part: (after[part] - before[part]) / took for part in after})


def live(one: Site) -> tuple[Counter[str], float]:
    """CPU while an edge of its own sends a row of each device per second, and the edge's; readings sent."""
    words = ["edge", "simulate", "--devices", str(DEVICES), "--sensors", str(CHANNELS), "--rate", "1"]
    words += [
        "--duration",
        str(LIVE_S),
        "--faults",
        "",
        "--name",
        "live",
        "--spool",
        str(one.folder / "spool"),
        "--json",
    ]
    command = [sys.executable, "-P", "-m", "infra.command", *words]
    edge = subprocess.Popen(command, env=one.env, stdout=subprocess.PIPE, text=True)
    process = psutil.Process(edge.pid)
    time.sleep(WARM_S)
    own = process.cpu_times()
    spent = spent_over(one, LIVE_S - WARM_S - 5)
    now = process.cpu_times()
    spent["edge"] = (now.user + now.system - own.user - own.system) / (LIVE_S - WARM_S - 5)
    said, _ = edge.communicate(timeout=120)
    return spent, float(json.loads(said)["total"]["readings"])


def slow(one: Site) -> int:
    """A day of ten-minute rows of each device, each row a frame and a batch of its own; the readings sent."""
    codec, chance = Codec(), np.random.default_rng(7)
    options = {"partitioner": PARTITIONER, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 0}
    producer = Producer({**connection(one.kafka), **options, "acks": "all", "batch.num.messages": 1})
    slowly = {"interval_s": SLOW_EVERY_S}
    publish(one.kafka, [device(f"slow-{at}", NAMES).model_copy(update=slowly) for at in range(DEVICES)])
    for row in range(SLOW_ROWS):
        times = np.array([START_US + row * SLOW_EVERY_S * 1_000_000])
        for number in range(DEVICES):
            frame = RawFrame(f"slow-{number}", "bench", row, times, NAMES, chance.normal(8, 2, (1, CHANNELS)).round(3))
            producer.produce(READINGS_RAW, codec.encode(frame), frame.device_id.encode())
            producer.poll(0)
    producer.flush()
    return SLOW_ROWS * SENSORS


def rows_bytes(tables: Counter[str], what: str) -> int:
    """Of a table and its partitions."""
    return sum(size for name, size in tables.items() if name == what or name.startswith(f"{what}_"))


def of_load(bench: str, name: str, topics: Counter[str], tables: Counter[str], readings: float) -> Iterator[Figure]:
    for topic in (READINGS_RAW, READINGS_CLEAN, WINDOWS, STREAMS_STATE):
        yield figure(bench, f"{name}: {topic}", topics[topic] / readings, "B/reading")
    yield figure(
        bench, f"{name}: table readings with its index", rows_bytes(tables, "readings") / readings, "B/reading"
    )
    yield figure(bench, f"{name}: database, all", tables["database"] / readings, "B/reading")
    network = 2 * sum(topics[t] for t in (READINGS_RAW, READINGS_CLEAN, WINDOWS)) + topics[STREAMS_STATE]
    yield figure(bench, f"{name}: to and from Kafka", network / readings, "B/reading")


def run() -> Iterator[Figure]:
    """At rest, at a row per second, at a row per ten minutes; all for 1,000 sensors."""
    load = os.getloadavg()[0]
    with site() as one:
        yield figure("sizing", "load of the machine before", load, "")
        time.sleep(10)
        rest = spent_over(one, REST_S)
        for part, share in sorted(rest.items()):
            yield figure("sizing", f"at rest: CPU of {part}", 100 * share, "% of a core")
        topics, tables = one.topic_bytes(), one.table_bytes()
        busy, readings = live(one)
        one.settle()
        for part, share in sorted(busy.items()):
            yield figure("sizing", f"1/s: CPU of {part}", 100 * share, "% of a core")
        yield figure("sizing", "1/s: CPU of all", 100 * sum(busy.values()), "% of a core")
        yield from of_load("sizing", "1/s", one.topic_bytes() - topics, one.table_bytes() - tables, readings)
        topics, tables, before = one.topic_bytes(), one.table_bytes(), one.cpu_s()
        sent, began = slow(one), time.monotonic()
        one.settle()
        after, took = one.cpu_s(), time.monotonic() - began
        extra = sum(after[part] - before[part] - rest[part] * took for part in after)
        yield figure("sizing", "1/10 min: CPU of all beyond rest, for a day", extra, "s")
        yield from of_load("sizing", "1/10 min", one.topic_bytes() - topics, one.table_bytes() - tables, sent)
        for part, megabytes in sorted(one.memory_mb().items()):
            yield figure("sizing", f"memory of {part}", megabytes, "MB")
