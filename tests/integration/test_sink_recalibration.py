"""`telltale recalibrate`: bit for bit what the stage computes, resumable, beside a live sink without lost updates."""

import json
import os
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
    with psycopg.connect(stored.dsn) as connection, connection.cursor() as cursor:
        project(cursor, [Entry(Part("devices", 0), 0, device.encode(), b"", 0, said)])
    return said


def anemometer(*calibrations, channel="Spd80", quantity="wind_speed", statistic="avg"):
    return Sensor(
        channel=channel, point=channel, quantity=quantity, unit="m/s", statistic=statistic, calibrations=calibrations
    )


def put(stored, channel, times, logged, values=None, tests=0):
    """Rows as an older configuration left them."""
    with psycopg.connect(stored.dsn) as connection:
        if stored.one("SELECT relkind = 'p' FROM pg_class WHERE oid = 'readings'::regclass"):
            from sinks.timescale.months import Months

            Months().ensure(connection, {f"{time:%Y-%m}" for time in times})
        number = connection.execute("SELECT sensor('mast', %s)", (channel,)).fetchone()[0]
        rows = zip(times, logged, logged if values is None else values, strict=True)
        connection.cursor().executemany(
            "INSERT INTO readings VALUES (%s, %s, %s, %s, 1, %s)",
            [(number, time, float(old), float(value), tests) for time, old, value in rows],
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


def telltale(*words, **options):
    return subprocess.run([sys.executable, "-m", "infra.command", *words], capture_output=True, text=True, **options)


# --- the same numbers as the stage ---

EDGES = (0.0, -0.0, 359.99999999999994, 360.0, -1e-17, 5e-324, 1.7976931348623157e308, -1.7976931348623157e308)
STATISTICS = ("avg", "sd", "max", "sum", "range", "count", "gust")


def some_number(dice):
    return dice.choice([None, dice.uniform(-5, 5), dice.uniform(-5, 5), dice.uniform(-400, 400), 1.0, 0.0,
                        dice.uniform(-1, 1) * 10.0 ** dice.randint(-300, 300)])  # fmt: skip


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
    logged = np.array(
        [[dice.choice([dice.uniform(-30, 50), dice.uniform(-800, 800), dice.uniform(-1, 1) * 10.0 ** dice.randint(-308, 308),
                       float("nan"), float("inf"), *EDGES]) for _ in sensors] for _ in times]
    )  # fmt: skip
    for column, sensor in enumerate(sensors):
        put(stored, sensor.channel, times, logged[:, column], values=logged[:, column] + 1, tests=dice.choice([0, 3, 65539]))
    recalibrate(stored, station="hill", slice_rows=70)
    expected, missing = calibrate(logged, np.array([micros(t) for t in times]), segments_of(sensors))
    found = stored.readings()
    for row, time in enumerate(times):
        for column, sensor in enumerate(sensors):
            was, value, _, tests = found["mast", sensor.channel, micros(time)]
            assert bits(value) == bits(expected[row, column]), (sensor, time, was)
            assert bool(tests & Bit.NOT_CALIBRATED) == missing[row, column]
