"""Does it stay flat: stage and sink with more devices, partitions, workers, and the sink with more history.

The same readings each time, in frames of 10x20. Workers stand ready, everybody's configuration is known and each device
has sent a first frame, when the frames come in at once: rates are those within SPAN of them. The sinks then store what
the stage has written, and psql copies the same rows into an empty table: a sensor more is a place more in its index.
Each share is of the first figure of its kind. All is counted: what was sent is stored, once.

History is in the month that is written to, of the same sensors, a row each ten seconds: the worst that a month's
partition can be. It is written by COPY FREEZE. TELLTALE_BENCH_HISTORY says how many millions, "1,10,100" by default;
100 million are 10 GB for some minutes, and what finds no room is left out with a word.
"""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psycopg
from bench_sink import CHANNELS, DEVICES, ROWS, bare_copy, fill, fresh, in_order
from bench_sink import START_US as NEWER_US
from bench_sink import frames as clean_frames
from bench_stack import Figure, figure, own_stack, service, several, share_of
from bench_stage import committed_until, device, frames, rate_within
from confluent_kafka import Producer
from visible import Marks, Stock, clean, watched

from infra.client import connection
from infra.settle import settle
from producers.stations.devices import publish
from schemas.codec import Codec
from schemas.keys import PARTITIONER
from schemas.topics import READINGS_RAW
from sinks.timescale.packing import COPY_HEADER, COPY_TRAILER, READINGS, copy_bytes

WINS = """
COPY stays ahead of one sink, as in the section sink; two sinks on two cores pass it. It is not flat with 10,000
devices: a pile then holds a frame or two of each, so that what each device costs (its state, its windows, its record
out, which the sink has to unpack again) is shared by few readings. The database's part of it is seen in COPY's own
figures.
"""

NAMES = tuple(f"ch{number:02}" for number in range(CHANNELS))
CELLS = ROWS * CHANNELS  # of a frame
FLEETS = (10, 100, 1_000, 10_000)
PLACES = ((1, 1), (2, 1), (4, 1), (4, 2), (4, 4))  # partitions, workers
FRAMES = 15_000
HISTORY = tuple(float(each) for each in os.environ.get("TELLTALE_BENCH_HISTORY", "1,10,100").split(","))  # millions
APART_US = 10_000_000  # between rows of history
ROW_BYTES = 130  # on disk with the key, and some room
STORED_S_MAX = 300
SENSORS = "INSERT INTO sensors (sensor_id, device_id, channel) VALUES (%s, %s, %s)"
MONTH = """CREATE TABLE readings_2016_11 (LIKE readings INCLUDING DEFAULTS,
CONSTRAINT within CHECK (time >= '2016-11-01 00:00+00' AND time < '2016-12-01 00:00+00'))
WITH (autovacuum_enabled = off)"""  # so that none comes in between
COPY = "COPY readings_2016_11 FROM STDIN (FORMAT BINARY, FREEZE)"
KEY = "ALTER TABLE readings_2016_11 ADD PRIMARY KEY (sensor_id, time)"
ATTACH = """ALTER TABLE readings ATTACH PARTITION readings_2016_11
FOR VALUES FROM ('2016-11-01 00:00+00') TO ('2016-12-01 00:00+00')"""
QUICK = {"wal_level": "minimal", "max_wal_senders": "0"}  # what fills a table it has made writes no log


def run() -> Iterator[Figure]:
    """Devices, then partitions and workers, then history."""
    first: Rates | None = None
    for fleet in FLEETS:
        rates = passed(fleet, partitions=None, workers=1)
        first = first or rates
        yield from rates.figures(f"{fleet:,} devices", first)
    first = None
    for partitions, workers in PLACES:
        rates = passed(DEVICES, partitions=partitions, workers=workers)
        first = first or rates
        yield from rates.figures(f"partitions {partitions}, workers {workers}", first)
    yield from with_history()


class Rates(NamedTuple):
    """Readings a second."""

    stage: float
    sink: float
    copy: float  # of psql, beside the sink

    def figures(self, what: str, first: "Rates") -> Iterator[Figure]:
        yield figure("growth", f"{what}: stage", self.stage, "readings/s", beside=first.stage)
        yield figure("growth", f"{what}: sink", self.sink, "readings/s", beside=first.sink)
        yield figure("growth", f"{what}: psql COPY of the same", self.copy, "readings/s", beside=first.copy)


