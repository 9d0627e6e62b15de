"""Flags: left out of readings_good and statistics at once, never destructive; the command."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from fix_sink import Database

from sinks.timescale.months import Months
from sinks.timescale.upkeep import refresh

pytestmark = pytest.mark.integration

BEGIN = datetime(2020, 3, 1, tzinfo=UTC)
MAST = """
INSERT INTO stations (station_id, name) VALUES ('hill', 'Hill');
INSERT INTO devices (device_id, station_id, name, loggers, configured_at, configured_by)
VALUES ('mast', 'hill', 'Mast', '[]', '2020-01-01', 'test');
INSERT INTO sensors (sensor_id, device_id, channel, quantity, unit, statistic)
VALUES (1, 'mast', 'Spd80', 'wind_speed', 'm/s', 'avg'), (2, 'mast', 'Dir78', 'wind_direction', 'deg', 'avg'),
  (3, 'mast', 'Dir78SD', 'wind_direction', 'deg', 'sd')"""
ROWS = """
INSERT INTO readings
SELECT s, t, n, n % 360, 1, 0 FROM generate_series(1, 3) s,
  generate_series('2020-03-01 00:00+00'::timestamptz, '2020-03-03 23:59+00', interval '1 min')
    WITH ORDINALITY x (t, n)"""


CATEGORIES = (
    "SELECT flag_category(name, '#000000', name <> 'note') FROM unnest(ARRAY['icing', 'malfunction', 'note']) name"
)


def filled(stored):
    """Three days of minutes of three sensors, with the aggregates made."""
    with psycopg.connect(stored.dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(MAST)
        connection.execute(CATEGORIES)
        if stored.one("SELECT relkind = 'p' FROM pg_class WHERE oid = 'readings'::regclass"):
            Months().ensure(connection, {"2020-03"})
        connection.execute(ROWS)
        refresh(connection)
    return stored


@pytest.fixture
def mast(stored):
    return filled(stored)


@pytest.fixture(params=["stored", "timescaledb"])
def anywhere(request):
    """The same in a database without and in one with continuous aggregates."""
    found = request.getfixturevalue(request.param)
    return filled(Database(found) if isinstance(found, str) else found)


def telltale(mast, *words):
    command = [sys.executable, "-m", "infra.command", "flags", *words, "--database", mast.dsn]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def told(mast, *words):
    answer = telltale(mast, *words, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def flag(mast, channel, begin, end, category="icing"):
    return mast.one(
        "SELECT flag(sensor('mast', %s), tstzrange(%s, %s), %s, 'why', 'me')", channel, begin, end, category
    )


# Each view of statistics against the good readings, counted anew.
AGREES = """
SELECT count(*) FROM (
  SELECT sensor_id, date_bin('{span}', time, '2000-01-01 00:00+00') AS time, count(*) AS count, min(value) AS least
  FROM readings_good GROUP BY 1, 2) a
