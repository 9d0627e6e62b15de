"""QARTOD's rate of change test. Pure: |v[i] - v[i-1]| per second of the rows' own times; strict.

The first reading, and one behind a missing one, is good. Differences of directions go the shorter way around.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles
from streams.quality.angles import HALF, turn
from streams.quality.found import Columns, Found, Index, beyond
from streams.quality.glance import Steps


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits of k channels, units per second."""

    columns: Columns
    circular: bool
    suspect: Doubles  # (k,)
    fail: Doubles


def rates(steps: Steps, steps_s: Doubles, test: Rates) -> tuple[Index, Found] | None:
    """Which of the rows changed too fast, `steps_s` (n,) after the one before, and in which columns; None: none."""
    at, largest, limit = test.columns.at, test.columns.among(steps.largest), np.fmin(test.suspect, test.fail)
    shortest = steps_s.min()
    if shortest > 0:  # the largest change in the shortest time bounds all: division never turns an order around
        if test.circular:  # the shorter way around is not longer than that
            largest = np.fmin(largest, HALF)
        perhaps = np.flatnonzero(largest / shortest > limit)
    else:
        perhaps = np.arange(len(at))
    if not len(perhaps):
        return None
    at = at[perhaps]
    change = steps.change[:, at]
    if test.circular:
        change = turn(change)
    np.abs(change, out=change)
    change /= steps_s[:, None]
    suspect, fail = beyond(change, test.suspect[perhaps], test.fail[perhaps])
    return None if suspect is None else (at, Found(suspect, fail, None))
