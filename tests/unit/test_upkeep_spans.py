"""Slices of a refresh: whole buckets, all of them, never below what was dropped, never one that is not over."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sinks.timescale.upkeep import EPOCH, SLICE, WIDTHS, spans

MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - see timezones
NOW = datetime(2026, 6, 15, 12, 34, 56, tzinfo=UTC)


def test_range_is_widened_to_whole_buckets():
    begin, end = datetime(2026, 1, 1, 0, 17, tzinfo=UTC), datetime(2026, 1, 1, 0, 31, tzinfo=UTC)
    assert list(spans(begin, end, width=timedelta(minutes=10), floor=None, now=NOW)) == [
        (datetime(2026, 1, 1, 0, 10, tzinfo=UTC), datetime(2026, 1, 1, 0, 40, tzinfo=UTC))
    ]


@given(MOMENTS, MOMENTS, st.none() | MOMENTS, st.sampled_from(sorted(WIDTHS.values())))
def test_slices_tile_between_floor_and_now(begin, end, floor, width):
    slices = list(spans(begin, end, width=width, floor=floor, now=NOW))
    for lower, upper in slices:
        assert lower < upper <= min(NOW - width, end + width)
        assert upper - lower <= SLICE
        assert (lower - EPOCH) % width == (upper - EPOCH) % width == timedelta(0)
        assert floor is None or lower >= floor
    for (_, former), (later, _) in pairwise(slices):
        assert former == later
    if slices and (floor is None or floor <= begin - width):
        assert slices[0][0] <= begin
    if slices and end < NOW - 3 * width:
        assert slices[-1][1] >= end
