"""QARTOD's spike test. Pure: a row is judged by its two neighbours, so the last row of a series is never judged.

    average         |v[i] - (v[i-1] + v[i+1]) / 2| > limit
    differential    the smaller of |v[i] - v[i-1]| and |v[i+1] - v[i]| > limit, where the steps have opposite signs

Where a neighbour is missing, the reading is not evaluated. Differences of directions go the shorter way around.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles
from streams.quality.angles import turn
from streams.quality.found import Columns, Found, beyond


@dataclass(frozen=True, slots=True)
class Spikes:
    """Limits of k channels that are tested in the same way."""

    columns: Columns
    differential: bool
    circular: bool
    suspect: Doubles  # (k,)
    fail: Doubles


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
