"""Rows of many devices, one device behind the other. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streams.quality.found import Index


@dataclass(frozen=True, slots=True)
class Cut:
    """n rows of d devices, one device behind the other; each has some."""

    sizes: Index  # (d,)
    begins: Index  # (d,)
    lasts: Index  # (d,)
    of: Index  # (n,) whose row it is

    def parts(self) -> list[slice]:
        """Of each device."""
        return [slice(begin, last + 1) for begin, last in zip(self.begins.tolist(), self.lasts.tolist(), strict=True)]


def cut_of(sizes: Sequence[int]) -> Cut:
    """The cut of devices of so many rows."""
    each = np.array(sizes, np.intp)
    ends = np.cumsum(each)
    return Cut(each, ends - each, ends - 1, np.repeat(np.arange(len(each)), each))
