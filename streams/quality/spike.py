"""QARTOD's spike test. Pure: a row is judged by its two neighbours, so the last row of a series is never judged.

    average         |v[i] - (v[i-1] + v[i+1]) / 2| > limit
    differential    the smaller of |v[i] - v[i-1]| and |v[i+1] - v[i]| > limit, where the steps have opposite signs

Where a neighbour is missing, the reading is not evaluated. Differences of directions go the shorter way around.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles
from streams.quality.angles import turn
from streams.quality.found import Columns, Found, Index, beyond, columns
from streams.quality.glance import LARGE, ROUNDING


@dataclass(frozen=True, slots=True)
class Spikes:
    """Limits of k channels that are tested in the same way."""

    columns: Columns
    differential: bool
    circular: bool
    suspect: Doubles  # (k,)
    fail: Doubles

    def of(self, which: Index) -> "Spikes":
        """The test for some of its channels."""
        at = columns(self.columns.at[which], 0)
        return Spikes(at, self.differential, self.circular, self.suspect[which], self.fail[which])


QUARTER = 89.9  # steps below it do not go around: their sum is the way between the neighbours


def perhaps_spikes(largest: Doubles, size: Doubles, test: Spikes) -> Index:
    """Which channels may have a spike, where rows change by `largest` (c,) and values are not beyond `size` (c,).

    With steps a and b, a row is |a - b| / 2 off the middle of its neighbours: the larger of |a| and |b| at most.
    """
    largest, size = test.columns.among(largest), test.columns.among(size)
    bound = largest + ROUNDING * (largest + size)
    sure = bound <= np.fmin(test.suspect, test.fail)
    if not test.differential:
        sure &= size < LARGE
        if test.circular:
            sure &= bound < QUARTER
    return test.columns.at[~(sure | np.isnan(largest))]


def spikes(before: Doubles, here: Doubles, after: Doubles, test: Spikes) -> Found:
    """What the values `here` (n, k) are between those before and after them."""
    if test.differential:
        came, goes = here - before, after - here
        if test.circular:
            came, goes = turn(came), turn(goes)
        size = np.minimum(np.abs(came), np.abs(goes))
        suspect, fail = beyond(size, test.suspect, test.fail)
        if suspect is not None and fail is not None:
            opposite = (came > 0) != (goes > 0)
            suspect, fail = suspect & opposite, fail & opposite
        return Found(suspect, fail, size)
    if test.circular:
        size = np.abs(turn(here - before - turn(after - before) / 2.0))
    else:  # |here - (before + after) / 2|, in place
        size = before + after
        size /= 2.0
        np.subtract(here, size, out=size)
        np.abs(size, out=size)
    return Found(*beyond(size, test.suspect, test.fail), size)
