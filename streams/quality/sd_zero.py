"""Deviation of the interval at zero, or as little as cannot be. Pure: pointwise, by the channel of the deviation."""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.found import NOTHING, Columns, Found
from streams.quality.glance import Glance


@dataclass(frozen=True, slots=True)
class Deviations:
    """Limits of k channels; `sd` are the columns of their deviations."""

    columns: Columns
    sd: Columns
    suspect: Doubles  # (k,)
    fail: Doubles

    def find(self, values: Doubles, times: Longs, look: Glance) -> Found:
        """As little as a limit is flagged; where the deviation is missing nothing is evaluated."""
        if not (look.low[self.sd.at] <= np.fmax(self.suspect, self.fail)).any() and not look.doubtful(self.columns.at):
            return NOTHING
        sd = self.sd.of(values)
        return Found(sd <= self.suspect, sd <= self.fail, sd)
