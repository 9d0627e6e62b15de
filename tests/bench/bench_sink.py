"""The sink's rate beside the database's own limit, in one run: psql's COPY of the same rows, and `executemany`.

The second work is the same with a tenth of the frames sent late (behind their successors) or again with other values.
The third is single readings, one a record, beside Kafka Connect with Debezium's JDBC sink, which takes no others. Light
load is told as the time from `produce` into `readings.clean` (before the append) to the visible row. Rows lie in Kafka
before a rate is measured. Figures compare within one run only; the machine's noise is +-30 %.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import debezium
import numpy as np
import psycopg
from bench_stack import Figure, figure, own_stack, peak_mb, service
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from visible import watched

from infra.client import connection
from infra.postgres import server
from schemas.codec import Codec
from schemas.frames import CleanFrame
from schemas.keys import PARTITIONER
from schemas.topics import READINGS_CLEAN
from sinks.timescale import rows as rows_of
from sinks.timescale import schema
from sinks.timescale.months import Months
from sinks.timescale.packing import READINGS, copy_bytes

WINS = """
psql's COPY wins where a tenth comes late: it writes every row as if it were new, the sink looks each up, so that what
comes again is stored once and what has changed is corrected. Of single readings it wins by far: the limit there is
unpacking a record for each reading in Python, which is why devices and stage send frames.
"""

DEVICES, CHANNELS, ROWS = 50, 20, 10
FRAMES_A_DEVICE = 200
START_US = 1_480_000_000_000_000
EXECUTEMANY_ROWS = 50_000
UPSERT = """INSERT INTO readings VALUES (%s, to_timestamp(%s), %s, %s, %s, %s)
ON CONFLICT (sensor_id, time) DO UPDATE SET logged = excluded.logged, value = excluded.value,
quality = excluded.quality, tests = excluded.tests"""


OUT_OF_PLACE = 0.1
MESSAGES, MESSAGES_A_S = 3_000, 200
WARM_UP = 600
LOOK_S = 0.001
SINGLES = 400_000
DEBEZIUM_S_MAX = 180  # start included
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


def copy_rate(dsn: str, rows: rows_of.Rows, folder: Path) -> float:
    """`psql` copies a file in binary format in one transaction, by its own clock."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        Months().ensure(connection, rows_of.months(rows["time"]))
    packed = folder / "rows.bin"
    packed.write_bytes(copy_bytes(READINGS, rows))
    psql = shutil.which("psql")
    if psql is None:  # PostgreSQL from a wheel
        with psycopg.connect(dsn, autocommit=True) as connection, packed.open("rb") as file:
            begin = time.perf_counter()
            with connection.transaction(), connection.cursor() as cursor, cursor.copy(READINGS.copy) as stream:
                while piece := file.read(1 << 20):
                    stream.write(piece)
            return len(rows["time"]) / (time.perf_counter() - begin)
    command = f"\\copy {READINGS.copy.removeprefix('COPY ').replace('STDIN', str(packed))}"
    told = subprocess.run(
        [psql, "-X", dsn, "-c", "\\timing on", "-c", command], check=True, capture_output=True, text=True
    ).stdout
    [milliseconds] = re.findall(r"^Time: ([0-9.]+) ms", told, re.MULTILINE)
    return len(rows["time"]) / (float(milliseconds) / 1000)


def bare_copy(server_dsn: str, folder: Path, sent: Sequence[CleanFrame]) -> float:
    """Readings a second of what a person with a file of these frames (of logger-0, logger-1 ...) would do."""
    dsn = fresh(server_dsn, "limit")
    ids = [np.arange(CHANNELS, dtype=np.int32) + CHANNELS * int(frame.device_id[7:]) for frame in sent]
    rate = copy_rate(dsn, rows_of.readings(sent, ids), folder)
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute('DROP DATABASE "limit"')
    return rate


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
        return float(total - first) / taken, peak_mb(pid)


