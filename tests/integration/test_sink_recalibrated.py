"""Recalibrations stand beside a sink that reads old calculations again, and gross range is judged as the stage does."""

import random
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import psycopg
import pytest
from fix_sink import START_US, clean_frame, reset_group, until

from schemas.devices import Calibration, Device, Sensor, Station
from schemas.frames import CleanFrame
from schemas.limits import GrossRange, Limits
from schemas.quality import Test as Bit
from schemas.topics import READINGS_CLEAN
from sinks.timescale.batch import Batch, Entry, Part, Stretch
from sinks.timescale.positions import Claim
from sinks.timescale.projections import project
from sinks.timescale.recalibration import work
from sinks.timescale.recalibration.selection import select
from sinks.timescale.store import Store
from streams.calibration import calibrate
from streams.plan import plan_of
from streams.quality.judge import judge

pytestmark = pytest.mark.integration

PART = Part(READINGS_CLEAN, 0)
OLD = Calibration(logger_slope=1.0, logger_offset=0.0, slope=2.0, offset=0.5)
NEW = Calibration(logger_slope=1.0, logger_offset=0.0, slope=3.0, offset=0.25)


@pytest.fixture
def device_partitions():
    return 2


def device(*calibrations, limits=None, channels=("Spd80", "Dir78")):
    return Device(
        device_id="mast-0", name="mast-0", station=Station(station_id="hill", name="Hill"), interval_s=1.0,
        configured_at=datetime(2016, 1, 1, tzinfo=UTC), configured_by="test",
        sensors=tuple(
            Sensor(channel=name, point=name, quantity="wind_speed", unit="m/s", statistic="avg",
                   calibrations=calibrations, limits=limits or Limits())
            for name in channels
        ),
    )  # fmt: skip


def configure(stored, said):
    """As the sink does when `devices` says so."""
    with psycopg.connect(stored.dsn, prepare_threshold=None) as connection, connection.cursor() as cursor:
        project(cursor, [Entry(Part("devices", 0), 0, b"mast-0", b"", 0, said)])


def calculated(said, first, rows, *, state=None):
    """Logged values as the stage calibrates and judges them."""
    plan, channels = plan_of(said), tuple(sensor.channel for sensor in said.sensors)
    selection, blank = plan.select(channels), clean_frame("mast-0", first, rows, channels=channels)
    return judged(plan, selection, blank.times, blank.logged, channels)


def judged(plan, selection, times, logged, channels):
    values, missing = calibrate(logged, times, selection.segments)
    known = None if missing is None else np.where(missing, np.int64(Bit.NOT_CALIBRATED), np.int64(0))
    found = judge(plan.course.begin(), times, values, logged, selection.checks, known=known)
    return CleanFrame("mast-0", 0, times, channels, logged, values, found.flags, found.tests)


def rows_of(*frames):
    """What the table holds once each frame is stored after the one before."""
    found = {}
    for frame in frames:
        for at, time_us in enumerate(frame.times.tolist()):
            for column, channel in enumerate(frame.channels):
                grids = (frame.logged, frame.values, frame.quality, frame.tests)
                found["mast-0", channel, time_us] = tuple(grid[at, column].item() for grid in grids)
    return found


def recalibrate(stored, **asked):
    with work.connect(stored.dsn) as connection:
        chosen = select(connection, sensor=None, station="hill", begin=asked.get("begin"), end=asked.get("end"))
        runs = list(work.recalibrate(connection, chosen, author="test", slice_rows=100))
        work.finish(connection, runs)
    return runs


class Sink:
    """Stores frames one after another, each calculated at the time that is said."""

    def __init__(self, stored):
        self.store, self._next = Store(stored.dsn, owner="test"), 0
        self.store.open(Claim(PART, "c", "t", 0, None))

    def take(self, frame, *, at_ms):
        entry = Entry(PART, self._next, b"mast-0", b"", at_ms, frame)
        self.store.write(Batch([entry], {PART: Stretch(self._next, self._next + 1)}))
        self._next += 1


@pytest.fixture(params=["stored", "timescaledb"])
def anywhere(request):
    """Plain PostgreSQL, and TimescaleDB."""
    from fix_sink import Database

    found = request.getfixturevalue(request.param)
    return Database(found) if isinstance(found, str) else found


def now_ms():
    return time.time_ns() // 1_000_000


def test_older_calculation_does_not_undo_a_recalibration_and_a_newer_one_stands(anywhere):
    stored, before = anywhere, now_ms() - 60_000
    configure(stored, device(OLD))
    sink = Sink(stored)
    sink.store._copy = not stored.rows("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")
    sink.take(calculated(device(OLD), 0, 300), at_ms=before)
    configure(stored, device(NEW))
    recalibrate(stored)
    expected = rows_of(calculated(device(NEW), 0, 300))
    assert stored.readings() == expected
    sink.take(calculated(device(OLD), 100, 700), at_ms=before)  # read again, and what a sink that is behind had not had
    expected |= rows_of(calculated(device(NEW), 100, 700))
    assert stored.readings() == expected
    later = device(Calibration(**OLD.model_dump() | {"slope": 5.0}))
    sink.take(calculated(later, 200, 50), at_ms=now_ms() + 60_000)
    expected |= rows_of(calculated(later, 200, 50))
    assert stored.readings() == expected
    sink.store.close()


