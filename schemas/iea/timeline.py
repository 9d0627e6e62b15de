"""Dated lists of the data model as half-open intervals, and several of them merged. Pure: dates in, intervals out.

Dates are the logger's local time, naive. The data model wants the next date_from to equal the former date_to; real
files also write the last minute (17:59, then 18:00). Holes of up to one averaging step lie between two rows of the
logger and are closed; longer ones stay holes. Two entries that are valid at the same time contradict each other and
are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")

OPEN = datetime(2100, 1, 1)  # noqa: DTZ001 - local time of a logger, which has no zone
"""Still valid. The data model writes null, or this date where null is not allowed."""


@dataclass(frozen=True, slots=True)
class Span(Generic[T]):
    """A value that is valid in [start, end). `index` is its place in the file's list."""

    start: datetime
    end: datetime
    value: T
    index: int = 0


class Contradiction(ValueError):  # noqa: N818 - named after what is wrong with the file
    """Two entries of one list cannot both be true, or one ends before it begins."""

    def __init__(self, index: int, field: str, what: str) -> None:
        super().__init__(what)
        self.index = index
        self.field = field
        self.what = what


def in_order(spans: Sequence[Span[T]], *, hole_max: timedelta) -> list[Span[T]]:
    """The spans by their start, without empty ones, with holes of up to `hole_max` closed.

    Raises `Contradiction` where one ends before it begins or two overlap.
    """
    for span in spans:
        if span.end < span.start:
            raise Contradiction(span.index, "date_to", f"must not be before its date_from {span.start.isoformat()}")
    ordered = sorted((span for span in spans if span.start < min(span.end, OPEN)), key=lambda span: span.start)
    for former, later in pairwise(ordered):
        if former.end > later.start:
            until = "has no end" if former.end >= OPEN else f"ends {former.end.isoformat()}"
            what = f"must not be before the end of entry [{former.index}], which {until}"
            raise Contradiction(later.index, "date_from", f"{later.start.isoformat()} {what}")
    closed = [
        Span(former.start, later.start, former.value, former.index) if later.start - former.end <= hole_max else former
        for former, later in pairwise(ordered)
    ]
    return [*closed, *ordered[-1:]]


def merged(
    leading: Sequence[Span[T]], second: Sequence[Span[U]], third: Sequence[Span[V]]
) -> list[tuple[datetime, datetime, T, U | None, V | None]]:
    """The leading line, cut wherever another one changes, with what each of the others says (None: nothing).

    Each line must be in order and without overlap (`in_order`); so is the result: (start, end, and three values).
    """
    edges = {span.start for line in (leading, second, third) for span in line}
    edges |= {span.end for line in (leading, second, third) for span in line}
    cuts = sorted(edges)
    return [
        (start, end, span.value, _valid_at(second, start), _valid_at(third, start))
        for span in leading
        for start, end in pairwise([span.start, *(cut for cut in cuts if span.start < cut < span.end), span.end])
    ]


def _valid_at(line: Sequence[Span[T]], instant: datetime) -> T | None:
    return next((span.value for span in line if span.start <= instant < span.end), None)
