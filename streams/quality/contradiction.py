"""Minimum, average, maximum and deviation of one interval that cannot all be true. Pure: pointwise.

How far they are apart: the most of min - avg, avg - max, min - max, -sd, of those that are there. A negative number
is how well they agree.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.found import NOTHING, Columns, Found, beyond
from streams.quality.glance import Glance


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Limits of k channels; a column of -1 says that the channel has no such statistic."""

    columns: Columns
    minimum: Columns | None
    average: Columns | None
    maximum: Columns | None
    sd: Columns | None
    suspect: Doubles  # (k,)
    fail: Doubles

    def find(self, values: Doubles, times: Longs, look: Glance) -> Found:
        """Where no two statistics are there, nothing is evaluated."""
        low, mean, high, sd = (_of(c, values) for c in (self.minimum, self.average, self.maximum, self.sd))
        pairs = [(a, b) for a, b in ((low, mean), (mean, high), (low, high)) if a is not None and b is not None]
        if not look.doubtful(self.columns.at):  # limits are not negative: what is in order contradicts none
            turned = sd is not None and (sd < 0).any()
            if not turned and not any((less > more).any() for less, more in pairs):
                return NOTHING
        apart = np.full((len(values), len(self.columns.at)), np.nan)
        for less, more in pairs:
            np.fmax(apart, less - more, out=apart)
        if sd is not None:
            np.fmax(apart, -sd, out=apart)
        return Found(*beyond(apart, self.suspect, self.fail), apart)


def _of(column: Columns | None, values: Doubles) -> Doubles | None:
    """The statistic of each channel; None if no channel has it."""
    if column is None:
        return None
    found = column.of(values)
    absent = column.at < 0
    return np.where(absent, np.nan, found) if absent.any() else found
