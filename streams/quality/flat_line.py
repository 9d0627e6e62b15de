"""QARTOD's flat line test, over any cut of a series. Pure: rows and what is remembered in, masks and memory out.

A reading is flat if the window of `rows` = int(threshold_s / interval_s) + 1 rows that ends with it is full and its
readings span less than the tolerance (strict; 0 never flags). Missing readings are ignored but take their row.

Linear in time and memory whatever the window's length: inside a frame running extremes over blocks (van Herk, Gil and
Werman), and of the rows before it only the *records* are kept: rows higher or lower than everything after them. They
give the exact extremes of every window that ends with the newest row, and from the first record on that breaks the
tolerance no older one can matter. A lively channel keeps two or three, a quiet one some tens.

A track is one channel looked at with one tolerance. A direction has two, cut open at north and at south: readings
within an arc of less than 180 degrees lie together on at least one of them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from schemas.columnar import Doubles, Longs
from streams.quality.found import Bools, Index

FEW_ROWS = 4  # kept as they are where they break every tolerance
TAIL_ROWS = 16  # looked at first: enough of a lively channel to know all its records
_FEW_AGES = np.arange(1, FEW_ROWS + 1)[:, None]


@dataclass(frozen=True, slots=True)
class Records:
    """What t tracks remember: up to r records each, the newest first, padded with NaN. r is at least 1."""

    depth: Longs  # (t,) how many rows back the records are complete
    ages: Longs  # (r, t) rows back; 1 is the newest row
    values: Doubles  # (r, t)

    def of(self, at: Index) -> "Records":
        """Those of some tracks."""
        return Records(self.depth[at], self.ages[:, at], self.values[:, at])


def no_records(tracks: int) -> Records:
    """At the begin of a series."""
    return Records(np.zeros(tracks, np.int64), np.zeros((1, tracks), np.int64), np.full((1, tracks), np.nan))


def flat(before: Records, values: Doubles, tolerance: Doubles, rows: int) -> tuple[Index, Bools] | None:
    """Which readings of values (n, t) end a flat window of `rows` rows: tracks (k,) and their masks (n, k).

    None: no track has any.
    """
    at = _perhaps(before, values, tolerance, rows)
    if not len(at):
        return None
    before, values, tolerance = before.of(at), values[:, at], tolerance[at]
    high, low = _running(values, rows, np.fmax), _running(values, rows, np.fmin)
    reach = min(len(values), rows - 1)  # so many windows begin before the frame
    full = np.ones(values.shape, bool)
    if reach:
        older_high, older_low = _older(before, rows, reach)
        high[:reach] = np.fmax(high[:reach], older_high)
        low[:reach] = np.fmin(low[:reach], older_low)
        full[:reach] = np.arange(reach)[:, None] >= rows - 1 - before.depth
    found = (high - low < tolerance) & full & ~np.isnan(values)
    return (at, found) if found.any() else None


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of a frame that tell almost always that nothing stood still, and what is to be remembered."""

    rows: Index | None  # of the frame; None: all. The last TAIL_ROWS of the frame are the last of them
    heads: Index  # (b, k) among these rows: the first ones of each block of `block_of(shortest)` rows


def block_of(shortest: int) -> int:
    """So many rows that each window of `shortest` rows or more holds a whole block of them."""
    return (shortest + 1) // 2