FULL JOIN statistics_{name} b USING (sensor_id, time)
WHERE a.count IS DISTINCT FROM b.count OR (b.min IS DISTINCT FROM a.least AND b.min IS NOT NULL)"""
VIEWS = {"10min": "10 minutes", "hourly": "1 hour", "daily": "24 hours"}


def disagreements(mast):
    return [mast.one(AGREES.format(name=name, span=span)) for name, span in VIEWS.items()]


def test_flagged_readings_are_left_out_of_statistics_at_once_and_come_back(anywhere):
    mast = anywhere
    minutes = BEGIN + timedelta(hours=5, minutes=7)
    flag(mast, "Spd80", minutes, minutes + timedelta(hours=30))
    flag(mast, "Spd80", minutes + timedelta(hours=29), minutes + timedelta(hours=30, minutes=2), "malfunction")
    flag(mast, "Dir78", BEGIN + timedelta(hours=4), BEGIN + timedelta(hours=5))
    good = "SELECT count(*) FROM readings_good"
    assert mast.one(good) == 3 * 3 * 1440 - 30 * 60 - 2 - 60
    assert disagreements(mast) == [0, 0, 0]
    assert mast.one("SELECT count FROM statistics_daily WHERE sensor_id = 1 ORDER BY time LIMIT 1") == 307
    assert mast.rows("SELECT unflag(flag_id, 'you') FROM flags") == [(True,)] * 3
    assert mast.one(good) == 3 * 3 * 1440
    assert disagreements(mast) == [0, 0, 0]
    assert mast.one("SELECT count(*) FROM flag_history") == 6


def test_open_flag_and_category_that_counts(anywhere):
    mast = anywhere
    flag(mast, "Spd80", BEGIN, None, "note")
    assert mast.one("SELECT count(*) FROM readings_good WHERE sensor_id = 1") == 3 * 1440
    mast.rows("SELECT flag_category('note', '#868E96', true, '')")
    assert mast.one("SELECT count(*) FROM readings_good WHERE sensor_id = 1") == 0
    assert disagreements(mast) == [0, 0, 0]


def test_deviation_of_a_direction_is_no_angle(mast):
    hour = "time >= '2020-03-01 05:00+00' AND time < '2020-03-01 06:00+00'"
    mean = f"SELECT mean, min FROM statistics_hourly WHERE sensor_id = %s AND {hour}"
    assert mast.rows(mean, 3) == mast.rows(
        f"SELECT avg(value), min(value) FROM readings WHERE sensor_id = 3 AND {hour}"
    )
    assert mast.rows(mean, 2)[0][1] is None


def test_one_reading_has_no_deviation_and_equal_directions_have_none_of_minus_nothing(anywhere):
    rows = "(2, '2020-03-05 00:00Z', 40, 40, 1, 0), (1, '2020-03-05 00:00Z', 4, 4, 1, 0), "
    equal = "(2, '2020-03-05 00:10Z', 90, 90, 1, 0), (2, '2020-03-05 00:11Z', 90, 90, 1, 0)"
    with psycopg.connect(anywhere.dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(f"INSERT INTO readings VALUES {rows} {equal}")
        refresh(connection)
    found = anywhere.rows(
        "SELECT sensor_id, count, sd::text FROM statistics_10min WHERE time >= '2020-03-05' ORDER BY time, sensor_id"
    )
    assert found == [(1, 1, None), (2, 1, None), (2, 2, "0")]


def test_taking_a_period_out_of_a_flag_leaves_both_ends(mast):
    flag(mast, "Spd80", BEGIN, BEGIN + timedelta(hours=9))
    hours = [str(BEGIN + timedelta(hours=n)) for n in (3, 4)]
    assert told(mast, "remove", "mast/Spd80", "--from", hours[0], "--to", hours[1]) == {"removed": 1}
    found = told(mast, "list", "--sensor", "Spd80")["flags"]
    assert [(row["begin"], row["end"], row["author"]) for row in found] == [
        ("2020-03-01T00:00:00+00:00", "2020-03-01T03:00:00+00:00", "me"),
        ("2020-03-01T04:00:00+00:00", "2020-03-01T09:00:00+00:00", "me"),
    ]
    assert len(told(mast, "list", "--station", "hill", "--history")["flags"]) == 3


def test_same_flag_twice_is_one(mast):
    words = ("add", "mast/Spd80", "--from", "2020-03-01", "--to", "2020-03-02", "--category", "icing")
    assert told(mast, *words)["flag"] == 1
    assert told(mast, *words)["flag"] is None
    assert "icing" in telltale(mast, "list").stdout
    assert telltale(mast, "remove", "1").stdout == "1 flag removed\n"
    assert telltale(mast, "list").stdout == ""


HEAD = "Data Column\tFlag Name\tStart Time\tEnd Time\tTime Steps\n"
LOG = HEAD + "Spd80 [m/s]\tIce!\t2020-03-01 06:00\t2020-03-01 08:00\t12\n"


def test_log_is_imported_once_whole_or_not_at_all(mast, tmp_path):
    log = tmp_path / "log.txt"
    log.write_text(LOG + "Dir [deg]\ticing\t2020-03-01 06:00\t2020-03-01 08:00\t12\n")
    words = ("import", str(log), "--device", "mast", "--utc-offset", "+01:00")
    refused = telltale(mast, *words)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert told(mast, "list")["flags"] == []
    for added in (2, 0):
        assert told(mast, *words, "--column", "Dir=Dir78")["added"] == added
    first = told(mast, "list", "--sensor", "mast/Spd80")["flags"][0]
    assert (first["begin"], first["category"]) == ("2020-03-01T05:00:00+00:00", "Ice!")


def test_wrong_input_is_one_line(mast, tmp_path):
    period = ("--from", "2020-03-01", "--to", "2020-03-02")
    for words in (
        ("add", "mast/none", *period, "--category", "icing"),
        ("add", "mast/Spd80", *period, "--category", "nonsense"),
        ("add", "mast/Spd80", "--from", "2020", "--to", "soon", "--category", "icing"),
        ("add", "mast/Spd80", "--category", "icing"),
        ("add", "mast/Spd80", "--from", "2020-03-02", "--to", "2020-03-01", "--category", "icing"),
        ("remove", "99"),
        ("remove", str(10**30)),
        ("remove", "mast/Spd80"),
        ("remove", "1", "mast/Spd80"),
        ("list", "--device", "none"),
        ("category", "x", "--colour", "blue"),
        ("import", str(tmp_path / "none"), "--device", "mast", "--utc-offset", "+00:00"),
        ("import", str(tmp_path), "--device", "mast", "--utc-offset", "+00:00"),
        ("import", __file__, "--device", "mast", "--utc-offset", "noon"),
        ("import", __file__, "--device", "mast", "--utc-offset", "+00:00"),
    ):
        refused = telltale(mast, *words)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), (words, refused.stderr)
