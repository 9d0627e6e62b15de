"""Fewer points that draw the same line. Pure: arrays in, arrays out.

M4 (Jugel et al., "M4: A Visualization-Oriented Time Series Data Aggregation", VLDB 2014): of each bucket as wide as a
pixel the first, last, smallest and largest point are kept, with their own times; a line through them covers the same
pixels as a line through all. Two buckets a pixel leave no difference that could be measured.
"""

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def m4(time: Doubles, value: Doubles, *, begin: float, end: float, buckets: int) -> tuple[Doubles, Doubles]:
    """`time` is ascending, within [begin, end). NaN is left out. At most 4 points a bucket, in order of time.

    m4(m4(a) + m4(b)) == m4(a + b), so a long series may come in pieces.
    """
    there = ~np.isnan(value)
    time, value = time[there], value[there]
    if not len(time) or end <= begin:
        return time, value
    bucket = np.minimum(((time - begin) * (buckets / (end - begin))).astype(np.int64), buckets - 1)
    is_first = np.r_[True, bucket[1:] != bucket[:-1]]
    starts = np.flatnonzero(is_first)
    ends = np.r_[starts[1:], len(bucket)] - 1
    lengths = ends - starts + 1
    kept = is_first
    kept[ends] = True
    # Of equal values the first least and the last largest: sorting would say the same and take ten times as long.
    least = np.flatnonzero(value == np.repeat(np.minimum.reduceat(value, starts), lengths))
    kept[least[np.r_[True, bucket[least[1:]] != bucket[least[:-1]]]]] = True
    largest = np.flatnonzero(value == np.repeat(np.maximum.reduceat(value, starts), lengths))
    kept[largest[np.r_[bucket[largest[1:]] != bucket[largest[:-1]], True]]] = True
    return time[kept], value[kept]
