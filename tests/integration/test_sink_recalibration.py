"""`telltale recalibrate`: bit for bit what the stage computes, resumable, beside a live sink without lost updates."""

import json
import random
import signal
import struct
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from fix_sink import Database, until

from schemas.devices import Calibration, Device, Sensor, Station
from schemas.quality import Test as Bit
from sinks.timescale.batch import Entry, Part
from sinks.timescale.projections import project
from sinks.timescale.recalibration import work
from sinks.timescale.recalibration.selection import select
from sinks.timescale.upkeep import refresh
from streams.calibration import calibrate, micros, segments_of

pytestmark = pytest.mark.integration

BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
NUMBER = {"logger_slope": 0.0462, "logger_offset": 0.21, "slope": 0.04581, "offset": 0.2761}
OLD, NEW = Calibration(**NUMBER), Calibration(**NUMBER | {"slope": 0.04602, "offset": 0.2514})


def configure(stored, *sensors, device="mast"):
    """As the sink does when `devices` says so."""
    said = Device(
        device_id=device, name=device, station=Station(station_id="hill", name="Hill"), interval_s=600.0,
        sensors=sensors, configured_at=BEGIN, configured_by="test",
    )  # fmt: skip
    with psycopg.connect(stored.dsn, prepare_threshold=None) as connection, connection.cursor() as cursor:
        project(cursor, [Entry(Part("devices", 0), 0, device.encode(), b"", 0, said)])
    return said


def anemometer(*calibrations, channel="Spd80", quantity="wind_speed", statistic="avg"):
    return Sensor(
        channel=channel, point=channel, quantity=quantity, unit="m/s", statistic=statistic, calibrations=calibrations
    )


def put(stored, channel, times, logged, *, values=None, tests=0):
    """Rows as an older configuration left them."""
    with psycopg.connect(stored.dsn, prepare_threshold=None) as connection:
        if stored.one("SELECT relkind = 'p' FROM pg_class WHERE oid = 'readings'::regclass"):
            from sinks.timescale.months import Months

            Months().ensure(connection, {f"{time:%Y-%m}" for time in times})
        number = connection.execute("SELECT sensor('mast', %s)", (channel,)).fetchone()[0]
        old, new = ([float(each) for each in column] for column in (logged, logged if values is None else values))
        connection.execute(
            "INSERT INTO readings SELECT %s, *, 1, %s FROM unnest(%s::timestamptz[], %s::float8[], %s::float8[])",
            (number, tests, times, old, new),
        )


def ten_minutes(count, begin=BEGIN):
    return [begin + timedelta(minutes=10 * n) for n in range(count)]


def recalibrate(stored, sensor="mast/Spd80", *, station=None, begin=None, end=None, **options):
    with work.connect(stored.dsn) as connection:
        chosen = select(connection, sensor=None if station else sensor, station=station, begin=begin, end=end)
        runs = list(work.recalibrate(connection, chosen, author="test", **options))
        work.finish(connection, runs)
    return runs


def bits(value):
    return "NaN" if value != value else struct.pack(">d", value)  # noqa: PLR0124 - any NaN is as good


def telltale(*words):
    return subprocess.run([sys.executable, "-m", "infra.command", *words], capture_output=True, text=True, check=False)


# --- the same numbers as the stage ---

EDGES = (0.0, -0.0, 359.99999999999994, 360.0, -1e-17, 5e-324, 1.7976931348623157e308, -1.7976931348623157e308)
STATISTICS = ("avg", "sd", "max", "sum", "range", "count", "gust")


def some_number(dice):
    return dice.choice([None, dice.uniform(-5, 5), dice.uniform(-5, 5), dice.uniform(-400, 400), 1.0, 0.0,
                        dice.uniform(-1, 1) * 10.0 ** dice.randint(-300, 300)])  # fmt: skip


def some_reading(dice):
    usual, wide = dice.uniform(-30, 50), dice.uniform(-800, 800)
    extreme = dice.uniform(-1, 1) * 10.0 ** dice.randint(-308, 308)
    return dice.choice([usual, wide, extreme, float("nan"), float("inf"), *EDGES])


def some_calibrations(dice):
    edges = sorted(dice.sample(range(1, 200), 4))
    for first, last in ((None, edges[0]), (edges[0], edges[1]), (edges[2], edges[3])):
        if dice.random() < 0.85:
            yield Calibration(
                valid_from=first and BEGIN + timedelta(minutes=10 * first),
                valid_to=BEGIN + timedelta(minutes=10 * last, microseconds=-dice.choice([0, 1])),
                **{name: some_number(dice) or dice.choice([None, 0.1]) for name in ("logger_slope", "slope")},
                **{name: some_number(dice) for name in ("logger_offset", "offset", "dead_band_orientation_deg")},
            )