def test_recalibration_stands_in_its_period_only_and_the_newest_wins(stored):
    before, first = now_ms() - 60_000, datetime.fromtimestamp(START_US / 1e6, UTC)
    configure(stored, device(OLD))
    sink = Sink(stored)
    sink.take(calculated(device(OLD), 0, 300), at_ms=before)
    configure(stored, device(NEW))
    recalibrate(stored, begin=(first + timedelta(seconds=100)).isoformat())
    last = device(Calibration(**OLD.model_dump() | {"slope": 7.0}))
    configure(stored, last)
    recalibrate(stored, begin=(first + timedelta(seconds=200)).isoformat())
    sink.take(calculated(device(OLD), 0, 300), at_ms=before)
    whole = [rows_of(calculated(each, 0, 300)) for each in (device(OLD), device(NEW), last)]
    assert stored.readings() == {key: whole[min(2, (key[2] - START_US) // 100_000_000)][key] for key in whole[0]}
    sink.store.close()


def test_run_waits_for_a_transaction_that_knew_nothing_of_it(stored, monkeypatch):
    """Between asking for recalibrations and COMMIT a batch of old calculations is nowhere to be seen."""
    before = now_ms() - 60_000
    configure(stored, device(OLD))
    sink = Sink(stored)
    sink.take(calculated(device(OLD), 0, 10), at_ms=before)
    configure(stored, device(NEW))
    asked, go = threading.Event(), threading.Event()
    monkeypatch.setattr("sinks.timescale.store.project", lambda *_: (asked.set(), go.wait(60)))
    frame = calculated(device(OLD), 10, 500)
    threads = [threading.Thread(target=sink.take, args=(frame,), kwargs={"at_ms": before}),
               threading.Thread(target=recalibrate, args=(stored,))]  # fmt: skip
    threads[0].start()
    assert asked.wait(30)
    threads[1].start()
    waits = (
        "SELECT 1 FROM pg_stat_activity WHERE application_name = 'telltale-recalibrate' AND wait_event_type = 'Lock'"
    )
    until(lambda: stored.rows(waits), what="the run waits")
    assert stored.rows("SELECT 1 FROM recalibrations") == []
    go.set()
    for each in threads:
        each.join()
    assert stored.readings() == rows_of(calculated(device(NEW), 0, 510))
    sink.store.close()


def test_replay_by_an_operator_does_not_undo_a_recalibration(clean, cluster, stored, start_sink):
    configure(stored, device(OLD))
    sink = start_sink().working()
    clean.send(calculated(device(OLD), 0, 500))
    until(lambda: len(stored.readings()) == 1000, what="all rows")
    configure(stored, device(NEW))
    recalibrate(stored)
    expected = rows_of(calculated(device(NEW), 0, 500))
    sink.kill()
    [(part,)] = stored.rows("SELECT part FROM sink_offsets WHERE topic = 'readings.clean' AND next_offset > 0")
    reset_group(cluster, part=part, offset=0)
    end = stored.one("SELECT next_offset FROM sink_offsets WHERE topic = 'readings.clean' AND part = %s", part)
    start_sink().working()
    stands = (
        "SELECT next_offset >= %s AND generation = 1 FROM sink_offsets WHERE topic = 'readings.clean' AND part = %s"
    )
    until(lambda: stored.one(stands, end, part), what="all is read again")
    assert stored.readings() == expected


LIMITS = (
    Limits(gross_range=GrossRange(fail=(0, 60), suspect=(2, 50))),
    Limits(gross_range=GrossRange(suspect=(5, 30))),
    Limits(gross_range=GrossRange(fail=(-5, 35))),
    Limits(),
)


def test_gross_range_is_judged_as_the_stage_judges_it(stored):
    dice, rows = random.Random(7), 400
    times = START_US + np.arange(rows, dtype=np.int64) * 1_000_000
    special = [float("nan"), float("inf"), 1e308, 0.0, -0.0, 30.0]
    logged = np.array([[dice.choice([dice.uniform(-5, 25), dice.uniform(0, 12), *special]) for _ in LIMITS]
                       for _ in range(rows)])  # fmt: skip
    channels = tuple(f"c{place}" for place in range(len(LIMITS)))

    def said(calibration):
        base = device(calibration, channels=channels)
        sensors = tuple(s.model_copy(update={"limits": each}) for s, each in zip(base.sensors, LIMITS, strict=True))
        return base.model_copy(update={"sensors": sensors})

    def by_stage(configured):
        plan = plan_of(configured)
        return judged(plan, plan.select(channels), times, logged, channels)

    configure(stored, said(NEW))
    sink = Sink(stored)
    sink.take(by_stage(said(OLD)), at_ms=now_ms() - 60_000)
    runs = recalibrate(stored)
    expected, found = rows_of(by_stage(said(NEW))), stored.readings()
    assert {key: repr(row) for key, row in found.items()} == {key: repr(row) for key, row in expected.items()}
    failed = [sum(row[2] == 4 for key, row in expected.items() if key[1] == channel) for channel in channels]
    assert [run.summary.told()["after"]["failed"] for run in runs] == failed
    sink.take(by_stage(said(OLD)), at_ms=now_ms() - 60_000)
    assert {key: repr(row) for key, row in stored.readings().items()} == {k: repr(row) for k, row in expected.items()}
    sink.store.close()


def test_flag_of_another_test_gets_no_better(stored):
    configure(stored, device(NEW, limits=Limits(gross_range=GrossRange(fail=(0, 50)))))
    frame = calculated(device(OLD), 0, 3)
    frame.quality[:], frame.tests[:] = 4, int(Bit.SPIKE)
    frame.tests[1] |= int(Bit.GROSS_RANGE)
    sink = Sink(stored)
    sink.take(frame, at_ms=now_ms() - 60_000)
    recalibrate(stored)
    assert {row[2:] for row in stored.readings().values()} == {(4, int(Bit.SPIKE))}
    sink.store.close()
