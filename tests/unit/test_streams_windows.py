"""Windows as a time line: which reading lies where, when one closes, and what it says."""

import math

import numpy as np
import pytest
from core_examples import (
    START_US,
    US,
    advanced,
    in_log,
    limited,
    make_frame,
    make_plan,
    make_sensor,
    make_vane,
    one_by_one,
    windows_of,
)
from pydantic import ValidationError

from schemas.frames import RawFrame
from streams import windowing
from streams.pipeline import Outcome
from streams.plan import Plan
from streams.state import State

TEN = make_plan(make_sensor(statistic="sum", windows_s=[600]))


def after(*frames: RawFrame, plan: Plan = TEN) -> Outcome:
    return advanced(State("mast-7"), one_by_one(in_log(frames)), plan)[1]


def series(seconds: list[float], values: list[float] | None = None, sequence: int = 0) -> RawFrame:
    return make_frame(seconds, values, sequence=sequence)


def starts(outcome: Outcome) -> list[int]:
    return [row[0] for row in windows_of(outcome)]


def test_a_window_says_what_its_readings_are() -> None:
    outcome = after(series([0, 1, 599.999999, 600], [1.0, 2.0, 6.0, 99.0]))
    assert windows_of(outcome) == [(0, 600, "a", 3, 600, 0, 0, 0, 3.0, pytest.approx(math.sqrt(7)), 1.0, 6.0)]


def test_a_window_is_half_open() -> None:
    outcome = after(series([0, 599.999999], [1.0, 2.0]), series([600, 1200], [3.0, 4.0], 1))
    assert [(row[0], row[3], row[8]) for row in windows_of(outcome)] == [(0, 2, 1.5), (600, 1, 3.0)]


def test_only_a_later_reading_closes_a_window() -> None:
    outcome = after(series([0]), series([599.999999], sequence=1))
    assert starts(outcome) == []
    assert starts(after(series([0]), series([600], sequence=1))) == [0]


def test_lateness_keeps_a_window_open() -> None:
    plan = make_plan(make_sensor(), lateness_s=30)
    assert starts(after(series([0]), series([629.999999], sequence=1), plan=plan)) == []
    assert starts(after(series([0]), series([630], sequence=1), plan=plan)) == [0]


def test_late_reading_within_grace_equals_on_time() -> None:
    plan = make_plan(make_sensor(), lateness_s=30)
    late = after(
        series([0, 10]), series([610], sequence=1), series([20], sequence=2), series([700], sequence=3), plan=plan
    )
    on_time = after(
        series([0, 10]), series([20], sequence=1), series([610], sequence=2), series([700], sequence=3), plan=plan
    )
    assert windows_of(late) == windows_of(on_time)
    assert late.late == 0


def test_a_reading_behind_a_closed_window_is_counted_and_stored_in_no_window() -> None:
    outcome = after(series([0]), series([600], sequence=1), series([599, 601], sequence=2), series([1200], sequence=3))
    assert outcome.late == 1
    assert [(row[0], row[3]) for row in windows_of(outcome)] == [(0, 1), (600, 2)]
    assert sum(frame.values.size for frame in outcome.clean) == 5


def test_a_frame_alone_is_never_late_behind_itself() -> None:
    outcome = after(series([1200, 0, 600]))
    assert outcome.late == 0
    assert starts(outcome) == [0, 600]


def test_a_device_three_days_offline_is_windowed_right() -> None:
    """Closed by the device's own times: when the frames came does not matter."""
    seconds = np.arange(0, 3 * 86_400, 60)
    outcome = after(make_frame(seconds[:2000]), make_frame(seconds[2000:], sequence=1))
    assert starts(outcome) == list(range(0, 3 * 86_400 - 600, 600))
    assert {row[3] for row in windows_of(outcome)} == {10}


def test_suspect_failed_and_missing_readings_are_counted_and_left_out() -> None:
    plan = make_plan(make_sensor(limits=limited(fail=(0, 75), suspect=(0, 50))))
    outcome = after(series([0, 1, 2, 3, 4, 600], [7.0, 60.0, 99.0, math.nan, math.inf, 1.0]), plan=plan)
    start, _, _, count, _, suspect, failed, missing, *said = windows_of(outcome)[0]
    assert (start, count, suspect, failed, missing) == (0, 1, 1, 2, 1)
    assert said[0] == said[2] == said[3] == 7.0
    assert math.isnan(said[1])  # one reading has no deviation


def test_a_window_without_a_good_reading_has_no_statistics() -> None:
    outcome = after(series([0, 600], [math.nan, 1.0]))
    row = windows_of(outcome)[0]
    assert row[3:8] == (0, 600, 0, 0, 1)
    assert all(map(math.isnan, row[8:]))


def test_a_stretch_without_readings_makes_no_windows() -> None:
    assert starts(after(series([0]), series([6000, 6600], sequence=1))) == [0, 6000]


