"""Merged time lines never overlap, and each instant has the numbers of each time line valid at it."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.iea.clock import Clock, Running
from schemas.iea.timeline import OPEN, Contradiction, Span, in_order, merged

START = datetime(2016, 1, 1)  # noqa: DTZ001 - a logger's local time
STEP = timedelta(minutes=10)


def at(minutes: int) -> datetime:
    return START + timedelta(minutes=minutes)


@st.composite
def lines(draw: st.DrawFn) -> list[Span[int]]:
    """Entries in order that do not overlap, with holes; the last may be open."""
    edges = sorted(draw(st.lists(st.integers(0, 300), min_size=2, max_size=12, unique=True)))
    spans = [Span(at(a), at(b), i, i) for i, (a, b) in enumerate(pairwise(edges)) if draw(st.booleans())]
    if spans and draw(st.booleans()):
        spans[-1] = Span(spans[-1].start, OPEN, spans[-1].value, spans[-1].index)
    return spans


def valid(line: list[Span[int]], instant: datetime) -> int | None:
    return next((span.value for span in line if span.start <= instant < span.end), None)


@given(lines(), lines(), lines())
def test_every_instant_has_what_each_line_says(a: list[Span[int]], b: list[Span[int]], c: list[Span[int]]) -> None:
    pieces = merged(a, b, c)
    assert all(former[1] <= later[0] for former, later in pairwise(pieces))
    for minute in range(-1, 302):
        instant = at(minute)
        found = [piece[2:] for piece in pieces if piece[0] <= instant < piece[1]]
        expected = (valid(a, instant), valid(b, instant), valid(c, instant))
        assert found == ([expected] if expected[0] is not None else [])


@given(lines(), st.randoms(use_true_random=False))
def test_holes_up_to_a_step_close_and_nothing_else_changes(line: list[Span[int]], chance: object) -> None:
    shuffled = list(line)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis types it as object
    closed = in_order(shuffled, hole_max=STEP)
    assert [span.start for span in closed] == [span.start for span in line]
    for old, new, later in zip(line, closed, [*line[1:], None][: len(line)], strict=True):
        hole = later.start - old.end if later else None
        assert new.end == (later.start if later and hole is not None and hole <= STEP else old.end)


@given(lines(), st.integers(0, 300), st.integers(1, 300))
def test_overlapping_entries_are_refused(line: list[Span[int]], start: int, length: int) -> None:
    extra = Span(at(start), at(start + length), -1, 99)
    clash = any(span.start < extra.end and extra.start < span.end for span in line)
    if clash:
        with pytest.raises(Contradiction):
            in_order([*line, extra], hole_max=STEP)
    else:
        assert len(in_order([*line, extra], hole_max=STEP)) == len(line) + 1


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(-840, 840)), unique_by=lambda x: x[0]), st.data())
def test_dates_on_utc_never_change_their_order(loggers: list[tuple[int, int]], data: st.DataObject) -> None:
    clock = Clock([Running(at(since), offset) for since, offset in sorted(loggers)])
    dates = sorted(data.draw(st.lists(st.integers(-2000, 8000), min_size=2)))
    instants = [clock.utc(at(date)) for date in dates]
    assert all(former <= later for former, later in pairwise(instants) if former and later)
