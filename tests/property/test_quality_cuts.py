"""Quality flags do not depend on how a series is cut into frames, once corrections have come."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core_examples import START_US, US, make_device, make_sensor, make_vane
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.quality.checks import Course, course_of
from streams.quality.context import Context, fitted, from_columns, to_columns
from streams.quality.judge import judge

LEVELS = st.sampled_from([0.0, 0.1, 0.2, 1.0, 4.0, 9.0, 11.0, float("nan"), float("inf")])
ANGLES = st.sampled_from([0.0, 0.05, 359.95, 180.0, 179.9, 90.0, 270.0, 360.0, float("nan")])


def full_limits(**changes: Any) -> dict[str, Any]:
    return {
        "gross_range": {"fail": [0, 10], "suspect": [0, 9]},
        "spike": {"suspect": 2.0, "fail": 5.0},
        "rate_of_change": {"suspect_per_s": 2.0, "fail_per_s": 5.0},
        "flat_line": {"tolerance": 0.15, "suspect_s": 3, "fail_s": 6},
        "gap": {"suspect_s": 1.5, "fail_s": 4.0},
        "icing": {"tolerance": 0.3, "suspect_s": 2, "fail_s": 30, "temperature": "t", "below": 1.0},
        "stalled_at_offset": {"offset": 0.1, "tolerance": 0.1, "suspect_s": 2, "fail_s": 4},
        "sensor_pair": {"other": "b", "suspect_difference": 5.0},
        "battery_low": {"battery": "t", "suspect": 0.15},
        **changes,
    }


DEVICE = make_device(
    make_sensor("a", limits=full_limits()),
    make_sensor("b", limits={"spike": {"method": "differential", "suspect": 1.0}, "gap": {"fail_s": 2.0}}),
    make_vane("v", limits=full_limits(dead_band={"orientation_deg": 0.0, "suspect_width_deg": 8.0})),
    make_sensor("t", quantity="air_temperature", limits={"spike": {"suspect": 3.0}}),
    make_sensor("long", limits={"flat_line": {"tolerance": 1.5, "suspect_s": 17, "fail_s": 40}}),
    make_sensor("free"),
)
CHANNELS = tuple(sensor.channel for sensor in DEVICE.sensors)


@st.composite
def series(draw: st.DrawFn) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    n = draw(st.integers(1, 90))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 5]), min_size=n, max_size=n))
    columns = [draw(st.lists(ANGLES if name == "v" else LEVELS, min_size=n, max_size=n)) for name in CHANNELS]
    flat = draw(st.integers(0, n))
    values = np.array(columns).T
    values[: flat // 2] = values[0]  # a stretch that stands still
    values[flat:, 4] = np.linspace(0, 1, n - flat)
    return START_US + np.cumsum(steps) * US, values


def in_frames(
    course: Course,
    channels: tuple[str, ...],
    times: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    cuts: list[int],
    *,
    stored: bool = False,
) -> tuple[Any, Any, Context]:
    """Flags and tests of all rows after corrections, and the memory at the end."""
    checks = course.checks(channels)
    context = course.begin()
    flags, tests = np.zeros(values.shape, int), np.zeros(values.shape, int)
    for start, end in zip([0, *cuts], [*cuts, len(times)], strict=True):
        if stored:
            context = fitted(from_columns(to_columns(context)), course.layout)
        part = slice(start, end)
        judged = judge(context, times[part], values[part], values[part], checks)
        context = judged.context
        flags[part], tests[part] = judged.flags, judged.tests
        for again in judged.corrections:
            row = int(np.searchsorted(times, again.time))
            flags[row, again.columns], tests[row, again.columns] = again.flags, again.tests
            np.testing.assert_array_equal(again.values, values[row, again.columns])
    return flags, tests, context


@settings(max_examples=200, deadline=None)
@given(data=st.data(), rows=series(), stored=st.booleans())
def test_flags_do_not_depend_on_cuts(data: st.DataObject, rows: Any, *, stored: bool) -> None:
    times, values = rows
    course = course_of(DEVICE)
    whole = in_frames(course, CHANNELS, times, values, [])
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(times) - 1, 1)))) - {len(times)})
    cut = in_frames(course, CHANNELS, times, values, cuts, stored=stored)
    np.testing.assert_array_equal(cut[0], whole[0])
    np.testing.assert_array_equal(cut[1], whole[1])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rows=series())
def test_channels_may_come_in_frames_of_their_own(data: st.DataObject, rows: Any) -> None:
    """Each channel keeps its own past; only tests that compare channels need them in one row."""
    times, values = rows
    alone = course_of(DEVICE.model_copy(update={"sensors": tuple(map(without_others, DEVICE.sensors))}))
    whole, whole_tests, _ = in_frames(alone, CHANNELS, times, values, [])
    checks = {name: alone.checks((name,)) for name in CHANNELS}
    context = alone.begin()
    flags, tests = np.zeros(values.shape, int), np.zeros(values.shape, int)
    order = [(row, column) for row in range(len(times)) for column in range(len(CHANNELS))]
    if data.draw(st.booleans()):
        order.sort(key=lambda cell: (cell[1], cell[0]))
    for row, column in order:
        cell = values[row : row + 1, column : column + 1]
        judged = judge(context, times[row : row + 1], cell, cell, checks[CHANNELS[column]])
        context = judged.context
        flags[row, column], tests[row, column] = judged.flags[0, 0], judged.tests[0, 0]
        for again in judged.corrections:
            before = int(np.searchsorted(times, again.time))
            flags[before, column], tests[before, column] = again.flags[0], again.tests[0]
    np.testing.assert_array_equal(flags, whole)
    np.testing.assert_array_equal(tests, whole_tests)


def without_others(sensor: Any) -> Any:
    nothing = {"icing": None, "sensor_pair": None, "battery_low": None}
    return sensor.model_copy(update={"limits": sensor.limits.model_copy(update=nothing)})


@settings(max_examples=100, deadline=None)
@given(rows=series(), data=st.data())
def test_late_rows_change_nothing_that_was_said(rows: Any, data: st.DataObject) -> None:
    """Rows behind the last are judged by themselves; rows in order are judged as if those had never come."""
    times, values = rows
    course = course_of(DEVICE)
    checks = course.checks(CHANNELS)
    flags, tests, _ = in_frames(course, CHANNELS, times, values, [])
    late = sorted(data.draw(st.sets(st.integers(0, len(times) - 1))))
    at, order = 0, []
    for row in range(len(times)):  # each late row comes a second time, right behind the row after it
        order.append((row, False))
        while at < len(late) and late[at] < row:
            order.append((late[at], True))
            at += 1
    where = np.array([row for row, _ in order])
    again = np.array([is_late for _, is_late in order])
    judged = judge(course.begin(), times[where], values[where], values[where], checks)
    np.testing.assert_array_equal(judged.flags[~again], flags)
    np.testing.assert_array_equal(judged.tests[~again], tests)
    looks_back = 0b0000_0001_0011_1110  # spike, rate, flat, gap, icing, stalled
    assert not (judged.tests[again] & looks_back).any()


def test_a_new_configuration_keeps_what_is_still_asked_for() -> None:
    course = course_of(DEVICE)
    times, values = START_US + np.arange(9) * US, np.ones((9, len(CHANNELS)))
    *_, context = in_frames(course, CHANNELS, times, values, [])
    fewer = course_of(DEVICE.model_copy(update={"sensors": DEVICE.sensors[::-1][:3]}))
    kept = fitted(context, fewer.layout)
    assert kept.layout.channels == ("free", "long", "t")
    assert kept.values.tolist() == [1.0, 1.0, 1.0]
    assert kept.records.depth.tolist() == [9]


@pytest.mark.parametrize("more", [True, False])
def test_rows_without_a_reading_take_nothing_of_what_is_remembered(more: bool) -> None:
    """Two of the last rows are missing: another configuration, or a frame of other channels, keeps the row before."""
    flat = {"flat_line": {"tolerance": 0.5, "suspect_s": 2, "fail_s": 4}}
    sensors = [make_sensor("a", limits=flat), make_sensor("b", limits=flat)]
    first = course_of(make_device(*sensors))
    values = np.array([0.0, 1.0] * 9 + [2.0, np.nan, 5.0, 5.0])[:, None]
    times = START_US + np.arange(len(values) + 1) * US
    context = judge(first.begin(), times[:-1], values, values, first.checks(("a",))).context
    then = course_of(make_device(*sensors, make_sensor("c", limits=flat))) if more else first
    five = np.array([[5.0]])
    judged = judge(context, times[-1:], five, five, then.checks(("a",)))
    assert judged.flags.tolist() == [[3]]  # five rows back it read 2.0


LIVELY = make_device(make_sensor("a", limits={"flat_line": {"tolerance": 0.15, "suspect_s": 3, "fail_s": 20}}))


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, float("nan")]), st.sampled_from([1, 1, 1, 2, 5, 25]))),
    cuts=st.sets(st.integers(1, 200), max_size=8),
)
def test_flat_lines_of_a_lively_channel_do_not_depend_on_cuts(values: Any, cuts: set[int]) -> None:
    rows = [value for value, times in [(3.0, 1), *values] for _ in range(times)]
    column = np.array(rows)[:, None]
    times = START_US + np.arange(len(rows)) * US
    course = course_of(LIVELY)
    whole = in_frames(course, ("a",), times, column, [])
    cut = in_frames(course, ("a",), times, column, sorted(at for at in cuts if at < len(rows)), stored=True)
    np.testing.assert_array_equal(cut[0], whole[0])
