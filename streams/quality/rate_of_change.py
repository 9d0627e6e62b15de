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
    return beyond(np.abs(change) / steps_s[:, None], test.suspect, test.fail)
