"""What analysts read: sensors_now, data_recovery and gaps by counting, and that a sensor's year is read by index."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

pytestmark = pytest.mark.integration

MAST = """
INSERT INTO stations VALUES ('hill', 'Hill', NULL, NULL, NULL);
INSERT INTO devices (device_id, station_id, name, interval_s, exists_from, loggers, configured_at, configured_by)
VALUES ('mast', 'hill', 'Mast', 600, '2020-01-15', '[]', '2020-01-01', 'test');
INSERT INTO sensors (sensor_id, device_id, channel, unit, active) OVERRIDING SYSTEM VALUE
VALUES (1, 'mast', 'Spd80', 'm/s', false), (2, 'mast', 'Dir78', 'deg', true), (3, 'lost', 'T', NULL, true)"""

MONTHS = """
CREATE TABLE readings_{0} (LIKE readings INCLUDING ALL);
ALTER TABLE readings ATTACH PARTITION readings_{0} FOR VALUES FROM ('{1}') TO ('{2}')"""

# Ten-minute rows from a time on; every seventh failed, by its place.
ROWS = """
INSERT INTO readings
SELECT {sensor}, t, 2, 1, CASE WHEN n % 7 = 0 THEN 4 ELSE 1 END, 0
FROM generate_series('{begin}'::timestamptz, '{end}'::timestamptz - interval '1 s', '{step}')
  WITH ORDINALITY AS s (t, n)"""


def run(stored, statements):
    with psycopg.connect(stored.dsn, autocommit=True) as connection:
        connection.execute(statements.encode())


def make_months(stored, first, count):
    if not stored.one("SELECT relkind = 'p' FROM pg_class WHERE oid = 'readings'::regclass"):
        return  # a hypertable makes its own
    for place in range(first[0] * 12 + first[1] - 1, first[0] * 12 + first[1] - 1 + count):
        begin, end = (f"{month // 12}-{month % 12 + 1:02}-01 00:00+00" for month in (place, place + 1))
        run(stored, MONTHS.format(begin[:7].replace("-", "_"), begin, end))


@pytest.fixture
def mast(stored):
    """Spd80 from 2020-01-20 to 2020-03-01, without 2020-02-10; its last hour of February is stored as missing."""
    run(stored, MAST)
    make_months(stored, (2020, 1), 2)
    run(stored, ROWS.format(sensor=1, begin="2020-01-20 00:00+00", end="2020-02-10 00:00+00", step="10 min"))
    run(stored, ROWS.format(sensor=1, begin="2020-02-11 00:00+00", end="2020-03-01 00:00+00", step="10 min"))
    run(
        stored,
        "UPDATE readings SET quality = 9, logged = 'NaN', value = 'NaN' WHERE time >= '2020-02-29 23:00+00'",
    )
    return stored


def test_sensors_now_has_the_newest_reading_and_its_age(mast):
    newest = datetime(2020, 2, 29, 23, 50, tzinfo=UTC)
    (channel, time, flag, age), silent = mast.rows(
        "SELECT channel, time, flag, age FROM sensors_now WHERE station_id = 'hill' ORDER BY sensor_id"
    )
    assert (channel, time, flag) == ("Spd80", newest, "missing")
    assert abs(datetime.now(UTC) - newest - age) < timedelta(minutes=1)
    assert silent == ("Dir78", None, None, None)


def test_data_recovery_counts_what_the_interval_expects(mast):
    january, february = mast.rows(
        "SELECT month, expected, stored, present, good FROM data_recovery WHERE sensor_id = 1 ORDER BY month"
    )
    assert january[:4] == (datetime(2020, 1, 1, tzinfo=UTC), 17 * 144, 12 * 144, 12 * 144)  # exists from the 15th
    assert february[:4] == (datetime(2020, 2, 1, tzinfo=UTC), 29 * 144, 28 * 144, 28 * 144 - 6)
    good = "SELECT count(*) FROM readings_good WHERE time >= '2020-02-01 00:00+00'"
    assert february[4] == mast.one(good)
    assert mast.one("SELECT recovery FROM data_recovery WHERE good = %s", january[4]) == january[4] / (17 * 144)


def test_month_in_which_a_configured_sensor_is_silent_has_recovery_zero(mast):
    silent = mast.rows("SELECT recovery FROM data_recovery WHERE channel = 'Dir78' AND month = '2020-06-01 00:00+00'")
    assert silent == [(0.0,)]


def test_gaps_are_what_is_missing_before_between_and_behind(mast):
    def utc(*parts):
        return datetime(2020, *parts, tzinfo=UTC)

    assert mast.rows(
        "SELECT begins, ends, missing, is_open FROM gaps WHERE device_id = 'mast' AND channel = 'Spd80' ORDER BY 1"
    ) == [
        (utc(1, 15), utc(1, 20), 5 * 144, False),
        (utc(2, 10), utc(2, 11), 144, False),
        (utc(2, 29, 23), utc(3, 1), 6, False),  # its row says "missing"
    ]
    assert mast.rows("SELECT begins, is_open FROM gaps WHERE channel = 'Dir78'") == [(utc(1, 15), True)]


def test_sensor_without_interval_has_neither_gaps_nor_an_expectation(mast):
    run(mast, "UPDATE devices SET interval_s = NULL")
    assert mast.rows("SELECT 1 FROM gaps") == []
    counted = mast.rows("SELECT DISTINCT expected, recovery FROM data_recovery WHERE sensor_id = 1")
    assert counted == [(None, None)]


def test_views_mean_the_same_in_any_time_zone(mast):
    there = "SELECT month, expected, stored FROM data_recovery WHERE sensor_id = 1 ORDER BY 1"
    database = mast.one("SELECT current_database()")
    here = mast.rows(there)
    run(mast, f"ALTER DATABASE {database} SET timezone = 'Asia/Kathmandu'")
    assert mast.rows(there) == here


# --- plans ---

SENSORS = 20
OF_ONE_SENSOR = 2 * 365 * 48


@pytest.fixture
def two_years(stored):
    """Twenty sensors, half-hourly, two years, in the order of arrival."""
    run(stored, MAST)
    make_months(stored, (2018, 1), 24)
    rows = ROWS.format(sensor="g", begin="2018-01-01", end="2020-01-01", step="30 min")
    all_sensors = f"FROM generate_series(1, {SENSORS}) g, generate_series"
    run(stored, rows.replace("FROM generate_series", all_sensors) + " ORDER BY t, g")
    run(stored, "ANALYZE readings")
    return stored


def nodes(plan):
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)


def explained(stored, statement):
    (answer,) = stored.one(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
    print(f"{answer['Execution Time']:7.1f} ms, plan {answer['Planning Time']:.1f} ms: {' '.join(statement.split())}")
    return list(nodes(answer["Plan"]))


YEAR = "time >= '2019-01-01 00:00+00' AND time < '2020-01-01 00:00+00'"


MAST_SPD80 = "device_id = 'mast' AND channel = 'Spd80'"
QUESTIONS = [
    f"SELECT * FROM readings WHERE sensor_id = 1 AND {YEAR}",
    f"SELECT * FROM readings_good WHERE sensor_id = 1 AND {YEAR} ORDER BY time",
    f"SELECT r.* FROM readings r JOIN sensors USING (sensor_id) WHERE {MAST_SPD80} AND {YEAR}",
    f"SELECT * FROM statistics_daily WHERE sensor_id = 1 AND {YEAR}",
    "SELECT * FROM sensors_now WHERE device_id = 'mast'",
    f"SELECT * FROM data_recovery WHERE {MAST_SPD80}",
    f"SELECT * FROM gaps WHERE {MAST_SPD80}",
]


def test_one_sensor_is_read_by_index(two_years):
    for question in QUESTIONS:
        touching = [
            each
            for each in explained(two_years, question)
            if each.get("Relation Name", "").startswith(("readings", "_hyper"))
            and each["Node Type"] != "Custom Scan"  # TimescaleDB's, over the scans of its chunks
        ]
        assert touching, question
        ways = {each["Node Type"] for each in touching}
        assert ways <= {"Index Scan", "Index Only Scan", "Bitmap Heap Scan"}, question
        read = sum(each["Actual Rows"] * each["Actual Loops"] for each in touching)
        assert read <= 3 * OF_ONE_SENSOR, question  # never the others' rows


def test_one_year_leaves_the_other_year_unread(two_years):
    plan = explained(two_years, QUESTIONS[0])
    assert not [each for each in plan if "2018" in each.get("Relation Name", "")]
