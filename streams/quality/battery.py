"""Low battery: nothing that the logger measured then can be trusted. Pure: pointwise, by its channel; strict."""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.found import Columns, Found


@dataclass(frozen=True, slots=True)
class Batteries:
    """Limits of k channels; `battery` are the columns of their batteries."""

    columns: Columns
    battery: Columns
    suspect: Doubles  # (k,)
    fail: Doubles

    def find(self, values: Doubles, times: Longs) -> Found:
        """Where the battery is not known, nothing is evaluated."""
        volts = self.battery.of(values)
        low = volts < np.fmax(self.suspect, self.fail)
        if not low.any():
            return Found(None, None, volts)
        return Found(volts < self.suspect, volts < self.fail, volts)
