"""Differences of directions. Pure."""

import numpy as np

from schemas.columnar import Doubles

HALF = 180.001  # no `turn` is larger, roundings included


def turn(degrees: Doubles) -> Doubles:
    """A difference of two directions as the shorter way around, in [-180, 180]."""
    return degrees - 360.0 * np.rint(degrees / 360.0)
