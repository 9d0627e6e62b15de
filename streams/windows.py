"""Tumbling event-time windows of one length, for all channels of a device at once. Pure: arrays in, arrays out.

Clock policy: a reading belongs to the window [start, start + length) that its own time lies in, windows are aligned
to 1970 UTC, and only the device's own later readings close a window (watermark >= end + lateness). Late readings are
taken for as long again, and what they change is sent once more. No wall clock.

Means and sums of squares are kept as Welford has them and joined as Chan, Golub and LeVeque (1979) do:
    d = mean_b - mean_a;  mean = mean_a + d n_b / n;  m2 = m2_a + m2_b + d^2 n_a n_b / n
Directions keep the sums of cosines and sines instead (fields `means` and `m2s`): their mean is the angle of the sum,
their standard deviation is Yamartino's (1984), in degrees.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs
from schemas.frames import Ints
from schemas.quality import Flag
from streams.calibration import wrap

Bools = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]
G = TypeVar("G", bound=np.generic)

US = 1_000_000

# As plain integers: numpy asks an enum's member for attributes it has not, a twentieth of a small frame's time.
GOOD, NOT_EVALUATED = int(Flag.GOOD), int(Flag.NOT_EVALUATED)
SUSPECT, FAIL, MISSING = int(Flag.SUSPECT), int(Flag.FAIL), int(Flag.MISSING)

# Nobody is to be told on standard error that 0 readings have no mean, or that an absurd number squared is infinite.
_QUIET = np.errstate(divide="ignore", over="ignore", invalid="ignore")


OPEN, SENT, CHANGED, LATE = 0, 1, 2, 3
"""What is known of a window outside: nothing yet; sent; sent, and late readings have changed it since; nothing, and it
has late readings only. Stored with the state."""


def _part(numbers: npt.NDArray[G], at: int) -> npt.NDArray[G]:
    part: npt.NDArray[G] = numbers[at]
    return part


@dataclass(frozen=True, slots=True)
class Open:
    """Windows under way: w windows of c channels. Two arrays hold all their numbers, so that few calls handle them."""

    length_s: int
    channels: tuple[str, ...]  # (c,)
    starts: Longs  # (w,) µs UTC, ascending
    longs: Longs  # (5, w, c)
    doubles: Doubles  # (4, w, c)

    @property
    def counts(self) -> Longs:
        """(w, c) readings in the statistics: good or not evaluated."""
        return _part(self.longs, 0)

    @property
    def suspect(self) -> Longs:
        """(w, c)."""
        return _part(self.longs, 1)

    @property
    def failed(self) -> Longs:
        """(w, c)."""
        return _part(self.longs, 2)

    @property
    def missing(self) -> Longs:
        """(w, c)."""
        return _part(self.longs, 3)

    @property
    def told(self) -> Longs:
        """(w, c) what is known of them outside: OPEN, SENT, CHANGED, LATE."""
        return _part(self.longs, 4)

    @property
    def means(self) -> Doubles:
        """(w, c) mean; of a direction the sum of cosines."""
        return _part(self.doubles, 0)

    @property
    def m2s(self) -> Doubles:
        """(w, c) sum of squared deviations; of a direction the sum of sines."""
        return _part(self.doubles, 1)

    @property
    def minima(self) -> Doubles:
        """(w, c) +inf without readings."""
        return _part(self.doubles, 2)

    @property
    def maxima(self) -> Doubles:
        """(w, c) -inf without readings."""
        return _part(self.doubles, 3)

    def pick(self, which: "Bools | slice") -> "Open":
        """Some of the windows."""
        return Open(self.length_s, self.channels, self.starts[which], self.longs[:, which], self.doubles[:, which])

    def seen(self) -> Longs:
        """Readings of any flag, (w, c)."""
        readings: Longs = self.longs[:4].sum(axis=0)
        return readings


LONGS = ("counts", "suspect", "failed", "missing", "told")
DOUBLES = ("means", "m2s", "minima", "maxima")


def empty(length_s: int, channels: tuple[str, ...], starts: Longs | None = None) -> Open:
    """Windows without a reading."""
    starts = np.empty(0, np.int64) if starts is None else starts
    longs, doubles = np.zeros((5, len(starts), len(channels)), np.int64), np.zeros((4, len(starts), len(channels)))
    doubles[2], doubles[3] = np.inf, -np.inf
    return Open(length_s, channels, starts, longs, doubles)


def gather(length_s: int, channels: tuple[str, ...], rows: "Rows", circular: Bools) -> Open:
    """The windows that some rows make by themselves."""
    if not len(rows.times):
        return empty(length_s, channels)
    length = length_s * US
    window = rows.times - np.mod(rows.times, length)
    if (window[1:] < window[:-1]).any():
        order = np.argsort(window, kind="stable")
        return gathered(length_s, channels, window[order], rows.values[order], rows.flags[order], circular)
    return gathered(length_s, channels, window, rows.values, rows.flags, circular)


@_QUIET
def gathered(  # noqa: PLR0917 - as `gather`, with the rows' parts
    length_s: int, channels: tuple[str, ...], window: Longs, values: Doubles, flags: Ints, circular: Bools
) -> Open:
    """The same of rows that stand in order of their windows; `window` (n,) is the start of each row's."""
    first = np.zeros(1, np.intp)
    if window[0] != window[-1]:
        first = np.concatenate((first, np.flatnonzero(window[1:] != window[:-1]) + 1))
    sizes = np.diff(first, append=len(window))
    longs, doubles = np.zeros((5, len(first), len(channels)), np.int64), np.empty((4, len(first), len(channels)))
    longs[0] = sizes[:, None]
    used = (flags == GOOD) | (flags == NOT_EVALUATED)
    out = None  # the readings to leave out: mostly none or few, so they are overwritten for each of the numbers
    if not used.all():
        out = np.nonzero(~used)
        _count_out(longs, first, out, flags)
        values = np.array(values)
        values[out] = 0.0
    counts = longs[0]
    means = np.add.reduceat(values, first, axis=0) / counts
    if out is not None:
        means[counts == 0] = 0.0
    if len(first) == 1:
        away = values - means
    else:
        away = np.repeat(means.T, sizes, axis=1).T
        np.subtract(values, away, out=away)
    if out is not None:
        away[out] = 0.0
    away *= away
    doubles[0], doubles[1] = means, np.add.reduceat(away, first, axis=0)
    for at in np.flatnonzero(circular).tolist():
        angle = np.radians(values[:, at])
        for sums, part in ((doubles[0], np.cos(angle)), (doubles[1], np.sin(angle))):
            sums[:, at] = np.add.reduceat(part if out is None else np.where(used[:, at], part, 0.0), first)
    for into, extreme, no_reading in ((doubles[2], np.minimum, np.inf), (doubles[3], np.maximum, -np.inf)):
        if out is not None:
            values[out] = no_reading
        extreme.reduceat(values, first, axis=0, out=into)
    return Open(length_s, channels, window[first], longs, doubles)


