"""From tests to one flag per reading. Pure: arrays in, flags and test bits out.

The worst flag wins (4 over 3 over 1 over 2) and the bits say which tests gave it; a missing reading is 9.
"""

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles
from schemas.quality import Flag, Test
from streams.quality.gross_range import Spans, gross_range

Bytes = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.int64]


def judge(values: Doubles, spans: Spans) -> tuple[Bytes, Bits]:
    """Flags (n, c) and test bits (n, c) of calibrated values (n, c)."""
    suspect, fail = gross_range(values, spans)
    untested = np.where(spans.limited, np.uint8(Flag.GOOD), np.uint8(Flag.NOT_EVALUATED))
    flags = np.where(suspect, np.uint8(Flag.SUSPECT), untested)
    flags[fail] = Flag.FAIL
    flags[np.isnan(values)] = Flag.MISSING
    return flags, np.where(suspect | fail, np.int64(Test.GROSS_RANGE), np.int64(0))
