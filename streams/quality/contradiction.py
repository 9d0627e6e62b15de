"""Minimum, average, maximum and deviation of one interval that cannot all be true. Pure: pointwise.

How far they are apart: the most of min - avg, avg - max, min - max, -sd, of those that are there. A negative number
is how well they agree.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.found import Columns, Found, beyond


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Limits of k channels; a column of -1 says that the channel has no such statistic."""

    columns: Columns
    minimum: Columns
    average: Columns
    maximum: Columns
    sd: Columns
    suspect: Doubles  # (k,)
    fail: Doubles

    def find(self, values: Doubles, times: Longs) -> Found:
        """Where no two statistics are there, nothing is evaluated."""
        low, mean, high, sd = (_of(c, values) for c in (self.minimum, self.average, self.maximum, self.sd))
        apart = np.fmax(np.fmax(low - mean, mean - high), np.fmax(low - high, -sd))
        return Found(*beyond(apart, self.suspect, self.fail), ~np.isnan(apart))


def _of(column: Columns, values: Doubles) -> Doubles:
    found = column.of(values)
    absent = column.at < 0
    return np.where(absent, np.nan, found) if absent.any() else found