def passed(fleet: int, *, partitions: int | None, workers: int) -> Rates:
    """Of so many processes of each."""
    rounds = max(1, share_of(FRAMES, 1) // fleet)
    total, codec = (1 + rounds) * fleet, Codec()
    records = [(each.device_id.encode(), codec.encode(each)) for each in frames(fleet, NAMES, ROWS, total)]
    with own_stack(partitions=partitions) as (folder, kafka, server):
        dsn = fresh(server, "growth")
        plain = device("logger-0", NAMES)
        publish(kafka, (plain.model_copy(update={"device_id": f"logger-{at}"}) for at in range(fleet)))
        with several(folder, workers, "streams", "run", TELLTALE_KAFKA=kafka):
            began = time.monotonic()
            send(kafka, records[:fleet])
            committed_until(kafka, fleet)
            with service(folder, "sink", "run", TELLTALE_KAFKA=kafka, TELLTALE_DATABASE=dsn):
                left = settle(kafka, timeout_s=STORED_S_MAX, progress=lambda _: None)
                if left:
                    raise RuntimeError(f"the first frame of each device is not stored: {left}")
            print(f"growth: first frames stored in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            sending = threading.Thread(target=send, args=(kafka, records[fleet:]))
            sending.start()
            of_stage = rate_within(committed_until(kafka, total), fleet, total) * CELLS
            sending.join()
        of_sink = stored(kafka, folder, dsn, Stock.of(kafka), workers)
        counted(dsn, total * CELLS)
        of_copy = bare_copy(server, folder, [frame for _, _, frame in clean(kafka)])
    rates = Rates(of_stage, of_sink, of_copy)
    print(f"growth: {fleet:,} devices: {rates}", file=sys.stderr, flush=True)
    return rates


def send(kafka: str, records: Sequence[tuple[bytes, bytes]]) -> None:
    """(key, value) of each, as fast as the broker takes them."""
    room = {"queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1_000_000}
    options = {"partitioner": PARTITIONER, "enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"}
    producer = Producer({**connection(kafka), **options, **room})
    for key, value in records:
        producer.produce(READINGS_RAW, value, key)
    producer.flush()


def stored(kafka: str, folder: Path, dsn: str, stock: Stock, workers: int) -> float:
    """Readings a second of so many sinks, from when all of them work; at the latest from the half of them on."""
    with (
        watched(dsn, every_s=0.01) as marks,
        several(folder, workers, "sink", "run", TELLTALE_KAFKA=kafka, TELLTALE_DATABASE=dsn),
    ):
        ready, until = time.time(), time.monotonic() + STORED_S_MAX
        while not marks or stock.stored(marks[-1][1]) < stock.readings:
            if time.monotonic() > until:
                raise RuntimeError(f"after {STORED_S_MAX} s {marks[-1:]} of {stock.readings:,} readings are stored")
            time.sleep(0.02)
    return rate_of(stock, marks, since=ready if workers > 1 else 0.0)


def rate_of(stock: Stock, marks: Marks, *, since: float) -> float:
    progress = stock.progress(marks)
    begin = max((readings for at, readings in progress if at < since), default=progress[0][1])
    return rate_within(progress, min(begin, stock.readings // 2), stock.readings)


def counted(dsn: str, expected: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM readings").fetchone()
    if rows != expected:
        raise RuntimeError(f"{expected:,} readings were sent, {rows:,} rows are stored")


def with_history() -> Iterator[Figure]:
    """Rows a second of the sink beside so many rows of the same sensors in the same partition."""
    with own_stack(settings=QUICK) as (folder, kafka, server):
        sent = list(clean_frames(in_order()))[: share_of(10_000, DEVICES)]
        fill(kafka, sent)
        stock, first = Stock.of(kafka), None
        for number, millions in enumerate(HISTORY):
            rows = round(share_of(round(millions * 1_000), 1) * 1_000 / (DEVICES * CHANNELS)) * DEVICES * CHANNELS
            what = f"history of {millions:g} M rows"
            if rows * ROW_BYTES > 0.5 * shutil.disk_usage(folder).free:
                print(f"growth: {what} is left out: no room on {folder}", file=sys.stderr)
                continue
            with history(server, f"history_{number}", rows) as dsn:
                rate = stored(kafka, folder, dsn, stock, 1)
                counted(dsn, rows + len(sent) * CELLS)
            first = first or rate
            yield figure("growth", f"{what}: sink", rate, "rows/s", beside=first)


@contextmanager
def history(server: str, name: str, rows: int) -> Iterator[str]:
    """A database with so many rows in the month."""
    dsn, began = fresh(server, name), time.monotonic()
    names = [(at, f"logger-{at // CHANNELS}", NAMES[at % CHANNELS]) for at in range(DEVICES * CHANNELS)]
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '1GB'")
        connection.cursor().executemany(SENSORS, names)
        connection.execute("SELECT setval(pg_get_serial_sequence('sensors', 'sensor_id'), %s)", (len(names),))
        with connection.transaction():
            connection.execute(MONTH)
            if rows:
                with connection.cursor() as cursor, cursor.copy(COPY) as stream:
                    for piece in packed(len(names), rows // len(names)):
                        stream.write(piece)
            connection.execute(KEY)
            connection.execute(ATTACH)
            connection.execute("ALTER TABLE readings_2016_11 DROP CONSTRAINT within")
        connection.execute("CHECKPOINT")
    print(f"growth: {rows:,} rows of history made in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    yield dsn
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}")


def packed(sensors: int, rows: int) -> Iterator[bytes]:
    """What COPY reads: `rows` of each sensor, older than what the sink will store."""
    logged = np.random.default_rng(4).normal(8, 2, rows).round(3)
    one = {
        "sensor_id": np.zeros(rows, np.int32),
        "time": NEWER_US - APART_US * np.arange(rows, 0, -1),
        "logged": logged,
        "value": logged * 0.76,
        "quality": np.ones(rows, np.int64),
        "tests": np.zeros(rows, np.int64),
    }
    stream = bytearray(copy_bytes(READINGS, one))
    body = memoryview(stream)[len(COPY_HEADER) : -len(COPY_TRAILER)]
    filled = np.frombuffer(body, READINGS.layout)
    yield COPY_HEADER
    for sensor in range(sensors):
        filled["sensor_id"] = sensor
        yield bytes(body)
    yield COPY_TRAILER