def some_sensor(dice, place):
    same = dice.random() < 0.1
    calibrations = tuple(some_calibrations(dice))
    if same:
        calibrations = tuple(
            c.model_copy(update={"logger_slope": c.slope, "logger_offset": c.offset}) for c in calibrations
        )
    quantity = dice.choice(["wind_speed", "wind_direction", "air_temperature"])
    return anemometer(*calibrations, channel=f"c{place}", quantity=quantity, statistic=dice.choice(STATISTICS))


def test_values_are_to_the_bit_those_of_the_stage(stored):
    dice = random.Random(20161220)
    times = ten_minutes(200)
    sensors = [some_sensor(dice, place) for place in range(40)]
    configure(stored, *sensors)
    logged = np.array([[some_reading(dice) for _ in sensors] for _ in times])
    for column, sensor in enumerate(sensors):
        put(
            stored,
            sensor.channel,
            times,
            logged[:, column],
            values=logged[:, column] + 1,
            tests=dice.choice([0, 3, 65539]),
        )
    recalibrate(stored, station="hill", slice_rows=70)
    expected, missing = calibrate(logged, np.array([micros(t) for t in times]), segments_of(sensors))
    found = stored.readings()
    for row, time in enumerate(times):
        for column, sensor in enumerate(sensors):
            was, value, _, tests = found["mast", sensor.channel, micros(time)]
            assert bits(value) == bits(expected[row, column]), (sensor, time, was)
            assert bool(tests & Bit.NOT_CALIBRATED) == missing[row, column]


# --- the work ---


def old_year(stored, count=3000, channel="Spd80"):
    """Readings as the old numbers left them, with the new numbers configured."""
    configure(stored, anemometer(NEW, channel=channel))
    logged = np.arange(count) % 400 / 16
    put(stored, channel, ten_minutes(count), logged, values=by(OLD, logged))
    return logged


def by(calibration, logged):
    c = calibration
    return c.slope * ((logged - c.logger_offset) / c.logger_slope) + c.offset


def values(stored, channel="Spd80"):
    statement = "SELECT value FROM readings WHERE sensor_id = sensor('mast', %s) ORDER BY time"
    return [value for (value,) in stored.rows(statement, channel)]


def test_running_it_twice_changes_nothing(stored):
    logged = old_year(stored)
    (first,) = recalibrate(stored, slice_rows=500)
    assert (first.rows, first.changed) == (3000, 3000)
    assert values(stored) == by(NEW, logged).tolist()
    (second,) = recalibrate(stored)
    assert (second.rows, second.changed) == (3000, 0)
    assert stored.one("SELECT count(*) FROM recalibrations WHERE finished IS NOT NULL") == 2


def test_dry_run_tells_and_changes_nothing(stored):
    logged = old_year(stored)
    (run,) = recalibrate(stored, dry_run=True, slice_rows=1000)
    told = run.summary.told()
    assert (run.changed, told["before"]["mean"]) == (3000, pytest.approx(by(OLD, logged).mean()))
    assert told["after"]["max"] == by(NEW, logged).max()
    assert told["largest_change"] == abs(by(NEW, logged) - by(OLD, logged)).max()
    assert values(stored) == by(OLD, logged).tolist()
    assert stored.rows("SELECT 1 FROM recalibrations") == []


def test_only_the_period_that_was_asked_for(stored):
    logged = old_year(stored, 300)
    (run,) = recalibrate(stored, begin="2020-01-01T10:00", end="2020-01-01T20:00")
    assert run.changed == 60
    changed = [n for n, (value, was) in enumerate(zip(values(stored), by(OLD, logged), strict=True)) if value != was]
    assert changed == list(range(60, 120))


def test_run_that_was_killed_goes_on_where_it_stood(stored):
    logged = old_year(stored)
    with psycopg.connect(stored.dsn) as holder:  # a row in the way: the process is caught in the middle of a slice
        holder.execute("SELECT FROM readings WHERE time = %s FOR UPDATE", (BEGIN + timedelta(minutes=10 * 2500),))
        program = (
            "import sys; from sinks.timescale.recalibration import work; work.SLICE_ROWS = 500; "
            "work.recalibrate.__kwdefaults__['slice_rows'] = 500; from infra.command import main; main()"
        )
        command = [sys.executable, "-c", program, "recalibrate", "mast/Spd80", "--database", stored.dsn]
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(lambda: stored.rows("SELECT 1 FROM recalibrations WHERE rows = 2500"), what="five slices")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    assert values(stored) == [*by(NEW, logged[:2500]), *by(OLD, logged[2500:])]
    resumed = telltale("recalibrate", "mast/Spd80", "--database", stored.dsn, "--json")
    (told,) = json.loads(resumed.stdout)["sensors"]
    assert (told["readings"], told["changed"], told["resumed"]) == (3000, 3000, True)
    assert told["before"]["mean"] == pytest.approx(by(OLD, logged).mean())
    assert values(stored) == by(NEW, logged).tolist()
    assert stored.rows("SELECT 1 FROM recalibrations WHERE finished IS NULL") == []


