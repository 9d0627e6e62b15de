"""Deviation of the interval at zero, or as little as cannot be. Pure: pointwise, by the channel of the deviation."""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.found import Columns, Found


@dataclass(frozen=True, slots=True)
class Deviations:
    """Limits of k channels; `sd` are the columns of their deviations."""

    columns: Columns
    sd: Columns
    suspect: Doubles  # (k,)
    fail: Doubles

    def find(self, values: Doubles, times: Longs) -> Found:
        """As little as a limit is flagged; where the deviation is missing nothing is evaluated."""
        sd = self.sd.of(values)
        low = sd <= np.fmax(self.suspect, self.fail)
        if not low.any():
            return Found(None, None, sd)
        return Found(sd <= self.suspect, sd <= self.fail, sd)
