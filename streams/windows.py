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

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs
from schemas.frames import Ints
from schemas.quality import Flag

Bools = npt.NDArray[np.bool_]

US = 1_000_000

# As plain integers: numpy asks an enum's member for attributes it has not, a twentieth of a small frame's time.
GOOD, NOT_EVALUATED = int(Flag.GOOD), int(Flag.NOT_EVALUATED)
SUSPECT, FAIL, MISSING = int(Flag.SUSPECT), int(Flag.FAIL), int(Flag.MISSING)

# Nobody is to be told on standard error that 0 readings have no mean, or that an absurd number squared is infinite.
_QUIET = np.errstate(divide="ignore", over="ignore", invalid="ignore")


OPEN, SENT, CHANGED, LATE = 0, 1, 2, 3
"""What is known of a window outside: nothing yet; sent; sent, and late readings have changed it since; nothing, and it
has late readings only. Stored with the state."""


@dataclass(frozen=True, slots=True)
class Open:
    """Windows under way: w windows of c channels."""

    length_s: int
    channels: tuple[str, ...]  # (c,)
    starts: Longs  # (w,) µs UTC, ascending
    counts: Longs  # (w, c) readings in the statistics: good or not evaluated
    suspect: Longs  # (w, c)
    failed: Longs  # (w, c)
    missing: Longs  # (w, c)
    means: Doubles  # (w, c) mean; of a direction the sum of cosines
    m2s: Doubles  # (w, c) sum of squared deviations; of a direction the sum of sines
    minima: Doubles  # (w, c) +inf without readings
    maxima: Doubles  # (w, c) -inf without readings
    told: Longs  # (w, c) what is known of them outside: OPEN, SENT, CHANGED, LATE

    def pick(self, which: Bools) -> "Open":
        """Some of the windows."""
        return replace(self, **{name: getattr(self, name)[which] for name in self.__slots__[2:]})

    def seen(self) -> Longs:
        """Readings of any flag, (w, c)."""
        return self.counts + self.suspect + self.failed + self.missing


def empty(length_s: int, channels: tuple[str, ...], starts: Longs | None = None) -> Open:
    """Windows without a reading."""
    starts = np.empty(0, np.int64) if starts is None else starts
    shape = (len(starts), len(channels))
    counts, suspect, failed, missing = np.zeros((4, *shape), np.int64)
    means, m2s = np.zeros((2, *shape))
    minima, maxima = np.full(shape, np.inf), np.full(shape, -np.inf)
    told = np.zeros(shape, np.int64)
    return Open(length_s, channels, starts, counts, suspect, failed, missing, means, m2s, minima, maxima, told)


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
    first = np.flatnonzero(np.concatenate(([True], window[1:] != window[:-1])))
    used = (flags == GOOD) | (flags == NOT_EVALUATED)

    def total(what: Doubles) -> Doubles:
        sums: Doubles = np.add.reduceat(what, first, axis=0)
        return sums

    def number(flag: int) -> Longs:
        return np.add.reduceat(flags == flag, first, axis=0, dtype=np.int64)

    if not circular.any() and used.all():  # nothing to leave out: the same numbers for half of the work
        sizes = np.diff(first, append=len(window))
        counts = np.repeat(sizes[:, None], values.shape[1], axis=1)
        means = total(values) / counts
        away = values - (means if len(first) == 1 else np.repeat(means, sizes, axis=0))
        away *= away
        suspect, failed, missing, told = np.zeros((4, *counts.shape), np.int64)
        return Open(
            length_s,
            channels,
            window[first],
            counts,
            suspect,
            failed,
            missing,
            means,
            total(away),
            np.minimum.reduceat(values, first, axis=0),
            np.maximum.reduceat(values, first, axis=0),
            told,
        )
    counts = np.add.reduceat(used, first, axis=0, dtype=np.int64)
    means = np.where(counts > 0, total(np.where(used, values, 0.0)) / counts, 0.0)
    of_each = means if len(first) == 1 else np.repeat(means, np.diff(first, append=len(window)), axis=0)
    away = np.where(used, values - of_each, 0.0)
    m2s = total(away * away)
    if circular.any():
        at = np.flatnonzero(circular)
        angle, here = np.radians(values[:, at]), used[:, at]
        means[:, at] = total(np.where(here, np.cos(angle), 0.0))
        m2s[:, at] = total(np.where(here, np.sin(angle), 0.0))
    return Open(
        length_s,
        channels,
        window[first],
        counts,
        number(SUSPECT),
        number(FAIL),
        number(MISSING),
        means,
        m2s,
        np.minimum.reduceat(np.where(used, values, np.inf), first, axis=0),
        np.maximum.reduceat(np.where(used, values, -np.inf), first, axis=0),
        np.zeros(counts.shape, np.int64),
    )


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
    starts = a.starts
    if len(starts) != len(b.starts) or (starts != b.starts).any():
        starts = np.union1d(starts, b.starts)
        a, b = _spread(a, starts), _spread(b, starts)
    counts = a.counts + b.counts
    share = np.where(counts > 0, b.counts / counts, 0.0)
    apart = b.means - a.means
    means = a.means + apart * share
    m2s = a.m2s + b.m2s + apart * apart * a.counts * share
    return Open(
        a.length_s,
        a.channels,
        starts,
        counts,
        a.suspect + b.suspect,
        a.failed + b.failed,
        a.missing + b.missing,
        np.where(circular, a.means + b.means, means),
        np.where(circular, a.m2s + b.m2s, m2s),
        np.minimum(a.minima, b.minima),
        np.maximum(a.maxima, b.maxima),
        np.maximum(a.told, b.told),
    )


def merge_late(a: Open, b: Open, circular: Bools) -> Open:
    """With readings `b` that came after their windows were closed: what they change is told when no more can come."""
    both = merge(a, b, circular)
    more = _spread(b, both.starts).seen() > 0
    told = np.where(more & (both.told == SENT), CHANGED, np.where(more & (both.told == OPEN), LATE, both.told))
    return replace(both, told=told)


def _spread(windows: Open, starts: Longs) -> Open:
    """The same windows among others that are empty."""
    if len(windows.starts) == len(starts):
        return windows
    out = empty(windows.length_s, windows.channels, starts)
    at = np.searchsorted(starts, windows.starts)
    for name in windows.__slots__[3:]:
        getattr(out, name)[at] = getattr(windows, name)
    return out


def realign(windows: Open, channels: tuple[str, ...]) -> Open:
    """For another set of channels: new ones begin empty, and what no longer is configured is let go."""
    if windows.channels == channels:
        return windows
    out = empty(windows.length_s, channels, windows.starts)
    kept = [name for name in channels if name in windows.channels]
    to = [channels.index(name) for name in kept]
    of = [windows.channels.index(name) for name in kept]
    for name in windows.__slots__[3:]:
        getattr(out, name)[:, to] = getattr(windows, name)[:, of]
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
        angle = np.mod(np.degrees(np.arctan2(s, c)), 360.0)
        means = np.where(circular, np.where(angle >= 360.0, 0.0, angle), means)
        e = np.sqrt(np.clip(1.0 - (s * s + c * c), 0.0, 1.0))
        yamartino = np.degrees(np.arcsin(e) * (1.0 + (2.0 / np.sqrt(3.0) - 1.0) * e**3))
        sds = np.where(circular, np.where(counts > 1, yamartino, np.nan), sds)
    return Statistics(
        means,
        sds,
        np.where(none | circular, np.nan, windows.minima),
        np.where(none | circular, np.nan, windows.maxima),
    )
