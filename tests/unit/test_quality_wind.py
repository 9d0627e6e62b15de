"""The tests that wind people expect: each by one small series of rows, one a second."""

import math
from typing import Any

import numpy as np
import pytest
from core_examples import START_US, US, instant, make_device, make_sensor, make_vane, numbers

from schemas.devices import Sensor
from schemas.quality import Test as Bit
from streams.quality.checks import course_of
from streams.quality.judge import judge

NAN = math.nan


def flags(sensors: list[Sensor], *rows: Any, bit: Bit, column: int = 0) -> list[int]:
    """Flags of a column; readings that are suspect or fail have this bit and no other."""
    course = course_of(make_device(*sensors))
    values = np.array(rows, np.float64).reshape(len(rows), -1)
    times = START_US + np.arange(len(values)) * US
    judged = judge(course.begin(), times, values, values, course.checks(tuple(s.channel for s in sensors)))
    found = [int(flag) for flag in judged.flags[:, column]]
    assert judged.tests[:, column].tolist() == [int(bit) if flag in {3, 4} else 0 for flag in found]
    return found


def test_ice_is_a_flat_line_in_the_cold() -> None:
    ice = {"tolerance": 0.2, "suspect_s": 2, "fail_s": 3, "temperature": "t", "below": 1.0}
    sensors = [make_sensor("a", limits={"icing": ice}), make_sensor("t")]
    rows = [(5.0, 3.0), (5.1, 2.0), (5.0, 1.0), (5.0, 0.9), (5.0, NAN), (5.0, 0.0), (6.0, 0.0)]
    assert flags(sensors, *rows, bit=Bit.ICING) == [1, 1, 1, 4, 2, 4, 1]


def test_a_vane_is_still_around_north() -> None:
    limits = {"flat_line": {"tolerance": 1.0, "suspect_s": 2}}
    vane, cup = make_vane("v", limits=limits), make_sensor("v", limits=limits)
    rows = [359.8, 0.1, 359.9, 0.0, 2.0, 180.2, 179.9, 180.0]
    assert flags([vane], *rows, bit=Bit.FLAT_LINE) == [1, 1, 3, 3, 1, 1, 1, 3]
    assert flags([cup], *rows[:4], bit=Bit.FLAT_LINE) == [1, 1, 1, 1]


@pytest.mark.parametrize("method", ["average", "differential"])
def test_a_vane_that_passes_north_is_no_spike(method: str) -> None:
    vane = make_vane(limits={"spike": {"method": method, "suspect": 20.0}})
    assert flags([vane], 350, 355, 5, 10, bit=Bit.SPIKE) == [2, 1, 1, 2]
    assert flags([vane], 359, 30, 1, bit=Bit.SPIKE) == [2, 3, 2]


def test_a_vane_turns_the_shorter_way() -> None:
    vane = make_vane(limits={"rate_of_change": {"suspect_per_s": 20.0, "fail_per_s": 90.0}})
    assert flags([vane], 350, 10, 31, 211, 31, bit=Bit.RATE_OF_CHANGE) == [1, 1, 3, 4, 4]


def test_no_deviation_is_suspect_by_the_points_own_channel() -> None:
    mean = make_sensor("a", point="P", limits={"sd_zero": {}})
    sd = make_sensor("s", point="P", statistic="sd", limits={"sd_zero": {"suspect": 0.1, "fail": 0.0}})
    rows = [(5.0, 0.5), (5.0, 0.0), (5.0, NAN), (NAN, 0.0), (5.0, 0.1)]
    assert flags([mean, sd], *rows, bit=Bit.SD_ZERO) == [1, 3, 2, 9, 1]
    assert flags([mean, sd], *rows, bit=Bit.SD_ZERO, column=1) == [1, 4, 9, 4, 3]


def test_statistics_of_one_point_must_not_contradict_one_another() -> None:
    names = ("avg", "min", "max", "sd")
    limits = {"contradiction": {"suspect": 0.0, "fail": 1.0}}
    sensors = [make_sensor(name, point="P", statistic=name, limits=limits) for name in names]
    rows = [(5, 4, 6, 1), (5, 5, 5, 0), (5, 5.5, 6, 1), (8, 4, 6, 1), (5, 4, 6, -0.1), (5, NAN, NAN, NAN)]
    for column in range(3):
        found = flags(sensors, *rows, bit=Bit.CONTRADICTION, column=column)
        assert found == ([1, 1, 3, 4, 3, 2] if column == 0 else [1, 1, 3, 4, 3, 9])


