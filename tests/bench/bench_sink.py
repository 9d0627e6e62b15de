"""The sink's rate beside the database's own limit, in one run: COPY of the same rows by one client, and `executemany`.

The second work is the same with a tenth of the frames sent late (behind their successors) or again with other values;
light load is told as the time from append in `readings.clean` to the visible row. Rows lie in Kafka before a rate is
measured. Figures compare within one run only; the machine's noise is +-30 %.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
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


OUT_OF_PLACE = 0.1
MESSAGES, MESSAGES_A_S = 2_000, 200
LOOK_S = 0.001
BEHIND_S = 100  # of the series: partitions do not keep step
Place = tuple[int, int]  # device, number


def in_order() -> list[Place]:
    """In the order in which a station of 1 Hz loggers sends them."""
    return [(device, number) for number in range(FRAMES_A_DEVICE) for device in range(DEVICES)]


def out_of_order() -> list[Place]:
    """One frame in twenty comes some forty frames of its device late, one in twenty comes again."""
    chance = np.random.default_rng(2)
    placed = []
    for device, number in in_order():
        kind = chance.random()
        delay = 40 if kind < OUT_OF_PLACE / 2 else 0
        placed.append((number + delay, device, number))
        if kind > 1 - OUT_OF_PLACE / 2:
            placed.append((number + 40, device, number))
    return [(device, number) for _, device, number in sorted(placed)]


def frames(order: list[Place]) -> Iterator[CleanFrame]:
    chance = np.random.default_rng(1)
    channels = tuple(f"ch{number:02}" for number in range(CHANNELS))
    cells = ROWS * CHANNELS
    for device, number in order:
        times = START_US + (number * ROWS + np.arange(ROWS)) * 1_000_000
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


def sink_rate(kafka: str, dsn: str, folder: Path, total: int) -> tuple[float, float]:
    """Records a second, from the first commit that is seen to the last; and the most memory it had, in MB."""
    done = "SELECT coalesce(sum(next_offset), 0) FROM sink_offsets WHERE topic = %s"
    with (
        service(folder, "sink", "run", TELLTALE_KAFKA=kafka, TELLTALE_DATABASE=dsn) as pid,
        psycopg.connect(dsn, autocommit=True) as look,
    ):
        while not (first := look.execute(done, (READINGS_CLEAN,)).fetchone()[0]):
            time.sleep(0.005)
        begin = time.perf_counter()
        while look.execute(done, (READINGS_CLEAN,)).fetchone()[0] < total:
            time.sleep(0.02)
        taken = time.perf_counter() - begin
        [peak] = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmHWM" in line]
        return float(total - first) / taken, int(peak) / 1024


def latencies(kafka: str, dsn: str, folder: Path) -> list[float]:
    """Seconds from append in `readings.clean`, as the broker acknowledges it, to the visible row; one reading each."""
    seen: dict[int, float] = {}
    sent: dict[int, float] = {}
    done = threading.Event()

    def look() -> None:
        newest = "SELECT (extract(epoch FROM time) * 1000000)::int8 FROM readings WHERE time > %s::timestamptz"
        last = 0
        with psycopg.connect(dsn, autocommit=True) as looking:
            while not done.is_set():
                at = datetime.fromtimestamp(last / 1e6 - BEHIND_S, UTC)
                for (each,) in looking.execute(newest, (at,)).fetchall():
                    seen.setdefault(each, time.perf_counter())
                    last = max(last, each)
                time.sleep(LOOK_S)

    producer = Producer({**connection(kafka), "partitioner": PARTITIONER, "linger.ms": 0, "acks": "all"})
    codec, one = Codec(), np.ones((1, 1))

    def heard(at: int) -> Callable[..., None]:
        return lambda *_: sent.setdefault(at, time.perf_counter())

    with service(folder, "sink", "run", TELLTALE_KAFKA=kafka, TELLTALE_DATABASE=dsn):
        looking = threading.Thread(target=look)
        looking.start()
        begin = time.perf_counter()
        for number in range(MESSAGES):
            at = START_US + number * 1_000_000
            flags = np.ones((1, 1), np.int64)
            frame = CleanFrame(f"slow-{number % DEVICES}", 0, np.array([at]), ("ch00",), one, one, flags, flags * 0)
            producer.produce(READINGS_CLEAN, codec.encode(frame), frame.device_id.encode(), on_delivery=heard(at))
            producer.poll(max(0, begin + number / MESSAGES_A_S - time.perf_counter()))
        producer.flush()
        until = time.monotonic() + 30
        while len(seen) < MESSAGES and time.monotonic() < until:
            time.sleep(0.05)
        done.set()
        looking.join()
    if len(seen) < MESSAGES:
        raise RuntimeError(f"{len(seen)} of {MESSAGES} readings were seen")
    return [max(0.0, seen[at] - sent[at]) for at in sorted(sent)][200:]


def fill(kafka: str, sent: list[CleanFrame]) -> None:
    """All of them into the topic."""
    producer = Producer({**connection(kafka), "partitioner": PARTITIONER, "linger.ms": 20, "compression.type": "lz4"})
    codec = Codec()
    for frame in sent:
        producer.produce(READINGS_CLEAN, key=frame.device_id.encode(), value=codec.encode(frame))
        producer.poll(0)
    producer.flush()


def work(name: str, order: list[Place]) -> list[Figure]:
    """The sink, what bounds it, and what people write."""
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as named:
        folder = Path(named)
        folder.chmod(0o711)
        with stack(folder) as (kafka, dsn):
            provision(kafka)
            sent = list(frames(order))
            rows = rows_of.readings(
                sent, [np.arange(CHANNELS, dtype=np.int32) + CHANNELS * int(f.device_id[7:]) for f in sent]
            )
            fill(kafka, sent)
            unique = rows_of.last_of_each_key(READINGS, rows)
            arrived = rows if len(unique["time"]) == len(rows["time"]) else _first_of_each_key(rows)
            limit = copy_rate(fresh(dsn, "limit"), arrived)
            by_key = copy_rate(fresh(dsn, "sorted"), unique)
            records, peak = sink_rate(kafka, fresh(dsn, "sink"), folder, len(sent))
            sink = records * ROWS * CHANNELS
            naive = executemany_rate(fresh(dsn, "naive"), rows)
    return [
        figure("sink", f"{name}: COPY, one client, as they arrive (limit)", limit, "rows/s"),
        figure("sink", f"{name}: COPY, one client, sorted by key", by_key, "rows/s", beside=limit),
        figure("sink", f"{name}: sink", sink, "rows/s", beside=limit),
        figure("sink", f"{name}: the sink's memory at its peak", peak, "MB"),
        figure("sink", f"{name}: executemany upsert", naive, "rows/s", beside=limit),
    ]


def _first_of_each_key(rows: rows_of.Rows) -> rows_of.Rows:
    """As they arrive, without those that a COPY would refuse."""
    keys = rows["sensor_id"].astype(np.int64) << 40 | (rows["time"] - START_US) // 1_000_000
    first = np.sort(np.unique(keys, return_index=True)[1])
    return {name: values[first] for name, values in rows.items()}


def run() -> list[Figure]:
    """In order, out of order, and at light load."""
    figures = work("in order", in_order()) + work("a tenth late or again", out_of_order())
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as named:
        folder = Path(named)
        folder.chmod(0o711)
        with stack(folder) as (kafka, dsn):
            provision(kafka)
            taken = np.percentile(latencies(kafka, fresh(dsn, "latency"), folder), [50, 99]) * 1000
    return figures + [
        figure("sink", f"append to visible row at {MESSAGES_A_S}/s, {name}", value, "ms")
        for name, value in zip(("p50", "p99"), taken, strict=True)
    ]
