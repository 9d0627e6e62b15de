"""QARTOD's gross range test. Pure: values and spans in, two masks out.

A value on a bound is good. An infinite value fails, whatever the spans: no sensor measures it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Spans:
    """Bounds of c channels; infinite where there is none."""

    fail_min: Doubles  # (c,)
    fail_max: Doubles
    suspect_min: Doubles
    suspect_max: Doubles
    limited: Bools  # (c,) whether the channel has any bound

    def take(self, columns: npt.NDArray[np.intp]) -> "Spans":
        """The same for some of the channels, in the order of `columns`."""
        return Spans(*(getattr(self, name)[columns] for name in self.__slots__))


def gross_range(values: Doubles, spans: Spans) -> tuple[Bools, Bools]:
    """Which of the values (n, c) are suspect and which fail; NaN is neither."""
    suspect = (values < spans.suspect_min) | (values > spans.suspect_max)
    fail = (values < spans.fail_min) | (values > spans.fail_max) | np.isinf(values)
    return suspect, fail
