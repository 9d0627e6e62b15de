"""The sink's rate beside the database's own limit, in one run: COPY of the same rows by one client, and `executemany`.

Rows lie in Kafka before anything is measured. Figures compare within one run only; the machine's noise is +-30 %.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
from bench_stack import Figure, figure, service, stack
from confluent_kafka import Producer

from infra.client import connection
from infra.postgres import server
from infra.provision import provision
from schemas.codec import Codec
from schemas.frames import CleanFrame
from schemas.keys import PARTITIONER
from schemas.topics import READINGS_CLEAN
from sinks.timescale import rows as rows_of
from sinks.timescale import schema
from sinks.timescale.months import Months
from sinks.timescale.packing import READINGS, copy_bytes

DEVICES, CHANNELS, ROWS = 50, 20, 10
FRAMES_A_DEVICE = 200
START_US = 1_480_000_000_000_000
EXECUTEMANY_ROWS = 50_000
UPSERT = """INSERT INTO readings VALUES (%s, to_timestamp(%s), %s, %s, %s, %s)
ON CONFLICT (sensor_id, time) DO UPDATE SET logged = excluded.logged, value = excluded.value,
quality = excluded.quality, tests = excluded.tests"""


def frames() -> Iterator[CleanFrame]:
    """In the order in which a station of 1 Hz loggers sends them."""
    chance = np.random.default_rng(1)
    channels = tuple(f"ch{number:02}" for number in range(CHANNELS))
    cells = ROWS * CHANNELS
    for number in range(FRAMES_A_DEVICE):
        times = START_US + (number * ROWS + np.arange(ROWS)) * 1_000_000
        for device in range(DEVICES):
            values = chance.normal(8, 2, cells)
            flags = np.ones(cells, np.int64)
            yield CleanFrame(f"logger-{device}", 0, times, channels, values, values * 0.76, flags, flags * 0)


def fresh(dsn: str, name: str) -> str:
    """A new database with the schema and the month in it."""
    server.ensure_database(dsn, name)
    own = dsn.rpartition("/")[0] + f"/{name}"
    schema.migrate(own)
    return own


def copy_rate(dsn: str, rows: rows_of.Rows) -> float:
    """One client, one transaction, bytes packed beforehand."""
    packed = copy_bytes(READINGS, rows)
    with psycopg.connect(dsn, autocommit=True) as connection:
        Months().ensure(connection, rows_of.months(rows["time"]))
        begin = time.perf_counter()
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(READINGS.copy) as stream:
            for at in range(0, len(packed), 1 << 20):
                stream.write(packed[at : at + (1 << 20)])
        return len(rows["time"]) / (time.perf_counter() - begin)


def executemany_rate(dsn: str, rows: rows_of.Rows) -> float:
    """What people write."""
    columns = [rows[name][:EXECUTEMANY_ROWS].tolist() for name in READINGS.columns]
    columns[1] = [micros / 1e6 for micros in columns[1]]
    with psycopg.connect(dsn, autocommit=True) as connection:
        Months().ensure(connection, rows_of.months(rows["time"]))
        begin = time.perf_counter()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(UPSERT, list(zip(*columns, strict=True)))
        return EXECUTEMANY_ROWS / (time.perf_counter() - begin)


def sink_rate(kafka: str, dsn: str, folder: Path, total: int) -> float:
    """Records a second, from the first commit that is seen to the last."""
    done = "SELECT coalesce(sum(next_offset), 0) FROM sink_offsets WHERE topic = %s"
    with (
        service(folder, "sink", "run", TELLTALE_KAFKA=kafka, TELLTALE_DATABASE=dsn),
        psycopg.connect(dsn, autocommit=True) as look,
    ):
        while not (first := look.execute(done, (READINGS_CLEAN,)).fetchone()[0]):
            time.sleep(0.005)
        begin = time.perf_counter()
        while look.execute(done, (READINGS_CLEAN,)).fetchone()[0] < total:
            time.sleep(0.02)
        return float(total - first) / (time.perf_counter() - begin)


def run() -> list[Figure]:
    """The sink, what bounds it, and what people write."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as named:
        folder = Path(named)
        folder.chmod(0o711)
        with stack(folder) as (kafka, dsn):
            provision(kafka)
            sent = list(frames())
            rows = rows_of.readings(
                sent, [np.arange(CHANNELS, dtype=np.int32) + CHANNELS * int(f.device_id[7:]) for f in sent]
            )
            producer = Producer(
                {**connection(kafka), "partitioner": PARTITIONER, "linger.ms": 20, "compression.type": "lz4"}
            )
            codec = Codec()
            for frame in sent:
                producer.produce(READINGS_CLEAN, key=frame.device_id.encode(), value=codec.encode(frame))
                producer.poll(0)
            producer.flush()
            limit = copy_rate(fresh(dsn, "limit"), rows)
            by_key = copy_rate(fresh(dsn, "sorted"), rows_of.last_of_each_key(READINGS, rows))
            sink = sink_rate(kafka, fresh(dsn, "sink"), folder, len(sent)) * ROWS * CHANNELS
            naive = executemany_rate(fresh(dsn, "naive"), rows)
    return [
        figure("sink", "COPY, one client, rows as they arrive (limit)", limit, "rows/s"),
        figure("sink", "COPY, one client, rows sorted by key", by_key, "rows/s", beside=limit),
        figure("sink", "sink", sink, "rows/s", beside=limit),
        figure("sink", "executemany upsert", naive, "rows/s", beside=limit),
    ]
