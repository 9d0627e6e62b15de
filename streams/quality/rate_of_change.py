"""QARTOD's rate of change test. Pure: |v[i] - v[i-1]| per second of the rows' own times; strict.

The first reading, and one behind a missing one, is good. Differences of directions go the shorter way around.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles
from streams.quality.angles import turn
from streams.quality.found import Bools, Columns, beyond


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits of k channels, units per second."""

    columns: Columns
    circular: bool
    suspect: Doubles  # (k,)
    fail: Doubles


def rates(values: Doubles, before: Doubles, steps_s: Doubles, test: Rates) -> tuple[Bools | None, Bools | None]:
    """Which of values (n, k) are suspect and fail; `before` (n, k) are the values before them, `steps_s` (n,) ago."""
    change = values - before
    if test.circular:
        change = turn(change)
    np.abs(change, out=change)
    shortest = steps_s.min()
    if (
        shortest > 0
    ):  # the largest change in the shortest time: a bound of all, for division never turns an order around
        largest = np.fmax.reduce(change, axis=0)
        if not (largest / shortest > np.fmin(test.suspect, test.fail)).any():
            return None, None
    change /= steps_s[:, None]
    return beyond(change, test.suspect, test.fail)
