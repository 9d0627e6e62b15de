"""Two sensors of the same thing that do not agree. Pure: pointwise, by difference and by ratio.

Differences are strict, bounds of the ratio are good. The ratio counts where both read more than a floor: in calm it
is noise. Differences of directions go the shorter way around, and they have no ratio.
"""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.angles import turn
from streams.quality.found import Bools, Columns, Found, beyond
from streams.quality.glance import Glance


@dataclass(frozen=True, slots=True)
class Pairs:
    """Limits of k channels; ratios (k, 2) are NaN where there is none."""

    columns: Columns
    other: Columns
    circular: Bools  # (k,)
    by_ratio: Bools
    suspect_difference: Doubles
    fail_difference: Doubles
    suspect_ratio: Doubles
    fail_ratio: Doubles
    ratio_above: Doubles

    def find(self, values: Doubles, times: Longs, look: Glance) -> Found:
        """Where the other is missing, or only a ratio is set and they read too little, nothing is evaluated."""
        here, other = self.columns.of(values), self.other.of(values)
        apart = here - other
        if self.circular.any():
            apart = np.where(self.circular, turn(apart), apart)
        size = np.abs(apart)
        suspect, fail = beyond(size, self.suspect_difference, self.fail_difference)
        if not self.by_ratio.any():
            return Found(suspect, fail, size)
        windy = (here > self.ratio_above) & (other > self.ratio_above) & self.by_ratio
        ratio = np.divide(here, other, out=np.full(here.shape, np.nan), where=windy)
        off, far_off = _outside(ratio, self.suspect_ratio), _outside(ratio, self.fail_ratio)
        by_difference = ~np.isnan(np.fmax(self.suspect_difference, self.fail_difference))
        return Found(
            off if suspect is None else suspect | off,
            far_off if fail is None else fail | far_off,
            np.fmax(np.where(by_difference, size, np.nan), ratio),
        )


def _outside(ratio: Doubles, bounds: Doubles) -> Bools:
    outside: Bools = (ratio < bounds[:, 0]) | (ratio > bounds[:, 1])
    return outside
