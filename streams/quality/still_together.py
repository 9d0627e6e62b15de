"""What stands still among rows of many devices of one kind: `stood_still` for all of them. Pure.

Almost never does anything stand still. A quick look says so of most devices, and what their tracks are to remember is
made at once; devices of which it cannot say so are pointed out, to be judged alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.cut import Cut
from streams.quality.flat_line import FEW_ROWS, TAIL_ROWS, Records, no_records, records_among, remember
from streams.quality.found import Bools
from streams.quality.tracks import Tracks


@dataclass(frozen=True, slots=True)
class Wide:
    """The records of d devices' t tracks, side by side: `Records`, padded to the deepest."""

    depth: Longs  # (d, t)
    ages: Longs  # (r, d, t)
    values: Doubles  # (r, d, t)


def wide(all_records: Sequence[Records]) -> Wide:
    """Of devices of one layout."""
    deepest = max(len(records.values) for records in all_records)
    shape = (deepest, len(all_records), len(all_records[0].depth))
    ages, values = np.zeros(shape, np.int64), np.full(shape, np.nan)
    for at, records in enumerate(all_records):
        ages[: len(records.ages), at] = records.ages
        values[: len(records.values), at] = records.values
    return Wide(np.array([records.depth for records in all_records]), ages, values)


def perhaps_still(before: Wide, watched: Doubles, cut: Cut, tracks: Tracks) -> Bools:
    """Which devices (d,) may have stood still: a window that is flat holds all of some rows that are looked at here."""
    tolerance, rows, count = tracks.tolerance, tracks.rows_min, cut.sizes[:, None]
    is_short = count < rows  # then each window holds the first row and those that the last window reaches back to
    half = (tracks.shortest + 1) // 2  # otherwise a block of so many rows, or the rows that one less leaves before it
    reach = np.where(is_short, rows - count, rows - half)
    sure = np.where(before.ages <= reach, before.values, np.nan)
    high, low = np.fmax.reduce(sure, axis=0), np.fmin.reduce(sure, axis=0)
    first = watched[cut.begins]
    high, low = np.where(is_short, np.fmax(high, first), high), np.where(is_short, np.fmin(low, first), low)
    perhaps = ~(high - low >= tolerance) & (before.depth >= reach) & (reach > 0)
    if not is_short.all():
        blocks = -(-cut.sizes // half)
        of = np.repeat(np.arange(len(blocks)), blocks)
        begins = np.concatenate(([0], np.cumsum(blocks)[:-1]))
        number = np.arange(len(of)) - begins[of]
        at = cut.begins[of] + number * half
        still = ~(np.fmax.reduceat(watched, at, axis=0) - np.fmin.reduceat(watched, at, axis=0) >= tolerance)
        still &= ((number + 1) * half <= cut.sizes[of])[:, None]
        perhaps = np.logical_or(perhaps, np.logical_or.reduceat(still, begins, axis=0) & ~is_short)
    there: Bools = np.logical_or.reduceat(~np.isnan(watched), cut.begins, axis=0)
    return np.asarray((perhaps & there & (tolerance > 0)).any(axis=1))


def remember_together(
    all_records: Sequence[Records], before: Wide, watched: Doubles, cut: Cut, tracks: Tracks
) -> list[Records]:
    """What each device's tracks remember: `remember`."""
    tolerance, depth_max = tracks.tolerance, tracks.depth_max
    d, t = before.depth.shape
    tail = min(int(cut.sizes.max()), TAIL_ROWS)
    back = np.arange(tail)[:, None]
    there = back < cut.sizes
    newest = np.where(there[:, :, None], watched[np.where(there, cut.lasts - back, 0)], np.nan)  # (tail, d, t)
    broken = np.fmax.accumulate(newest, axis=0) - np.fmin.accumulate(newest, axis=0) >= tolerance
    is_long = cut.sizes > TAIL_ROWS
    few = is_long & broken[min(FEW_ROWS, tail) - 1].all(axis=1)
    known = ~is_long | (broken[-1] | (depth_max <= TAIL_ROWS)).all(axis=1)
    depth = np.minimum(before.depth + cut.sizes[:, None], depth_max)
    values = np.concatenate((newest, before.values)).reshape(-1, d * t)
    ages = np.concatenate((np.broadcast_to(back[:, :, None] + 1, newest.shape), before.ages + cut.sizes[:, None]))
    tolerances, depths = np.tile(tolerance, d), np.tile(depth_max, d)
    found = records_among(values, ages.reshape(-1, d * t), tolerances, depth.reshape(-1), depths, all_there=True)
    found = found or no_records(d * t)  # never: all are there
    out_depth, out_ages, out_values = (
        found.depth.reshape(d, t),
        found.ages.reshape(-1, d, t),
        found.values.reshape(-1, d, t),
    )
    sizes = np.maximum((~np.isnan(out_values)).sum(axis=0).max(axis=1), 1).tolist()
    remembered = []
    few_ages, few_depth = np.arange(1, FEW_ROWS + 1)[:, None], np.minimum(FEW_ROWS, depth_max)
    for at, (is_few, is_known, size) in enumerate(zip(few.tolist(), known.tolist(), sizes, strict=True)):
        if is_few:  # copies: no device is to hold what others remember
            ages_ = np.broadcast_to(few_ages, (FEW_ROWS, t))
            remembered.append(Records(few_depth, ages_, newest[:FEW_ROWS, at].copy()))
        elif is_known:
            remembered.append(Records(out_depth[at].copy(), out_ages[:size, at].copy(), out_values[:size, at].copy()))
        else:
            own = watched[cut.begins[at] : cut.lasts[at] + 1]
            more = remember(all_records[at], own, len(own), tolerance, depth_max)
            remembered.append(more or no_records(t))  # of all rows it is known
    return remembered
