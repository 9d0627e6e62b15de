"""The tests of QARTOD against ioos_qc, where its own defects do not stand in the way (whole seconds, three rows)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core_examples import START_US, US, make_device, make_sensor
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.quality.checks import course_of
from streams.quality.judge import judge

qartod: Any = pytest.importorskip("ioos_qc.qartod")

Values = npt.NDArray[np.float64]
NUMBERS = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0, -4.0, float("nan")]), st.floats(-20, 20, width=32)
)
SERIES = st.lists(NUMBERS, min_size=3, max_size=60).map(np.array)
LIMITS = st.sampled_from([0.5, 1.0, 1.5, 2.5, 7.0])


def flags(values: Values, limits: dict[str, Any], times: npt.NDArray[np.int64] | None = None) -> list[int]:
    """Flags of the last row included, which no further row will judge."""
    course = course_of(make_device(make_sensor("a", limits=limits), interval_s=2.0))
    column = values[:, None].astype(np.float64)
    times = START_US + np.arange(len(values)) * 2 * US if times is None else times
    judged = judge(course.begin(), times, column, column, course.checks(("a",)))
    return [int(flag) for flag in judged.flags[:, 0]]


def clock(times: npt.NDArray[np.int64]) -> Any:
    return times.astype("datetime64[us]").astype("datetime64[ns]")


@given(values=SERIES, low=st.floats(-5, 0), high=st.floats(0, 5))
def test_gross_range(values: Values, low: float, high: float) -> None:
    theirs = qartod.gross_range_test(values, (low * 2, high * 2), (low, high))
    assert flags(values, {"gross_range": {"fail": [low * 2, high * 2], "suspect": [low, high]}}) == theirs.tolist()


@settings(max_examples=300)
@given(values=SERIES, suspect=LIMITS, more=LIMITS, method=st.sampled_from(["average", "differential"]))
def test_spike(values: Values, suspect: float, more: float, method: str) -> None:
    if not np.isnan(values).any():
        values = np.append(values, np.nan)  # without a missing value its mask is no array, and it raises
    theirs = qartod.spike_test(values, suspect, suspect + more, method=method)
    limits = {"spike": {"method": method, "suspect": suspect, "fail": suspect + more}}
    assert flags(values, limits) == theirs.tolist()


@settings(max_examples=200)
@given(values=SERIES, suspect=LIMITS, more=LIMITS, data=st.data())
def test_rate_of_change(values: Values, suspect: float, more: float, data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(1, 5), min_size=len(values), max_size=len(values)))
    times = START_US + np.cumsum(steps) * US
    theirs = qartod.rate_of_change_test(values, clock(times), suspect, suspect + more)
    limits = {"rate_of_change": {"suspect_per_s": suspect, "fail_per_s": suspect + more}}
    assert flags(values, limits, times) == theirs.tolist()


@settings(max_examples=300)
@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.25, float("nan")]), min_size=3, max_size=60).map(np.array),
    suspect_s=st.integers(2, 30),
    more_s=st.integers(0, 30),
    tolerance=st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]),
)
def test_flat_line(values: Values, suspect_s: int, more_s: int, tolerance: float) -> None:
    times = START_US + np.arange(len(values)) * 2 * US
    fail_s = suspect_s + more_s
    theirs = qartod.flat_line_test(values, clock(times), suspect_s, fail_s, tolerance)
    limits = {"flat_line": {"tolerance": tolerance, "suspect_s": suspect_s, "fail_s": fail_s}}
    assert flags(values, limits) == theirs.tolist()


@given(steps_h=st.lists(st.integers(1, 6), min_size=3, max_size=40), fail_h=st.integers(1, 6))
def test_gap(steps_h: list[int], fail_h: int) -> None:
    times = START_US + np.cumsum(steps_h) * 3600 * US
    theirs = qartod.time_gap_test(clock(times), fail_h)
    assert flags(np.ones(len(times)), {"gap": {"fail_s": fail_h * 3600}}, times) == theirs.tolist()
