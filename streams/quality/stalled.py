"""A cup that does not turn reads its offset, exactly. Pure: how long is the flat line test's to say.

Calm does it too, for minutes; a cup that is stuck, iced or torn off does it for hours.
"""

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.dated import Dated

AT_OFFSET = 0.0
APART = 0.5  # readings at the offset are nearer to one another than this, all others further


def at_offset(values: Doubles, times: Longs, offset: Dated, tolerance: Doubles) -> Doubles:
    """`AT_OFFSET` where values (n, k) are there, a number of its own where not, NaN where value or offset is unknown.

    As far off as the tolerance (k,) counts as at the offset. The numbers of their own are the rows' times in µs, so
    that a cup that turns never stands still.
    """
    off = np.abs(values - offset.at(times))
    return np.where(np.isnan(off), np.nan, np.where(off <= tolerance, AT_OFFSET, times[:, None]))