def latencies(kafka: str, dsn: str, folder: Path) -> list[float]:
    """Seconds from `produce` to the visible row; one reading each, of now."""
    sent: dict[tuple[int, int], float] = {}
    producer = Producer({**connection(kafka), "partitioner": PARTITIONER, "linger.ms": 0, "acks": "all"})
    codec, one = Codec(), np.ones((1, 1))

    def heard(at: float) -> Callable[..., None]:
        return lambda _, message: sent.setdefault((message.partition(), message.offset()), at)

    with (
        service(folder, "sink", "run", TELLTALE_KAFKA=kafka, TELLTALE_DATABASE=dsn),
        watched(dsn, every_s=LOOK_S) as marks,
    ):
        begin, first_us = time.perf_counter(), time.time_ns() // 1_000
        for number in range(MESSAGES):
            at, flags = np.array([first_us + number * 5_000]), np.ones((1, 1), np.int64)
            frame = CleanFrame(f"slow-{number % DEVICES}", 0, at, ("ch00",), one, one, flags, flags * 0)
            value = codec.encode(frame)
            while (left := begin + number / MESSAGES_A_S - time.perf_counter()) > 0:
                producer.poll(left)
            producer.produce(READINGS_CLEAN, value, frame.device_id.encode(), on_delivery=heard(time.time()))
        producer.flush()
        until = time.monotonic() + 30
        while marks.offsets < MESSAGES and time.monotonic() < until:
            time.sleep(0.05)
        with psycopg.connect(dsn) as count:
            stored = count.execute("SELECT count(*) FROM readings").fetchone()[0]
    if stored < MESSAGES:
        raise RuntimeError(f"{stored} of {MESSAGES} readings are stored")
    seen = marks.seen()
    return [seen[at] - sent[at] for at in sorted(sent, key=sent.__getitem__)][WARM_UP:]


