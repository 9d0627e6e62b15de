"""A cup that does not turn reads its offset, exactly. Pure: how long is the flat line test's to say.

Calm does it too, for minutes; a cup that is stuck, iced or torn off does it for hours.
"""

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.dated import Dated


def at_offset(values: Doubles, times: Longs, offset: Dated, tolerance: Doubles) -> Doubles:
    """1 where values (n, k) are at their offset, 0 where not, NaN where the value or the offset is not known.

    As far off as the tolerance (k,) counts as at the offset.
    """
    off = np.abs(values - offset.at(times))
    return np.where(np.isnan(off), np.nan, off <= tolerance)
