"""Low battery: nothing that the logger measured then can be trusted. Pure: pointwise, by its channel; strict."""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.found import NOTHING, Columns, Found
from streams.quality.glance import Glance


@dataclass(frozen=True, slots=True)
class Batteries:
    """Limits of k channels; `battery` are the columns of their batteries."""

    columns: Columns
    battery: Columns
    suspect: Doubles  # (k,)
    fail: Doubles

    def find(self, values: Doubles, times: Longs, look: Glance) -> Found:
        """Where the battery is not known, nothing is evaluated."""
        low = look.low[self.battery.at] < np.fmax(self.suspect, self.fail)
        if not low.any() and not look.doubtful(self.columns.at):
            return NOTHING
        volts = self.battery.of(values)
        return Found(volts < self.suspect, volts < self.fail, volts)
