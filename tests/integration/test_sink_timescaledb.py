"""The sink on a real TimescaleDB: hypertables, compressed chunks, continuous aggregates."""

import signal

import pytest
from fix_sink import DEVICES, START_US, Database, clean_frame, settled, until

from schemas.topics import READINGS_CLEAN
from sinks.timescale.batch import Batch, Entry, Part, Stretch
from sinks.timescale.positions import Claim
from sinks.timescale.store import Store

pytestmark = pytest.mark.integration
NO_COPY = {"TELLTALE_SINK_COPY_ROWS": "false"}


@pytest.fixture
def device_partitions():
    return 2


@pytest.fixture
def hypertables(timescaledb):
    return Database(timescaledb)


@pytest.fixture
def store(hypertables):
    made = Store(hypertables.dsn, owner="test", copy=False)
    made.open(Claim(Part(READINGS_CLEAN, 0), "c", "t", 0, None))
    yield made
    made.close()


def write(store, at, *frames):
    part = Part(READINGS_CLEAN, 0)
    entries = [Entry(part, at + n, b"mast-0", b"", 0, frame) for n, frame in enumerate(frames)]
    store.write(Batch(entries, {part: Stretch(at, at + len(frames))}))


def test_schema_is_of_hypertables_without_an_index_on_time_alone(hypertables):
    made = hypertables.rows("SELECT hypertable_name FROM timescaledb_information.hypertables ORDER BY 1")
    assert {"readings", "windows", "heartbeats"} <= {name for (name,) in made}
    indexes = hypertables.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'readings'")
    assert indexes == [("readings_pkey",)]
    found = hypertables.rows("SELECT view_name FROM timescaledb_information.continuous_aggregates")
    assert len(found) == 3


def test_killed_sink_stores_each_reading_once(clean, hypertables, start_sink):
    sink = start_sink(dsn=hypertables.dsn, **NO_COPY).working()
    for round_ in range(4):
        clean.send(*(clean_frame(device, 300 * round_, 300) for device in DEVICES))
    sink.kill()
    clean.send(*(clean_frame(device, 1100, 200, correction=0.5) for device in DEVICES))
    sink = start_sink(dsn=hypertables.dsn, **NO_COPY).working()
    settled(hypertables, clean)
    until(lambda: hypertables.readings() == clean.expected, what="the corrections")
    sink.send(signal.SIGTERM)
    assert sink.wait() == 0
    assert "Traceback" not in sink.said()


def test_late_rows_reach_compressed_chunks(hypertables, store):
    write(store, 0, clean_frame("mast-0", 0, 3000))
    compressed = hypertables.rows("SELECT compress_chunk(c, true) FROM show_chunks('readings') c")
    assert compressed
    scattered = [clean_frame("mast-0", 10 * n, 1, correction=7.0) for n in range(150)]
    write(store, 1, *scattered, clean_frame("mast-0", 2990, 20, correction=7.0))
    found = hypertables.readings()
    assert len(found) == 2 * 3010
    assert found["mast-0", "Spd80", START_US + 70_000_000][1] == 77.0
    assert found["mast-0", "Spd80", START_US + 71_000_000][1] == 71.0


def test_aggregates_agree_with_the_rows_after_a_refresh(hypertables, store):
    write(store, 0, clean_frame("mast-0", 0, 3000))
    hypertables.call("CALL refresh_continuous_aggregate('aggregate_10min', NULL, NULL)")
    write(store, 1, clean_frame("mast-0", 600, 300, correction=50.0))
    by_hand = (
        "SELECT sensor_id, time_bucket('10 minutes', time), count(*), avg(value) FROM readings_good GROUP BY 1, 2"
        " ORDER BY 1, 2"
    )
    told = "SELECT sensor_id, time, count, mean FROM statistics_10min ORDER BY 1, 2"
    assert hypertables.rows(told) != hypertables.rows(by_hand)  # late rows are below the watermark
    hypertables.call("CALL refresh_continuous_aggregate('aggregate_10min', NULL, NULL)")
    assert hypertables.rows(told) == hypertables.rows(by_hand)
