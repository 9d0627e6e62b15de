"""How long it takes to come back: a backup restored, what is newer read again from Kafka, everything replayed, a worker
that takes its states over. One stack as `telltale up` starts it; 1,000 devices of twenty sensors.
"""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
from bench_sizing import NAMES, Site, site, telltale
from bench_stack import Figure, figure
from bench_stage import START_US, device
from confluent_kafka import Producer

from infra.client import connection
from producers.stations.devices import publish
from schemas.codec import Codec
from schemas.frames import RawFrame
from schemas.keys import PARTITIONER
from schemas.topics import READINGS_RAW

DEVICES, ROWS = 1_000, 10
ROUND = DEVICES * ROWS * len(NAMES)  # readings
BEFORE, SINCE = 5, 5  # rounds before the backup and since
OLD_ROWS = 200  # of each sensor, before the others, so that there is something to restore
PARTS = "kafka,postgres,topics,streams,sink"
OLD = """
INSERT INTO readings (sensor_id, time, logged, value, quality, tests)
SELECT sensor_id, to_timestamp(%s) - row * interval '1 s', 8.0 + random(), 8.1 + random(), 1, 0
FROM generate_series(1, %s) row, sensors"""


def send(kafka: str, rounds: range) -> None:
    codec, chance = Codec(), np.random.default_rng(rounds.start)
    options = {"partitioner": PARTITIONER, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 20}
    producer = Producer({**connection(kafka), **options, "acks": "all", "queue.buffering.max.kbytes": 1_000_000})
    for number in rounds:
        times = START_US + (number * ROWS + np.arange(ROWS)) * 1_000_000
        for at in range(DEVICES):
            frame = RawFrame(f"logger-{at}", "bench", number, times, NAMES, chance.normal(8, 2, (ROWS, len(NAMES))))
            producer.produce(READINGS_RAW, codec.encode(frame), frame.device_id.encode())
            producer.poll(0)
    producer.flush()


def took(*words: str, env: dict[str, str]) -> float:
    """Seconds of a command."""
    began = time.monotonic()
    telltale(*words, env=env)
    return time.monotonic() - began


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run() -> Iterator[Figure]:
    """Seconds and readings per second of each way back."""
    yield figure("recovery", "load of the machine before", os.getloadavg()[0], "")
    with site(PARTS) as one:
        yield from come_back(one)


def come_back(one: Site) -> Iterator[Figure]:
    env = one.env
    publish(one.kafka, [device(f"logger-{at}", NAMES) for at in range(DEVICES)])
    send(one.kafka, range(BEFORE))
    one.settle()
    with psycopg.connect(one.status["database"], autocommit=True) as connected:
        connected.execute(OLD, (START_US / 1e6, OLD_ROWS))
        rows, size = connected.execute("SELECT count(*), pg_database_size(current_database()) FROM readings").fetchone()
    yield figure("recovery", "rows of readings in the database", rows, "rows")
    yield figure("recovery", "the database", size / 1e6, "MB")
    yield figure("recovery", "backup create", took("backup", "create", env=env), "s")
    yield figure("recovery", "the backup", size_of(Path(env["TELLTALE_BACKUP_FOLDER"])) / 1e6, "MB")
    yield figure("recovery", "backup verify", took("backup", "verify", env=env), "s")
    send(one.kafka, range(BEFORE, BEFORE + SINCE))
    one.settle()
    restored_s = took("backup", "restore", "--force", env=env)
    yield figure("recovery", "backup restore, until the database is there", restored_s, "s")
    began = time.monotonic()
    one.settle()
    yield figure("recovery", f"until {SINCE * ROUND:,} newer readings are read again", time.monotonic() - began, "s")
    began = time.monotonic()
    telltale("replay", "--from-beginning", env=env)
    one.settle()
    replayed_s = time.monotonic() - began
    total = (BEFORE + SINCE) * ROUND
    yield figure("recovery", f"replay of {total:,} readings, until the rows are right", replayed_s, "s")
    yield figure("recovery", "the same", total / replayed_s, "readings/s")
    yield from taken_over(one)


def taken_over(one: Site) -> Iterator[Figure]:
    """A worker that is killed: until its successor has all states and works."""
    log = one.folder / "logs" / "streams.log"
    worker = next(each for each in _services(one) if each["name"] == "streams")
    read, began = log.stat().st_size, time.monotonic()
    os.kill(worker["pid"], signal.SIGKILL)
    while not any(
        e["name"] == "streams" and e["state"] == "running" and e["pid"] != worker["pid"] for e in _services(one)
    ):
        time.sleep(0.2)
    yield figure(
        "recovery", f"a killed worker, until its successor works for {DEVICES:,} devices", time.monotonic() - began, "s"
    )
    with log.open() as lines:
        lines.seek(read)
        opened = [float(said) for said in re.findall(r"partition.opened.* seconds=([\d.]+)", lines.read())]
    if opened:
        yield figure("recovery", f"of it: restoring the states of {DEVICES:,} devices, at most", max(opened), "s")


def _services(one: Site) -> list[dict[str, object]]:
    services: list[dict[str, object]] = json.loads((one.folder / "state.json").read_text())["services"]
    return [{**each, "pid": (each["process"] or {}).get("pid")} for each in services]