def test_a_cup_at_its_offset_for_long_has_stalled() -> None:
    limits = {"stalled_at_offset": {"tolerance": 0.01, "suspect_s": 2, "fail_s": 4}}
    cup = make_sensor("a", calibrations=[numbers(offset=0.25)], limits=limits)
    rows = [0.25, 0.25, 5.0, 0.25, NAN, 0.255, 0.25, 0.25, 4.0, 4.0, 4.0]
    assert flags([cup], *rows, bit=Bit.STALLED_AT_OFFSET) == [1, 1, 1, 1, 9, 3, 3, 4, 1, 1, 1]


def test_every_test_that_found_it_still_says_so() -> None:
    still = {"suspect_s": 2, "fail_s": 3}
    limits = {
        "flat_line": {"tolerance": 0.1, **still},
        "icing": {"tolerance": 0.1, "temperature": "t", **still},
        "stalled_at_offset": {"offset": 0.5, **still},
    }
    course = course_of(make_device(make_sensor("a", limits=limits), make_sensor("t", quantity="air_temperature")))
    values = np.array([[0.5, -3.0]] * 5)
    judged = judge(course.begin(), START_US + np.arange(5) * US, values, values, course.checks(("a", "t")))
    all_three = int(Bit.FLAT_LINE | Bit.ICING | Bit.STALLED_AT_OFFSET)
    assert judged.flags[:, 0].tolist() == [1, 1, 3, 4, 4]
    assert judged.tests[:, 0].tolist() == [0, 0, all_three, all_three, all_three]


def test_the_offset_is_that_of_the_calibration_at_the_time() -> None:
    change = instant(START_US + 2 * US)
    dated = [numbers(offset=0.25, valid_to=change), numbers(offset=0.5, valid_from=change)]
    cup = make_sensor("a", calibrations=dated, limits={"stalled_at_offset": {"suspect_s": 1}})
    assert flags([cup], 0.25, 0.25, 0.25, 0.5, 0.5, bit=Bit.STALLED_AT_OFFSET) == [1, 3, 1, 1, 3]
    unknown = make_sensor("a", limits={"stalled_at_offset": {"suspect_s": 1}})
    assert flags([unknown], 0.0, 0.0, bit=Bit.STALLED_AT_OFFSET) == [2, 2]


def test_the_edges_of_a_dead_band_are_good() -> None:
    table = {"suspect_width_deg": 8.0, "fail_width_deg": 4.0}
    vane = make_vane(limits={"dead_band": {**table, "orientation_deg": 0.0}})
    assert flags([vane], 356.0, 356.1, 358.0, 358.1, 1.9, 2.0, 4.0, bit=Bit.DEAD_BAND) == [1, 3, 3, 4, 4, 3, 1]
    own = make_vane(limits={"dead_band": table}, calibrations=[numbers(dead_band_orientation_deg=90.0)])
    assert flags([own], 90.0, 0.0, bit=Bit.DEAD_BAND) == [4, 1]
    unknown = make_vane(limits={"dead_band": table})
    assert flags([unknown], 90.0, bit=Bit.DEAD_BAND) == [2]


def test_a_pair_differs_by_difference_and_by_ratio() -> None:
    table = {"other": "b", "suspect_difference": 1.0, "fail_difference": 3.0}
    sensors = [make_sensor("a", limits={"sensor_pair": table}), make_sensor("b")]
    rows = [(5, 5), (5, 6), (5, 6.5), (5, 9), (5, NAN), (NAN, 5)]
    assert flags(sensors, *rows, bit=Bit.SENSOR_PAIR) == [1, 1, 3, 4, 2, 9]
    ratio = {"other": "b", "suspect_ratio": [0.5, 2.0], "fail_ratio": [0.25, 4.0], "ratio_above": 1.0}
    sensors[0] = make_sensor("a", limits={"sensor_pair": ratio})
    rows = [(4, 2), (4.1, 2), (10, 2), (2, 10), (0.5, 9), (1, 0)]
    assert flags(sensors, *rows, bit=Bit.SENSOR_PAIR) == [1, 3, 4, 4, 2, 2]


def test_two_vanes_differ_the_shorter_way() -> None:
    vane = make_vane("a", limits={"sensor_pair": {"other": "b", "suspect_difference": 15.0}})
    assert flags([vane, make_vane("b")], (355, 5), (350, 10), bit=Bit.SENSOR_PAIR) == [1, 3]