@lru_cache(maxsize=1024)
def sample(n: int, shortest: int) -> Sample:
    """Of a frame of n rows, where no window is shorter than that."""
    block = block_of(shortest)
    begins = np.arange(0, n // block * block, block) if n >= shortest else np.zeros(1, np.intp)
    heads = begins[:, None] + np.arange(min(block, FEW_ROWS) if n >= shortest else 1)
    if n <= 2 * TAIL_ROWS or heads.size > n // 2:
        return Sample(None, heads)
    rows = np.concatenate((heads.reshape(-1), np.arange(n - TAIL_ROWS, n)))
    return Sample(rows, np.arange(heads.size).reshape(heads.shape))


def perhaps_flat(before: Records, first: Doubles, n: int, tolerance: Doubles, rows: int | Longs) -> Bools:
    """Which tracks may have a flat window, if the frame of n rows is shorter than each: the quick way past the rest.

    All windows of `rows` (t,) rows hold the frame's first row (t,) and the rows that the last window reaches back to.
    """
    reach = rows - n
    sure = np.where(before.ages <= reach, before.values, np.nan)
    high = np.fmax(np.fmax.reduce(sure, axis=0), first)
    low = np.fmin(np.fmin.reduce(sure, axis=0), first)
    perhaps: Bools = ~(high - low >= tolerance) & (before.depth >= reach) & (tolerance > 0)
    return perhaps


def perhaps_flat_inside(before: Records, heads: Doubles, tolerance: Doubles, rows: int | Longs, block: int) -> Bools:
    """Which tracks may have a flat window of `rows` (t,) rows, if the frame is not shorter than the shortest.

    A window inside the frame holds a whole block of rows, of which some (b, k, t) are looked at; one that reaches back
    holds the first block, or more rows before the frame.
    """
    still = ~(np.fmax.reduce(heads, axis=1) - np.fmin.reduce(heads, axis=1) >= tolerance)
    near = np.where(before.ages <= rows - block, before.values, np.nan)
    moved = np.fmax.reduce(near, axis=0) - np.fmin.reduce(near, axis=0) >= tolerance
    perhaps: Bools = (still.any(axis=0) | (~moved & (before.depth >= rows - block))) & (tolerance > 0)
    return perhaps


def _perhaps(before: Records, values: Doubles, tolerance: Doubles, rows: int) -> Index:
    """Tracks that may have a flat window."""
    n = len(values)
    if n < rows:
        return np.flatnonzero(perhaps_flat(before, values[0], n, tolerance, rows))
    block = block_of(rows)
    blocks = values[: n // block * block].reshape(n // block, block, -1)
    return np.flatnonzero(perhaps_flat_inside(before, blocks, tolerance, rows, block))


def _running(values: Doubles, rows: int, extreme: np.ufunc) -> Doubles:
    """The extreme of the window of `rows` rows that ends with each row, cut off at the first row of values (n, t)."""
    n, tracks = values.shape
    if n <= rows:
        whole: Doubles = extreme.accumulate(values, axis=0)
        return whole
    blocks = -(-n // rows)
    padded = np.full((blocks * rows, tracks), np.nan)
    padded[:n] = values
    grid = padded.reshape(blocks, rows, tracks)
    running = extreme.accumulate(grid, axis=1).reshape(-1, tracks)[:n]
    to_the_end = extreme.accumulate(grid[:, ::-1], axis=1)[:, ::-1].reshape(-1, tracks)
    running[rows - 1 :] = extreme(running[rows - 1 :], to_the_end[: n - rows + 1])
    return running


def _older(before: Records, rows: int, reach: int) -> tuple[Doubles, Doubles]:
    """The extremes of what the first `reach` windows hold of the rows before the frame: (reach, t)."""
    last = rows - 1 - before.ages  # the last row whose window still holds the record
    held = ~np.isnan(before.values) & (last >= 0)
    always = np.where(held & (last >= reach - 1), before.values, np.nan)
    high = np.full((reach, before.values.shape[1]), np.nan)
    low = high.copy()
    record, track = np.nonzero(held & (last < reach - 1))
    high[last[record, track], track] = low[last[record, track], track] = before.values[record, track]
    high[-1], low[-1] = np.fmax.reduce(always, axis=0), np.fmin.reduce(always, axis=0)
    return np.fmax.accumulate(high[::-1], axis=0)[::-1], np.fmin.accumulate(low[::-1], axis=0)[::-1]


def remember(before: Records, values: Doubles, n: int, tolerance: Doubles, depth_max: Longs) -> Records | None:
    """The records behind n > 0 rows, of which `values` (m, t) are the last; None: all of them are needed.

    No window reaches back further than `depth_max` (t,) rows.
    """
    depth = np.minimum(before.depth + n, depth_max)
    if n > TAIL_ROWS:
        few = values[: -FEW_ROWS - 1 : -1]
        if (np.fmax.reduce(few, axis=0) - np.fmin.reduce(few, axis=0) >= tolerance).all():
            # Any rows may be kept if all of them are: fewer steps.
            return Records(np.minimum(FEW_ROWS, depth_max), np.broadcast_to(_FEW_AGES, few.shape), few.copy())
        tail = values[: -TAIL_ROWS - 1 : -1]
        kept = records_among(tail, np.arange(1, TAIL_ROWS + 1)[:, None], tolerance, depth, depth_max)
        if kept is not None:
            return kept
        if len(values) < n:
            return None
    newest_first = np.concatenate([values[::-1], before.values])
    ages = np.concatenate([np.broadcast_to(np.arange(1, n + 1)[:, None], values.shape), before.ages + n])
    return records_among(newest_first, ages, tolerance, depth, depth_max, all_there=True) or no_records(values.shape[1])


def records_among(
    values: Doubles, ages: Longs, tolerance: Doubles, depth: Longs, depth_max: Longs, *, all_there: bool = False
) -> Records | None:
    """The records among values (m, t), the newest first; None if the rest is needed to know them all."""
    high, low = np.fmax.accumulate(values, axis=0), np.fmin.accumulate(values, axis=0)
    broken = high - low >= tolerance
    if not all_there and not (broken[-1] | (depth_max <= len(values))).all():
        return None
    kept = ~np.isnan(values) & (ages <= depth_max)
    kept[1:] &= ((high[1:] != high[:-1]) | (low[1:] != low[:-1])) & ~broken[:-1]
    if broken[-1].any():
        first = broken.argmax(axis=0)
        age = ages[first, 0] if ages.shape[1] == 1 else ages[first, np.arange(ages.shape[1])]
        depth = np.where(broken[-1], np.minimum(age, depth), depth)
    place = kept.cumsum(axis=0)
    count = max(int(place[-1].max(initial=0)), 1)
    out = np.full((count, values.shape[1]), np.nan)
    out_ages = np.zeros(out.shape, np.int64)
    row, track = np.nonzero(kept)
    to = place[row, track] - 1
    out[to, track] = values[row, track]
    out_ages[to, track] = ages[row, 0] if ages.shape[1] == 1 else ages[row, track]
    return Records(depth, out_ages, out)
