"""Gross range and the flags that come of it."""

import math

import pytest
from core_examples import in_log, limited, make_frame, make_plan, make_sensor, make_vane, numbers

from schemas.devices import Sensor
from schemas.limits import GrossRange, Limits
from schemas.quality import Flag
from schemas.quality import Test as Bit
from streams.pipeline import advance
from streams.state import State

BOTH = limited(fail=(0.0, 75.0), suspect=(1.0, 50.0))
NOTHING, RANGE = 0, int(Bit.GROSS_RANGE)


def judged(limits: Limits, value: float) -> tuple[int, int]:
    """Flag and test bits of one reading that needs no calibration."""
    return flagged(make_sensor(statistic="sum", limits=limits), value)


def flagged(sensor: Sensor, value: float) -> tuple[int, int]:
    frame = make_frame([0], [value], channels=(sensor.channel,))
    _, outcome = advance(State("mast-7"), in_log([frame]), make_plan(sensor), generation=0)
    return int(outcome.clean[0].quality[0, 0]), int(outcome.clean[0].tests[0, 0])


@pytest.mark.parametrize(
    ("value", "flag", "tests"),
    [
        (1.0, Flag.GOOD, NOTHING),
        (50.0, Flag.GOOD, NOTHING),
        (math.nextafter(1.0, 0), Flag.SUSPECT, RANGE),
        (math.nextafter(50.0, 99), Flag.SUSPECT, RANGE),
        (0.0, Flag.SUSPECT, RANGE),
        (75.0, Flag.SUSPECT, RANGE),
        (math.nextafter(0.0, -1), Flag.FAIL, RANGE),
        (math.nextafter(75.0, 99), Flag.FAIL, RANGE),
        (math.inf, Flag.FAIL, RANGE),
        (-math.inf, Flag.FAIL, RANGE),
        (math.nan, Flag.MISSING, NOTHING),
    ],
)
def test_bounds_are_good_and_the_worst_flag_wins(value: float, flag: int, tests: int) -> None:
    assert judged(BOTH, value) == (flag, tests)


@pytest.mark.parametrize(
    ("limits", "value", "flag"),
    [
        (limited(fail=(0, 9)), 5.0, Flag.GOOD),
        (limited(fail=(0, 9)), 10.0, Flag.FAIL),
        (limited(suspect=(0, 9)), 5.0, Flag.GOOD),
        (limited(suspect=(0, 9)), 1e300, Flag.SUSPECT),
    ],
)
def test_one_span_is_enough(limits: Limits, value: float, flag: int) -> None:
    assert judged(limits, value)[0] == flag


@pytest.mark.parametrize("limits", [Limits(), Limits(gross_range=GrossRange())])
def test_without_limits_a_reading_is_not_evaluated(limits: Limits) -> None:
    assert judged(limits, 1e300) == (Flag.NOT_EVALUATED, NOTHING)


@pytest.mark.parametrize(("value", "flag"), [(math.inf, Flag.FAIL), (math.nan, Flag.MISSING)])
def test_without_limits_infinity_fails_and_nan_is_missing(value: float, flag: int) -> None:
    assert judged(Limits(), value)[0] == flag


def test_the_calibrated_value_is_judged() -> None:
    sensor = make_sensor(calibrations=[numbers(slope=50.0)], limits=limited(fail=(0, 75)))
    assert flagged(sensor, 1.0) == (Flag.FAIL, RANGE)  # 800 m/s, of a logged 1.0


def test_the_bits_of_a_range_and_of_no_calibration_stand_together() -> None:
    sensor = make_sensor(limits=limited(fail=(0, 75)))
    assert flagged(sensor, 99.0) == (Flag.FAIL, RANGE | Bit.NOT_CALIBRATED)


def test_a_value_calibrated_beyond_all_numbers_fails() -> None:
    sensor = make_sensor(calibrations=[numbers(slope=1e300)])
    assert flagged(sensor, 1e300) == (Flag.FAIL, RANGE)


def test_an_infinite_direction_fails() -> None:
    vane = make_vane(calibrations=[numbers(dead_band_orientation_deg=90.0)])
    assert flagged(vane, math.inf) == (Flag.FAIL, RANGE)
