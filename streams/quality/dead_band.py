"""A vane that points into its dead band. Pure: pointwise, by dated orientation; the sector's edges are good."""

from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.angles import turn
from streams.quality.dated import Dated
from streams.quality.found import Columns, Found
from streams.quality.glance import Glance


@dataclass(frozen=True, slots=True)
class DeadBands:
    """Sectors of k channels: widths in degrees around dated orientations."""

    columns: Columns
    orientation: Dated
    suspect_width: Doubles  # (k,)
    fail_width: Doubles

    def find(self, values: Doubles, times: Longs, look: Glance) -> Found:
        """Where the orientation is not known, nothing is evaluated."""
        off = np.abs(turn(self.columns.of(values) - self.orientation.at(times)))
        inside = off < np.fmax(self.suspect_width, self.fail_width) / 2.0
        if not inside.any():
            return Found(None, None, off)
        return Found(off < self.suspect_width / 2.0, off < self.fail_width / 2.0, off)