def _count_out(longs: Longs, first: Index, out: tuple[Index, ...], flags: Ints) -> None:
    """Take the readings `out` out of the counts, and put them to those of their flags."""
    row, column = out
    _, w, c = longs.shape
    cell = (np.searchsorted(first, row, side="right") - 1) * c + column
    flag = flags[row, column]
    longs[0] -= np.bincount(cell, minlength=w * c).reshape(w, c)
    for number, which in ((1, SUSPECT), (2, FAIL), (3, MISSING)):
        some = cell[flag == which]
        if len(some):
            longs[number] = np.bincount(some, minlength=w * c).reshape(w, c)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for the windows: of the channels that have them."""

    times: Longs  # (n,)
    values: Doubles  # (n, c)
    flags: Ints  # (n, c)

    def pick(self, which: Bools) -> "Rows":
        """Some of the rows."""
        return Rows(self.times[which], self.values[which], self.flags[which])


@_QUIET
def merge(a: Open, b: Open, circular: Bools) -> Open:
    """Both together: associative and commutative up to rounding."""
    if not len(a.starts):
        return b
    if not len(b.starts):
        return a
    if a.starts[-1] <= b.starts[0]:  # one behind the other, with at most one that they share: almost always
        shared = int(a.starts[-1] == b.starts[0])
        if len(a.starts) == shared == len(b.starts):
            return _merged(a, b, circular)
        end = len(a.starts) - shared
        parts = [a.pick(slice(0, end)), b.pick(slice(shared, None))]
        if shared:
            parts.insert(1, _merged(a.pick(slice(end, None)), b.pick(slice(0, 1)), circular))
        return Open(
            a.length_s,
            a.channels,
            np.concatenate([part.starts for part in parts]),
            np.concatenate([part.longs for part in parts], axis=1),
            np.concatenate([part.doubles for part in parts], axis=1),
        )
    starts = np.union1d(a.starts, b.starts)
    of_a, of_b = np.searchsorted(starts, a.starts), np.searchsorted(starts, b.starts)
    out = empty(a.length_s, a.channels, starts)
    out.longs[:, of_a], out.doubles[:, of_a] = a.longs, a.doubles
    out.longs[:, of_b], out.doubles[:, of_b] = b.longs, b.doubles
    common = np.bincount(np.concatenate((of_a, of_b)), minlength=len(starts)) > 1
    if common.any():
        both = _merged(a.pick(common[of_a]), b.pick(common[of_b]), circular)
        out.longs[:, common], out.doubles[:, common] = both.longs, both.doubles
    return out


def _merged(a: Open, b: Open, circular: Bools) -> Open:
    """Of the same windows."""
    longs, doubles = a.longs + b.longs, a.doubles + b.doubles
    np.maximum(a.told, b.told, out=longs[4])
    np.minimum(a.minima, b.minima, out=doubles[2])
    np.maximum(a.maxima, b.maxima, out=doubles[3])
    counts = longs[0]
    share = b.counts / counts
    if not counts.all():
        share[counts == 0] = 0.0
    apart = b.means - a.means
    means, m2s = a.means + apart * share, doubles[1] + apart * apart * a.counts * share
    if circular.any():
        means, m2s = np.where(circular, doubles[0], means), np.where(circular, doubles[1], m2s)
    doubles[0], doubles[1] = means, m2s
    return Open(a.length_s, a.channels, a.starts, longs, doubles)


def merge_late(a: Open, b: Open, circular: Bools) -> Open:
    """With readings `b` that came after their windows were closed: what they change is told when no more can come."""
    both = merge(a, b, circular)
    more = _spread(b, both.starts).seen() > 0
    told = np.where(more & (both.told == SENT), CHANGED, np.where(more & (both.told == OPEN), LATE, both.told))
    return with_told(both, told)


def with_told(windows: Open, told: Longs) -> Open:
    """The windows, of which now this is known outside."""
    longs = windows.longs.copy()
    longs[4] = told
    return replace(windows, longs=longs)


def _spread(windows: Open, starts: Longs) -> Open:
    """The same windows among others that are empty."""
    if len(windows.starts) == len(starts):
        return windows
    out = empty(windows.length_s, windows.channels, starts)
    at = np.searchsorted(starts, windows.starts)
    out.longs[:, at], out.doubles[:, at] = windows.longs, windows.doubles
    return out


def realign(windows: Open, channels: tuple[str, ...]) -> Open:
    """For another set of channels: new ones begin empty, and what no longer is configured is let go."""
    if windows.channels == channels:
        return windows
    out = empty(windows.length_s, channels, windows.starts)
    kept = [name for name in channels if name in windows.channels]
    to = [channels.index(name) for name in kept]
    of = [windows.channels.index(name) for name in kept]
    out.longs[:, :, to], out.doubles[:, :, to] = windows.longs[:, :, of], windows.doubles[:, :, of]
    return out


@dataclass(frozen=True, slots=True)
class Statistics:
    """What closed windows say; shapes (w, c), NaN where too few readings make a number."""

    means: Doubles
    sds: Doubles
    minima: Doubles
    maxima: Doubles


@_QUIET
def statistics(windows: Open, circular: Bools) -> Statistics:
    """Means and deviations of windows; for directions circular ones, and no smallest or largest."""
    counts = windows.counts
    none = counts == 0
    means = np.where(none, np.nan, windows.means)
    sds = np.where(counts > 1, np.sqrt(windows.m2s / (counts - 1)), np.nan)
    if circular.any():
        c, s = windows.means / counts, windows.m2s / counts
        means = np.where(circular, wrap(np.degrees(np.arctan2(s, c))), means)
        e = np.sqrt(np.clip(1.0 - (s * s + c * c), 0.0, 1.0))
        yamartino = np.degrees(np.arcsin(e) * (1.0 + (2.0 / np.sqrt(3.0) - 1.0) * e**3))
        sds = np.where(circular, np.where(counts > 1, yamartino, np.nan), sds)
    return Statistics(
        means,
        sds,
        np.where(none | circular, np.nan, windows.minima),
        np.where(none | circular, np.nan, windows.maxima),
    )