def test_a_low_battery_is_said_of_every_channel_that_depends_on_it() -> None:
    sensors = [make_sensor("a", limits={"battery_low": {"battery": "v", "suspect": 11.8, "fail": 11.0}})]
    sensors.append(make_sensor("v"))
    rows = [(5, 11.8), (5, 11.7), (5, 10.9), (5, NAN)]
    assert flags(sensors, *rows, bit=Bit.BATTERY_LOW) == [1, 3, 4, 2]


def test_the_shortest_gap_is_good_and_the_first_row_is_as_the_second() -> None:
    course = course_of(make_device(make_sensor(limits={"gap": {"suspect_s": 1, "fail_s": 10}})))
    times = START_US + np.array([0, 11, 12, 14]) * US
    ones = np.ones((4, 1))
    judged = judge(course.begin(), times, ones, ones, course.checks(("a",)))
    assert judged.flags[:, 0].tolist() == [4, 4, 1, 3]


def test_a_correction_comes_with_the_row_as_it_was_sent() -> None:
    course = course_of(make_device(make_sensor("a", limits={"spike": {"suspect": 1.0}}), make_sensor("b")))
    checks = course.checks(("a", "b"))
    known = np.array([[0, int(Bit.NOT_CALIBRATED)]] * 2)
    values, logged = np.array([[5.0, 1.0], [9.0, 2.0]]), np.array([[50.0, 1.0], [90.0, 2.0]])
    context, sent, *_ = judge(course.begin(), START_US + np.arange(2) * US, values, logged, checks, known=known)
    assert sent.tolist() == [[2, 2], [2, 2]]
    third = np.array([[5.0, 3.0]])
    *_, corrections, _ = judge(context, np.array([START_US + 2 * US]), third, third, checks)
    (again,) = corrections
    assert (again.time, again.columns.tolist()) == (START_US + US, [0, 1])
    assert again.logged.tolist() == [90.0, 2.0]
    assert again.values.tolist() == [9.0, 2.0]
    assert again.flags.tolist() == [3, 2]
    assert again.tests.tolist() == [int(Bit.SPIKE), int(Bit.NOT_CALIBRATED)]


def test_a_row_that_was_replaced_is_corrected_no_more() -> None:
    course = course_of(make_device(make_sensor("a", limits={"spike": {"suspect": 1.0}})))
    checks, context = course.checks(("a",)), course.begin()
    found = []
    for second, reading in ((0, 5.0), (1, 9.0), (1, 5.0), (2, 5.0)):
        value = np.array([[reading]])
        context, _, _, corrections, _ = judge(context, np.array([START_US + second * US]), value, value, checks)
        found.append(len(corrections))
    assert found == [0, 0, 0, 0]


def test_a_row_that_was_replaced_in_a_frame_without_tests_is_corrected_no_more() -> None:
    course = course_of(make_device(make_sensor("a", limits={"spike": {"suspect": 1.0}}), make_sensor("free")))
    both, free, context = course.checks(("a", "free")), course.checks(("free",)), course.begin()
    for second, checks, row in ((0, both, [5.0, 1.0]), (1, both, [9.0, 1.0]), (1, free, [2.0]), (2, both, [5.0, 1.0])):
        value = np.array([row])
        context, _, _, corrections, _ = judge(context, np.array([START_US + second * US]), value, value, checks)
    assert [again.columns.tolist() for again in corrections] == [[0]]


def test_a_late_reading_beside_the_first_ones_of_another_channel_is_not_called_good() -> None:
    limits = {"flat_line": {"tolerance": 0.1, "suspect_s": 5}}
    course = course_of(make_device(make_sensor("a", limits=limits), make_sensor("b", limits=limits)))
    one = np.ones((1, 1))
    context, *_ = judge(course.begin(), np.array([START_US + 9 * US]), one, one, course.checks(("a",)))
    two = np.ones((1, 2))
    judged = judge(context, np.array([START_US]), two, two, course.checks(("a", "b")))
    assert judged.flags.tolist() == [[2, 1]]


def test_without_an_interval_nothing_is_guessed() -> None:
    device = make_device(make_sensor(limits={"flat_line": {"tolerance": 1, "suspect_s": 1}}), interval_s=None)
    course = course_of(device)
    ones = np.ones((9, 1))
    judged = judge(course.begin(), START_US + np.arange(9) * US, ones, ones, course.checks(("a",)))
    assert judged.flags.max() == 2
    assert judged.flags.min() == 2
