"""Differences of directions. Pure."""

import numpy as np

from schemas.columnar import Doubles


def turn(degrees: Doubles) -> Doubles:
    """A difference of two directions as the shorter way around, in [-180, 180]."""
    return degrees - 360.0 * np.rint(degrees / 360.0)