def test_a_direction_has_a_circular_mean_and_no_extremes() -> None:
    plan = make_plan(make_vane("a", statistic="avg"))
    row = windows_of(after(series([0, 1, 600], [350.0, 20.0, 0.0]), plan=plan))[0]
    assert row[8] == pytest.approx(5.0)
    resultant = math.cos(math.radians(15.0))
    e = math.sqrt(1 - resultant**2)
    assert row[9] == pytest.approx(math.degrees(math.asin(e) * (1 + (2 / math.sqrt(3) - 1) * e**3)))  # Yamartino 1984
    assert math.isnan(row[10])
    assert math.isnan(row[11])


def test_the_mean_of_north_is_zero_not_360() -> None:
    plan = make_plan(make_vane("a"))
    row = windows_of(after(series([0, 1, 600], [359.99999999999994, 0.0, 0.0]), plan=plan))[0]
    assert 0.0 <= row[8] < 360.0


def test_the_deviation_of_a_direction_is_an_ordinary_number() -> None:
    plan = make_plan(make_vane("a", statistic="sd"))
    row = windows_of(after(series([0, 1, 600], [350.0, 20.0, 0.0]), plan=plan))[0]
    assert (row[8], row[10], row[11]) == (185.0, 20.0, 350.0)


def test_a_small_deviation_on_a_large_value_is_kept() -> None:
    values = 1e9 + np.tile([0.0, 0.001], 300)
    row = windows_of(
        after(*(make_frame([s], [v], sequence=s) for s, v in enumerate(values)), make_frame([600], sequence=600))
    )[0]
    assert row[9] == pytest.approx(float(np.std(values, ddof=1)), rel=1e-6)


def test_each_length_has_windows_of_its_own() -> None:
    plan = make_plan(make_sensor("a", windows_s=[600, 1200]), make_sensor("b", windows_s=[600]))
    seconds = list(range(0, 2401, 60))
    outcome = after(make_frame(seconds, channels=("a", "b"), values=np.ones((41, 2))), plan=plan)
    found = {(row[1], row[2]): row[3] for row in windows_of(outcome)}
    assert set(found) == {(600, "a"), (600, "b"), (1200, "a")}
    # 1200 s windows are aligned to 1970, not to the first reading
    assert all((START_US // US + row[0]) % row[1] == 0 for row in windows_of(outcome))


def test_a_channel_that_appears_later_has_windows_from_then() -> None:
    plan = make_plan(make_sensor("a"), make_sensor("b"))
    first = make_frame([0])
    both = make_frame([1, 2], channels=("b", "a"), values=[[5.0, 1.0], [7.0, 1.0]], sequence=1)
    outcome = after(first, both, make_frame([600], sequence=2), plan=plan)
    assert [(row[2], row[3], row[8]) for row in windows_of(outcome)] == [("a", 3, 1.0), ("b", 2, 6.0)]


def test_the_windows_of_a_channel_that_is_no_longer_configured_are_let_go() -> None:
    two, one = make_plan(make_sensor("a"), make_sensor("b")), make_plan(make_sensor("b"))
    log = in_log([make_frame([0, 1], channels=("a", "b")), make_frame([600], channels=("b",), sequence=1)])
    state, _ = advanced(State("mast-7"), [log[:1]], two)
    _, outcome = advanced(state, [log[1:]], one)
    assert [(row[2], row[3]) for row in windows_of(outcome)] == [("b", 2)]


def test_a_length_that_is_no_longer_configured_is_let_go() -> None:
    long, short = make_plan(make_sensor(windows_s=[3600])), make_plan(make_sensor(windows_s=[600]))
    log = in_log([make_frame([0]), make_frame([600], sequence=1), make_frame([7200], sequence=2)])
    state, _ = advanced(State("mast-7"), [log[:1]], long)
    _, outcome = advanced(state, [log[1:]], short)
    assert [(row[0], row[1]) for row in windows_of(outcome)] == [(600, 600)]


def test_a_burst_of_windows_becomes_records_of_bounded_size() -> None:
    rows = windowing.WINDOWS_MAX + 2
    outcome = after(make_frame(np.arange(rows) * 600))
    assert [len(frame.channels) for frame in outcome.windows] == [windowing.WINDOWS_MAX, 1]
    assert starts(outcome) == list(range(0, 600 * (rows - 1), 600))


@pytest.mark.parametrize("value", [1.7e308, -1.7e308, 1e200])
def test_absurd_numbers_warn_nobody_and_stop_nothing(value: float) -> None:
    outcome = after(series([0, 1, 2, 600], [value, value, -value, 1.0]), series([1200], sequence=1))
    assert [row[3] for row in windows_of(outcome)] == [3, 1]
    assert windows_of(outcome)[1][8] == 1.0


@pytest.mark.parametrize("interval_s", [1e-320, 1e-18, 1e308])
def test_an_absurd_interval_stops_nothing(interval_s: float) -> None:
    plan = make_plan(make_sensor(), interval_s=interval_s)
    _, outcome = advanced(State("mast-7"), [in_log([make_frame([0, 600])])], plan)
    assert [row[3] for row in windows_of(outcome)] == [1]


def test_a_window_longer_than_a_year_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 31622400"):
        make_sensor(windows_s=[10**13])
