"""What one look at a frame tells of its channels, so that almost no test needs a second one. Pure.

Of a good day's frame the lowest and highest values and the largest change from row to row show that no limit can have
been touched. Each bound holds for the numbers as the tests compute them, roundings included; where it does not rule a
finding out, the test looks at the readings of just those channels.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles
from streams.quality.found import Bools, Index

LARGE = 1e300  # beyond it sums may be infinite, and no bound holds
ROUNDING = 1e-15  # some units in the last place


@dataclass(frozen=True, slots=True)
class Glance:
    """Of c channels."""

    low: Doubles  # (c,) NaN: no reading
    high: Doubles
    missing: Bools | None  # (n, c) which readings; None: none
    doubt: Bools | None  # (c,) which may have no test that always evaluates; None: none

    def doubtful(self, columns: Index) -> bool:
        """Whether a test of these has to say of each reading whether it was evaluated, not only what it found."""
        return self.doubt is not None and bool(self.doubt[columns].any())

    def infinite(self) -> bool:
        """Whether any value is."""
        return bool(np.isinf(self.low).any() or np.isinf(self.high).any())


def glance(values: Doubles, doubt: Bools | None) -> Glance:
    """At values (n, c), n > 0."""
    low = np.minimum.reduce(values, axis=0)
    missing = None
    if np.isnan(low).any():
        missing = np.isnan(values)
        low, high = np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
    else:
        high = np.maximum.reduce(values, axis=0)
    return Glance(low, high, missing, doubt)


@dataclass(frozen=True, slots=True)
class Steps:
    """From row to row."""

    change: Doubles  # (n, k) since the row before; NaN where one of them is missing
    largest: Doubles  # (k,) either way; NaN: there is none


def steps(values: Doubles, last: Doubles) -> Steps:
    """Of values (n, k) that come behind the row `last` (k,)."""
    change = np.empty_like(values)
    np.subtract(values[1:], values[:-1], out=change[1:])
    np.subtract(values[0], last, out=change[0])
    return Steps(change, largest_of(change))


def with_those_before(
    moved: Steps, look: Glance, at: Index, previous: Doubles, last: Doubles
) -> tuple[Doubles, Doubles]:
    """The largest change and the largest value, of the columns `at` of a frame and the two rows before it, each (k,).

    `previous` and `last` (k,), or (d, k) of several frames.
    """
    step, size = np.abs(last - previous), np.fmax(np.abs(last), np.abs(previous))
    if step.ndim > 1:
        step, size = np.fmax.reduce(step, axis=0), np.fmax.reduce(size, axis=0)
    here = np.fmax(np.abs(look.low[at]), np.abs(look.high[at]))
    return np.fmax(moved.largest, step), np.fmax(here, size)


def largest_of(change: Doubles) -> Doubles:
    """The largest of changes (n, k) either way: (k,)."""
    up, down = np.fmax.reduce(change, axis=0), np.fmin.reduce(change, axis=0)
    largest: Doubles = np.maximum(up, -down)
    return largest
