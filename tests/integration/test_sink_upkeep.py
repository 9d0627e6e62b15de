"""Retention with its guards, aggregates that follow late rows, and what `telltale db` tells of it."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from fix_sink import START_US, Database, clean_frame, until

from sinks.timescale import upkeep
from sinks.timescale.months import Months

pytestmark = pytest.mark.integration

DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
def device_partitions():
    return 1


def telltale(dsn, *words):
    command = [sys.executable, "-m", "infra.command", "db", *words, "--database", dsn]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def keep_up(dsn):
    with upkeep.connect(dsn) as connection:
        return upkeep.round_of(connection)


def execute(dsn, statement, *arguments):
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(statement.encode(), arguments or None)


SENSOR = "INSERT INTO sensors (sensor_id, device_id, channel) VALUES (1, 'mast', 'Spd80') ON CONFLICT DO NOTHING"
ROWS = "INSERT INTO readings SELECT 1, t, 5, 5, 1, 0 FROM generate_series(%s::timestamptz, %s, interval '1 hour') t"


@pytest.fixture
def years(stored):
    """A row an hour of the last 200 days, on plain PostgreSQL."""
    execute(stored.dsn, SENSOR)
    with psycopg.connect(stored.dsn, autocommit=True) as connection:
        if stored.one("SELECT relkind = 'p' FROM pg_class WHERE oid = 'readings'::regclass"):
            Months().ensure(connection, {f"{TODAY - n * DAY:%Y-%m}" for n in range(201)})
    execute(stored.dsn, ROWS, TODAY - 200 * DAY, TODAY)
    return stored


def test_what_is_older_than_kept_goes(years):
    told = telltale(years.dsn, "keep", "readings", "--days", "100", "--json")
    assert json.loads(told.stdout) == {"series": "readings", "days": 100}
    done = keep_up(years.dsn)
    assert done.dropped >= 2
    (oldest,) = years.rows("SELECT min(time) FROM readings")[0]
    assert TODAY - 132 * DAY < oldest <= TODAY - 100 * DAY  # whole months or chunks
    assert keep_up(years.dsn).dropped == 0
    status = json.loads(telltale(years.dsn, "status", "--json").stdout)
    assert status["oldest_reading"] == oldest.isoformat()
    assert status["tables"][0]["not_before"] == (TODAY - 100 * DAY).isoformat()
    assert "readings" in telltale(years.dsn, "status").stdout


def test_keeping_for_ever_again_lets_nothing_old_back_in(years):
    telltale(years.dsn, "keep", "readings", "--days", "100")
    keep_up(years.dsn)
    assert telltale(years.dsn, "keep", "readings", "--forever").returncode == 0
    keep_up(years.dsn)
    assert years.one("SELECT horizon FROM retention WHERE series = 'readings'") == TODAY - 100 * DAY


def test_rows_older_than_retention_are_refused_and_the_rest_of_their_record_stored(clean, stored, start_sink):
    horizon = datetime.fromtimestamp(START_US / 1e6 + 4, UTC)
    execute(stored.dsn, "INSERT INTO retention (series, horizon) VALUES ('readings', %s)", horizon)
    start_sink().working()
    clean.send(clean_frame("old", 0, 4), clean_frame("both", 0, 10), clean_frame("new", 4, 3))
    until(lambda: stored.one("SELECT count(*) FROM rejected") == 2, what="both refusals")
    until(lambda: stored.one("SELECT count(*) FROM readings") == 18, what="the rest")
    assert {key: row for key, row in clean.expected.items() if key[2] >= START_US + 4_000_000} == stored.readings()
    assert stored.rows("SELECT device_id, reason, rows FROM rejected ORDER BY 1") == [
        ("both", "older_than_retention", 8),
        ("old", "older_than_retention", 8),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("keep", "readings"),
        ("keep", "readings", "--days", "100", "--forever"),
        ("keep", "readings", "--days", "3"),
        ("keep", "sensors", "--days", "100"),
    ],
)
def test_wrong_input_is_refused(stored, words):
    refused = telltale(stored.dsn, *words)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr


def test_database_without_schema_is_one_line(database):
    for words in (("upkeep",), ("keep", "readings", "--forever")):
        refused = telltale(database, *words)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)


# --- with TimescaleDB ---

COUNTS = "SELECT coalesce(sum(count), 0) FROM statistics_{}"
NAMES = ("10min", "hourly", "daily")


@pytest.fixture
def aggregated(timescaledb):
    """A row an hour of the last 200 days, the older half flagged by nobody and all aggregated."""
    stored = Database(timescaledb)
    execute(timescaledb, "SELECT drop_chunks('readings', older_than => now() + interval '1 year')")
    execute(timescaledb, SENSOR)
    execute(timescaledb, ROWS, TODAY - 200 * DAY, TODAY - 3 * DAY)
    for name in upkeep.WIDTHS:  # nothing of the test before
        execute(timescaledb, f"CALL refresh_continuous_aggregate('{name}', NULL, NULL, force => true)")
    return stored


def counted(stored):
    return [int(stored.one(COUNTS.format(name))) for name in NAMES]


def test_late_rows_show_after_upkeep(aggregated):
    before = counted(aggregated)
    assert before == [197 * 24 + 1] * 3
    execute(aggregated.dsn, ROWS, TODAY - 150 * DAY + timedelta(minutes=7), TODAY - 149 * DAY)
    assert counted(aggregated) == before
    keep_up(aggregated.dsn)
    assert counted(aggregated) == [197 * 24 + 1 + 24] * 3


def test_statistics_outlive_their_readings_and_a_late_row(aggregated):
    before = counted(aggregated)
    with upkeep.connect(aggregated.dsn) as connection:
        upkeep.keep(connection, "readings", days=100)
        upkeep.round_of(connection)
    assert aggregated.one("SELECT min(time) FROM readings") > TODAY - 108 * DAY
    assert counted(aggregated) == before
    execute(aggregated.dsn, ROWS, TODAY - 190 * DAY, TODAY - 190 * DAY)  # behind the sink's back
    keep_up(aggregated.dsn)
    assert counted(aggregated) == before
    assert aggregated.one("SELECT min(time) FROM readings") > TODAY - 108 * DAY


def test_chunks_dropped_by_hand_do_not_erase_statistics_either(aggregated):
    before = counted(aggregated)
    keep_up(aggregated.dsn)
    execute(aggregated.dsn, "SELECT drop_chunks('readings', older_than => %s::timestamptz)", TODAY - 100 * DAY)
    keep_up(aggregated.dsn)
    execute(aggregated.dsn, ROWS, TODAY - 190 * DAY, TODAY - 190 * DAY)
    keep_up(aggregated.dsn)
    assert counted(aggregated) == before


def test_old_chunks_are_compressed_and_told(aggregated):
    keep_up(aggregated.dsn)
    status = json.loads(telltale(aggregated.dsn, "status", "--json").stdout)
    readings = status["tables"][0]
    assert readings["compressed_chunks"] >= 20
    assert readings["compression_ratio"] > 0
    assert {each["aggregate"]: each["lag_s"] for each in status["aggregates"]} == dict.fromkeys(upkeep.WIDTHS, 0.0)