def fill(kafka: str, sent: Iterable[CleanFrame]) -> None:
    """All of them into the topic."""
    room = {"queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1_000_000}
    batched = {"linger.ms": 20, "compression.type": "lz4", **room}
    producer = Producer({**connection(kafka), "partitioner": PARTITIONER, **batched})
    codec = Codec()
    for frame in sent:
        producer.produce(READINGS_CLEAN, key=frame.device_id.encode(), value=codec.encode(frame))
        producer.poll(0)
    producer.flush()


def work(name: str, order: list[Place]) -> list[Figure]:
    """The sink, what bounds it, and what people write."""
    with own_stack() as (folder, kafka, dsn):
        sent = list(frames(order))
        rows = rows_of.readings(
            sent, [np.arange(CHANNELS, dtype=np.int32) + CHANNELS * int(f.device_id[7:]) for f in sent]
        )
        fill(kafka, sent)
        unique = rows_of.last_of_each_key(READINGS, rows)
        arrived = rows if len(unique["time"]) == len(rows["time"]) else _first_of_each_key(rows)
        limit = copy_rate(fresh(dsn, "limit"), arrived, folder)
        by_key = copy_rate(fresh(dsn, "sorted"), unique, folder)
        records, peak = sink_rate(kafka, fresh(dsn, "sink"), folder, len(sent))
        sink = records * ROWS * CHANNELS
        naive = executemany_rate(fresh(dsn, "naive"), rows)
    print(
        f"{name}: the sink does {sink / naive:.1f} times executemany; COPY itself {limit / naive:.1f}", file=sys.stderr
    )
    return [
        figure("sink", f"{name}: psql COPY as they arrive (limit)", limit, "rows/s"),
        figure("sink", f"{name}: psql COPY sorted by key", by_key, "rows/s", beside=limit),
        figure("sink", f"{name}: sink", sink, "rows/s", beside=limit),
        figure("sink", f"{name}: the sink's memory at its peak", peak, "MB"),
        figure("sink", f"{name}: executemany upsert", naive, "rows/s", beside=limit),
    ]


def _first_of_each_key(rows: rows_of.Rows) -> rows_of.Rows:
    """As they arrive, without those that a COPY would refuse."""
    keys = rows["sensor_id"].astype(np.int64) << 40 | (rows["time"] - START_US) // 1_000_000
    first = np.sort(np.unique(keys, return_index=True)[1])
    return {name: values[first] for name, values in rows.items()}


def singles() -> list[Figure]:
    """One reading a record, and the same readings as JSON for Debezium."""
    second = START_US + np.arange(SINGLES // 1_000, dtype=np.int64) * 1_000_000
    rows = {
        "sensor_id": np.tile(np.arange(1_000, dtype=np.int32), len(second)),
        "time": np.repeat(second, 1_000),
        "logged": np.random.default_rng(1).normal(8, 2, SINGLES),
        "quality": np.ones(SINGLES, np.int64),
        "tests": np.zeros(SINGLES, np.int64),
    }
    rows["value"] = rows["logged"] * 0.76
    with own_stack() as (folder, kafka, dsn):
        limit = copy_rate(fresh(dsn, "limit"), rows, folder)
        fill(kafka, _one_by_one(rows))
        records, _ = sink_rate(kafka, fresh(dsn, "sink"), folder, SINGLES)
        found = [
            figure("sink", "single readings: psql COPY (limit)", limit, "rows/s"),
            figure("sink", "single readings: sink", records, "rows/s", beside=limit),
        ]
        try:
            jars = debezium.class_path()
        except Exception as error:  # noqa: BLE001 - jgo's, urllib3's: all mean that the jars are not to be had
            print(f"no Debezium: its jars are not to be had ({type(error).__name__}: {error})", file=sys.stderr)
            return found
        rate, peak = debezium_rate(kafka, fresh(dsn, "debezium"), rows, jars, folder)
    return [
        *found,
        figure("sink", "single readings: Kafka Connect, Debezium JDBC sink", rate, "rows/s", beside=limit),
        figure("sink", "single readings: Debezium's memory at its peak", peak, "MB"),
    ]


def _one_by_one(rows: rows_of.Rows) -> list[CleanFrame]:
    columns = [rows[name].tolist() for name in ("sensor_id", "time", "logged", "value")]
    flags = np.ones((1, 1), np.int64)
    none = flags * 0
    return [
        CleanFrame(f"logger-{sensor}", 0, np.array([at]), ("ch00",), np.array([[x]]), np.array([[y]]), flags, none)
        for sensor, at, x, y in zip(*columns, strict=True)
    ]


def debezium_rate(kafka: str, dsn: str, rows: rows_of.Rows, jars: str, folder: Path) -> tuple[float, float]:
    """Rows a second from the first commit that is seen to the last, and the most memory, in MB."""
    topic, month = "debezium", "readings_2016_11"
    admin = AdminClient(connection(kafka))
    admin.create_topics([NewTopic(topic, 12, 1)])[topic].result()
    producer = Producer({**connection(kafka), "linger.ms": 20, "compression.type": "lz4"})
    columns = [rows[name].tolist() for name in READINGS.columns]
    columns[1] = np.datetime_as_string(rows["time"].astype("M8[us]"), timezone="UTC").tolist()
    for row in zip(*columns, strict=True):
        while True:
            try:
                producer.produce(topic, debezium.record(row), str(row[0]).encode())
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    total, count = len(rows["time"]), f"SELECT count(*) FROM {month}"
    with psycopg.connect(dsn, autocommit=True) as look:
        Months().ensure(look, rows_of.months(rows["time"]))
        with debezium.running(jars, kafka=kafka, dsn=dsn, topic=topic, table=month, folder=folder) as (log, pid):
            until, marks = time.monotonic() + DEBEZIUM_S_MAX, []
            while not marks or marks[-1][1] < total:
                if time.monotonic() > until:
                    raise RuntimeError(f"Debezium has not stored all in {DEBEZIUM_S_MAX} s\n{log.read_text()[-2000:]}")
                stored = look.execute(count).fetchone()[0]
                marks.append((time.perf_counter(), stored))
                time.sleep(0.02 if not stored else 0.25)
            peak = peak_mb(pid)
    begin = next(mark for mark in marks if mark[1])
    return (total - begin[1]) / (marks[-1][0] - begin[0]), peak


def run() -> list[Figure]:
    """In order, out of order, one by one, and at light load."""
    figures = work("in order", in_order()) + work("a tenth late or again", out_of_order()) + singles()
    with own_stack() as (folder, kafka, dsn):
        taken = np.percentile(latencies(kafka, fresh(dsn, "latency"), folder), [50, 99]) * 1000
    return figures + [
        figure("sink", f"produce to visible row at {MESSAGES_A_S}/s, {name}", value, "ms")
        for name, value in zip(("p50", "p99"), taken, strict=True)
    ]