def test_numbers_that_change_meanwhile_win_everywhere(stored):
    logged = old_year(stored)
    newest = Calibration(**NUMBER | {"slope": 0.05})
    slices = []

    def report(run):
        slices.append(run.reached)
        if len(slices) == 3:
            configure(stored, anemometer(newest))

    recalibrate(stored, slice_rows=500, report=report)
    assert values(stored) == by(newest, logged).tolist()


def test_sensor_that_is_configured_no_more_keeps_its_values(stored):
    logged = old_year(stored, 100)
    configure(stored, anemometer(channel="Other"))
    refused = telltale("recalibrate", "mast/Spd80", "--database", stored.dsn)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert telltale("recalibrate", "--station", "hill", "--database", stored.dsn).returncode == 0
    assert values(stored) == by(OLD, logged).tolist()


def test_two_at_once_do_the_work_once(stored):
    old_year(stored)
    with psycopg.connect(stored.dsn) as holder:
        holder.execute("SELECT FROM readings WHERE time = %s FOR UPDATE", (BEGIN + timedelta(minutes=10 * 700),))
        answers = []
        both = [threading.Thread(target=lambda: answers.append(attempt(stored))) for _ in range(2)]
        for each in both:
            each.start()
        until(lambda: stored.one("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), what="a wait")
        holder.rollback()
        for each in both:
            each.join()
    assert values(stored) == by(NEW, np.arange(3000) % 400 / 16).tolist()
    assert None in answers


def attempt(stored):
    from schemas.errors import Refused

    try:
        recalibrate(stored, slice_rows=500)
    except Refused as refused:
        return str(refused)
    return None


def test_nothing_is_lost_beside_a_sink_that_writes(stored):
    """Rows arrive and are corrected all over the period while it is worked on; the sink's word on `logged` stands."""
    from sinks.timescale.packing import READINGS

    logged = old_year(stored, 6000)
    number = stored.one("SELECT sensor('mast', 'Spd80')")
    corrected, stop = {}, threading.Event()

    def sink():
        dice = random.Random(1)
        upsert = READINGS.upsert
        with psycopg.connect(stored.dsn) as connection:
            while not stop.is_set():
                places = sorted(dice.sample(range(6000), 40))
                news = [dice.uniform(0, 25) for _ in places]
                times = [BEGIN + timedelta(minutes=10 * place) for place in places]
                old = [float(by(OLD, new)) for new in news]  # the stage took them before the numbers changed
                columns = ([number] * 40, times, news, old, [1] * 40, [0] * 40)
                connection.execute(upsert, columns)
                connection.commit()
                corrected.update(zip(places, news, strict=True))

    writer = threading.Thread(target=sink)
    writer.start()
    until(lambda: len(corrected) > 100, what="the sink writes")
    rounds = []

    def report(run):
        rounds.append(run.reached)
        if len(rounds) == 24:  # the second pass is over
            stop.set()
            writer.join()

    recalibrate(stored, slice_rows=500, report=report)
    assert not writer.is_alive()
    expected = logged.copy()
    for place, new in corrected.items():
        expected[place] = new
    rows = stored.rows("SELECT logged, value FROM readings ORDER BY time")
    assert [row[0] for row in rows] == expected.tolist()
    assert [row[1] for row in rows] == by(NEW, expected).tolist()


@pytest.fixture(params=["stored", "timescaledb"])
def anywhere(request):
    """A database without and one with continuous aggregates."""
    found = request.getfixturevalue(request.param)
    return Database(found) if isinstance(found, str) else found


def test_statistics_follow(anywhere):
    stored = anywhere
    logged = old_year(stored, 300)
    with work.connect(stored.dsn) as connection:
        refresh(connection)
    done = telltale("recalibrate", "mast/Spd80", "--database", stored.dsn)
    assert "300 readings, 300 changed" in done.stdout
    assert stored.one("SELECT mean FROM statistics_daily ORDER BY time LIMIT 1") == pytest.approx(
        by(NEW, logged[:144]).mean()
    )


def test_compressed_chunks_too(timescaledb):
    stored = Database(timescaledb)
    logged = old_year(stored)
    closed = "SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = 'readings' AND is_compressed"
    stored.rows("SELECT compress_chunk(c) FROM show_chunks('readings') c")
    there = stored.one(closed)
    assert telltale("recalibrate", "mast/Spd80", "--database", stored.dsn).returncode == 0
    assert values(stored) == by(NEW, logged).tolist()
    assert stored.one(closed) == there


def test_wrong_input_is_one_line(stored):
    old_year(stored, 10)
    for words in (
        (),
        ("mast/none",),
        ("mast/Spd80", "--station", "hill"),
        ("--station", "none"),
        ("mast/Spd80", "--from", "soon"),
        ("mast/Spd80", "--from", "2021", "--to", "2020"),
        ("mast/Spd80", "--database", "host=127.0.0.1 nonsense"),
    ):
        refused = telltale("recalibrate", "--database", stored.dsn, *words)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), (words, refused.stderr)
