"""What tests speak in. Pure: masks of readings, and which columns of a frame they are about.

Limits that are left out are NaN, so that no comparison with them is ever true; a missing reading is NaN and neither
suspect nor fail.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles

Bools = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]
G = TypeVar("G", bound=np.generic)


class Found(NamedTuple):
    """What a test says of n rows of its k columns; None: of no reading."""

    suspect: Bools | None
    fail: Bools | None
    seen: Doubles | None  # what was compared: NaN is not evaluated; None: every reading that is there is


NOTHING = Found(None, None, None)


@dataclass(frozen=True, slots=True)
class Columns:
    """Some columns of a frame of c channels."""

    at: Index  # (k,)
    whole: bool = field(default=False)  # all of them, in order
    cut: slice | None = field(default=None)  # the same columns, where they stand at equal distances

    def of(self, grid: Doubles) -> Doubles:
        """Those columns of a grid (n, c), not to be written to: nothing is copied that needs not be."""
        if self.whole:
            return grid
        return grid.take(self.at, axis=1) if self.cut is None else grid[:, self.cut]

    def among(self, array: npt.NDArray[G]) -> npt.NDArray[G]:
        """Those of an array (c,)."""
        return array if self.whole else array[self.at]


def columns(at: Iterable[int], count: int) -> Columns:
    """The columns `at` of `count`."""
    index = np.fromiter(at, np.intp)
    cut = None
    if len(index) and index[0] >= 0:
        step = int(index[1] - index[0]) if len(index) > 1 else 1
        if step > 0 and (np.diff(index) == step).all():
            cut = slice(int(index[0]), int(index[-1]) + 1, step)
    return Columns(index, len(index) == count and bool((index == np.arange(count)).all()), cut)


def limits(numbers: Iterable[float | None]) -> Doubles:
    """(k,) limits; NaN where there is none."""
    return np.array([np.nan if number is None else number for number in numbers], np.float64)


def beyond(size: Doubles, suspect: Doubles, fail: Doubles) -> tuple[Bools | None, Bools | None]:
    """Where a size (n, k) is more than its limits (k,); strict."""
    above = size > np.fmin(suspect, fail)
    if not above.any():
        return None, None
    return size > suspect, size > fail
