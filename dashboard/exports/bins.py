"""Statistics of longer intervals from readings in order of time. Pure: arrays in, arrays out.

A slice of time may end within an interval: what is known of it is held, and merged with what comes (Chan, Golub and
LeVeque 1979). Angles by their sines and cosines; their deviation is Mardia's, sqrt(-2 ln R).
"""

from dataclasses import dataclass

import numpy as np

from dashboard.exports.request import Figure
from schemas.columnar import Doubles, Longs


@dataclass(frozen=True, slots=True)
class Bins:
    """One sensor's intervals, ascending; one array element each. Sums of sines and cosines are those of angles."""

    begins_us: Longs
    count: Doubles
    mean: Doubles
    squares: Doubles  # of deviations from the mean, summed
    min: Doubles
    max: Doubles
    sine: Doubles
    cosine: Doubles

    def part(self, rows: slice) -> "Bins":
        return Bins(*(getattr(self, name)[rows] for name in self.__slots__))

    def figures(self, *, is_angle: bool) -> dict[Figure, Doubles]:
        """What people read; NaN where it does not exist."""
        with np.errstate(divide="ignore", invalid="ignore"):
            sd = np.sqrt(np.where(self.count > 1, self.squares / (self.count - 1), np.nan))
        found = {
            Figure.COUNT: self.count,
            Figure.MEAN: self.mean,
            Figure.SUM: self.mean * self.count,
            Figure.SD: sd,
            Figure.MIN: self.min,
            Figure.MAX: self.max,
        }
        if is_angle:
            length = np.hypot(self.sine, self.cosine) / self.count
            mean = np.mod(np.degrees(np.arctan2(self.sine, self.cosine)), 360.0)
            mean = np.where(mean < 360.0, mean, 0.0)  # of a hair west of north
            found[Figure.MEAN] = np.where(self.count == 1, self.mean, mean)
            apart = np.degrees(np.sqrt(0 - 2 * np.log(np.clip(length, 1e-300, 1.0))))
            found[Figure.SD] = np.where(self.count > 1, apart, np.nan)
        return found


def binned(begins_us: Longs, values: Doubles, *, is_angle: bool) -> Bins:
    """Intervals of readings. `begins_us`: of the interval in which each reading lies, ascending."""
    if not len(values):
        return Bins(np.empty(0, np.int64), *(np.empty(0) for _ in range(7)))
    starts = np.flatnonzero(np.r_[True, begins_us[1:] != begins_us[:-1]])
    count = np.diff(np.r_[starts, len(values)]).astype(np.float64)
    mean = np.add.reduceat(values, starts) / count
    apart = values - np.repeat(mean, count.astype(np.int64))
    sines = cosines = np.zeros(len(starts))
    if is_angle:
        angles = np.radians(values)
        sines, cosines = np.add.reduceat(np.sin(angles), starts), np.add.reduceat(np.cos(angles), starts)
    return Bins(
        begins_us[starts],
        count,
        mean,
        np.add.reduceat(apart * apart, starts),
        np.minimum.reduceat(values, starts),
        np.maximum.reduceat(values, starts),
        sines,
        cosines,
    )


def joined(former: Bins, later: Bins) -> Bins:
    """One behind the other; an interval that both know of is merged."""
    if not len(former.count) or not len(later.count) or former.begins_us[-1] != later.begins_us[0]:
        return Bins(*(np.concatenate((getattr(former, n), getattr(later, n))) for n in Bins.__slots__))
    last, first = former.part(slice(-1, None)), later.part(slice(0, 1))
    count, apart = last.count + first.count, first.mean - last.mean
    both = Bins(
        last.begins_us,
        count,
        last.mean + apart * first.count / count,
        last.squares + first.squares + apart * apart * last.count * first.count / count,
        np.minimum(last.min, first.min),
        np.maximum(last.max, first.max),
        last.sine + first.sine,
        last.cosine + first.cosine,
    )
    parts = (former.part(slice(0, -1)), both, later.part(slice(1, None)))
    return Bins(*(np.concatenate([getattr(part, name) for part in parts]) for name in Bins.__slots__))
