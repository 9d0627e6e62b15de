"""Calibration against the formula, computed in plain Python one reading at a time."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from core_examples import START_US, US, in_log, instant, make_frame, make_plan, make_sensor, make_vane, numbers

from schemas.devices import Calibration, Sensor
from schemas.quality import Flag
from schemas.quality import Test as Bit
from streams.calibration import calibrate, micros, segments_of, wrap
from streams.pipeline import advance
from streams.state import State

LOGGED = (0.2, 7.0, 11.03, 0.0, -3.5, 12.345678, 1e-9, 49.9)


def by_formula(  # noqa: PLR0911 - a table of cases
    sensor: Sensor, logged: float, time_us: int
) -> tuple[float, bool]:
    """The value, and whether a number was missing. IEA Task 43: x = (logged - lo) / ls; y = s * x + o."""
    c = next(
        (
            c
            for c in sensor.calibrations
            if (c.valid_from is None or c.valid_from <= instant(time_us))
            and (c.valid_to is None or instant(time_us) < c.valid_to)
        ),
        Calibration(),
    )
    point = sensor.statistic in ("avg", "min", "max", "gust")
    if sensor.quantity == "wind_direction" and point:
        if c.dead_band_orientation_deg is None or c.logger_offset is None:
            return logged, True
        turned = (logged + (c.dead_band_orientation_deg - c.logger_offset)) % 360.0
        return (turned if turned < 360.0 else 0.0), False
    if point:
        if None in (c.logger_slope, c.logger_offset, c.slope, c.offset):
            return logged, True
        return c.slope * ((logged - c.logger_offset) / c.logger_slope) + c.offset, False
    if sensor.statistic in ("sd", "range") and sensor.quantity != "wind_direction":
        if None in (c.logger_slope, c.slope):
            return logged, True
        return c.slope * (logged / c.logger_slope), False
    return logged, False


def agree(sensors: Sequence[Sensor], logged: np.ndarray, times: np.ndarray) -> None:
    values, missing = calibrate(logged, times, segments_of(sensors))
    for row, time_us in enumerate(times.tolist()):
        for column, sensor in enumerate(sensors):
            expected = by_formula(sensor, float(logged[row, column]), time_us)
            assert (float(values[row, column]), bool(missing is not None and missing[row, column])) == expected, (
                sensor,
                time_us,
            )


def one(sensor: Sensor, *logged: float) -> list[float]:
    values, _ = calibrate(np.array(logged)[:, None], np.full(len(logged), START_US), segments_of([sensor]))
    return values[:, 0].tolist()


@pytest.mark.parametrize("statistic", ["avg", "min", "max", "gust", "sd", "range", "sum", "count", "ti"])
def test_each_statistic_is_calibrated_by_the_formula(statistic: str) -> None:
    sensor = make_sensor(statistic=statistic, calibrations=[numbers()])
    agree([sensor], np.array(LOGGED)[:, None], np.full(len(LOGGED), START_US))


def test_a_spread_takes_only_the_ratio_of_the_slopes() -> None:
    calibration = Calibration(logger_slope=0.05, slope=0.1)  # no offsets: a spread needs none
    assert one(make_sensor(statistic="sd", calibrations=[calibration]), 1.0, 0.0) == [2.0, 0.0]


def test_a_spread_stays_positive_where_the_slopes_have_opposite_signs() -> None:
    calibration = Calibration(logger_slope=-1.0, slope=2.0)
    assert one(make_sensor(statistic="range", calibrations=[calibration]), 1.5) == [3.0]


@pytest.mark.parametrize("statistic", ["sum", "count", "ti"])
def test_sums_and_counts_are_untouched_and_need_no_numbers(statistic: str) -> None:
    logged = np.array([[0.1], [math.nan], [7.0]])
    values, missing = calibrate(logged, np.full(3, START_US), segments_of([make_sensor(statistic=statistic)]))
    assert values.tobytes() == logged.tobytes()
    assert missing is None


def test_a_vane_is_turned_and_wrapped() -> None:
    vane = make_vane(calibrations=[Calibration(dead_band_orientation_deg=130.0, logger_offset=-10.0)])
    assert one(vane, 0.0, 219.5, 220.0, 359.0) == [140.0, 359.5, 0.0, 139.0]


@pytest.mark.parametrize("degrees", [-1e-17, 1e-17, -0.0, 360.0, -360.0, 720.0, 359.99999999999994, -1e-300])
def test_wrapped_degrees_lie_in_the_half_open_circle(degrees: float) -> None:
    assert 0.0 <= float(wrap(np.array([degrees]))[0]) < 360.0


def test_a_vane_turned_to_almost_nothing_below_zero_points_north() -> None:
    turned = make_vane(calibrations=[Calibration(dead_band_orientation_deg=-1e-17, logger_offset=0.0)])
    assert one(turned, 0.0, -0.0, -1e-17) == [0.0, 0.0, 0.0]


def test_the_deviation_of_a_direction_stays_and_needs_no_numbers() -> None:
    agree(
        [make_vane(statistic="sd", calibrations=[numbers()]), make_vane(statistic="sd")], np.ones((1, 2)), np.zeros(1)
    )


@pytest.mark.parametrize("lost", ["logger_slope", "logger_offset", "slope", "offset"])
def test_a_missing_number_means_not_calibrated(lost: str) -> None:
    sensor = make_sensor(calibrations=[numbers(**{lost: None})])
    _, outcome = advance(State("mast-7"), in_log([make_frame([0], [7.3])]), make_plan(sensor), generation=0)
    clean = outcome.clean[0]
    assert clean.values.tolist() == clean.logged.tolist() == [[7.3]]
    assert clean.tests.tolist() == [[Bit.NOT_CALIBRATED]]
    assert clean.quality.tolist() == [[Flag.NOT_EVALUATED]]


@pytest.mark.parametrize("lost", ["dead_band_orientation_deg", "logger_offset"])
def test_a_vane_without_its_numbers_is_not_calibrated(lost: str) -> None:
    facts = {"dead_band_orientation_deg": 90.0, "logger_offset": 0.0}
    vane = make_vane(calibrations=[Calibration.model_validate({**facts, lost: None})])
    values, missing = calibrate(np.array([[400.0]]), np.array([START_US]), segments_of([vane]))
    assert values.tolist() == [[400.0]]
    assert missing.all()


def test_equal_numbers_leave_every_bit() -> None:
    calibration = Calibration(logger_slope=0.0456, slope=0.0456, logger_offset=0.2, offset=0.2)
    sensors = [make_sensor("a", calibrations=[calibration]), make_sensor("b", calibrations=[numbers()])]
    logged = np.array([[0.1, 1.0], [-0.0, 1.0], [math.nan, 1.0], [5e-324, 1.0], [1.7e308, 1.0], [math.inf, 1.0]])
    values, missing = calibrate(logged, np.full(6, START_US), segments_of(sensors))
    assert values[:, 0].tobytes() == logged[:, 0].tobytes()
    assert missing is None


def test_a_vane_turned_by_nothing_leaves_every_bit() -> None:
    vane = make_vane(calibrations=[Calibration(dead_band_orientation_deg=7.5, logger_offset=7.5)])
    assert one(vane, 360.0, -0.1) == [360.0, -0.1]


def test_a_missing_reading_stays_missing() -> None:
    assert math.isnan(one(make_sensor(calibrations=[numbers()]), math.nan)[0])


@pytest.mark.parametrize("make", [make_sensor, make_vane])
def test_an_infinite_reading_stays_infinite(make: type) -> None:
    sensor = make(calibrations=[numbers(dead_band_orientation_deg=90.0)])
    assert one(sensor, math.inf, -math.inf, 1.0)[:2] == [math.inf, -math.inf]


EDGES_US = (START_US, START_US + 3_600 * US + 1, START_US + 7_200 * US)


def dated(**changes: object) -> list[Calibration]:
    """Three that touch, then a gap, then one without an end."""
    a, b, c = map(instant, EDGES_US)
    later = instant(EDGES_US[2] + 60 * US)
    return [
        numbers(valid_to=a),
        numbers(valid_from=a, valid_to=b, slope=0.5, **changes),
        numbers(valid_from=b, valid_to=c, offset=-1.0),
        numbers(valid_from=later, slope=2.0),
    ]


def sensors_with_boundaries() -> list[Sensor]:
    shifted = [numbers(valid_from=instant(EDGES_US[1] - 5 * US), valid_to=instant(EDGES_US[1]), slope=9.0)]
    vanes = [
        numbers(valid_to=instant(EDGES_US[1]), dead_band_orientation_deg=350.0),
        numbers(valid_from=instant(EDGES_US[1]), dead_band_orientation_deg=10.0),
    ]
    return [
        make_sensor("a", calibrations=dated()),
        make_sensor("b", calibrations=shifted, statistic="sd"),
        make_vane("c", calibrations=vanes),
        make_sensor("d"),
    ]


@pytest.mark.parametrize("edge_us", EDGES_US)
@pytest.mark.parametrize("away_us", [-1, 0, 1])
def test_at_a_boundary_exactly_one_calibration_applies(edge_us: int, away_us: int) -> None:
    agree(sensors_with_boundaries(), np.full((1, 4), 7.7), np.array([edge_us + away_us]))


def test_a_frame_may_span_several_boundaries_in_any_order() -> None:
    around = [edge + away for edge in EDGES_US for away in (-60 * US, -1, 0, 1, 60 * US)]
    times = np.random.default_rng(1).permutation(np.array(around))
    agree(sensors_with_boundaries(), np.random.default_rng(2).normal(10, 3, (len(times), 4)), times)


def test_between_calibrations_nothing_is_calibrated() -> None:
    times = np.array([EDGES_US[2] + 30 * US])
    values, missing = calibrate(np.full((1, 1), 7.7), times, segments_of([make_sensor(calibrations=dated())]))
    assert (values.tolist(), missing.tolist()) == ([[7.7]], [[True]])


@pytest.mark.parametrize(
    "text", ["1911-07-02T03:04:05.000001", "2024-02-29T23:59:59.999999", "9999-12-31T23:59:59.999999"]
)
def test_dates_become_exact_microseconds(text: str) -> None:
    time = datetime.fromisoformat(text).replace(tzinfo=UTC)
    assert instant(micros(time)) == time


def test_no_rows_are_calibrated_to_no_values() -> None:
    values, missing = calibrate(np.empty((0, 1)), np.empty(0, np.int64), segments_of([make_sensor()]))
    assert values.shape == missing.shape == (0, 1)
