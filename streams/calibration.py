"""Logged values to calibrated ones. Pure: arrays in, arrays out.

    x = (logged - logger_offset) / logger_slope        back to Hz, V or counts
    y = slope * x + offset                             by the certificate

(IEA Task 43 WRA data model; the formula is that of brightwind's `adjust_slope_offset`.) Standard deviations and
ranges take the ratio of the slopes only. A vane takes `logged + dead_band_orientation - logger_offset`, wrapped to
[0, 360). Sums, counts and the like stay. Where a number is missing the value stays and is marked "not calibrated";
where certificate and logger hold the same numbers, the value stays to the last bit: no arithmetic.

Numbers are valid in half-open intervals [valid_from, valid_to), so that at a boundary exactly one of them applies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs
from schemas.devices import DIRECTIONS, Calibration, Sensor

Bools = npt.NDArray[np.bool_]

POINT = frozenset({"avg", "min", "max", "gust", "median", "mode"})
"""Statistics on the scale of the quantity itself: slope and offset apply."""

SPREAD = frozenset({"sd", "range"})
"""Statistics of differences: only the ratio of the slopes applies, and a vane's turn leaves them."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Calibration of c channels: s segments of time, between `edges`, with constant numbers in each."""

    edges: Longs  # (s - 1,) µs UTC, ascending; segment i is [edges[i - 1], edges[i])
    logger_slope: Doubles  # (s, c)
    logger_offset: Doubles  # (s, c)
    slope: Doubles  # (s, c)
    offset: Doubles  # (s, c)
    turn: Doubles  # (s, c) degrees
    scaled: Bools  # (s, c) the formula applies
    turned: Bools  # (s, c) the turn applies
    missing: Bools  # (s, c) not calibrated

    def take(self, columns: npt.NDArray[np.intp]) -> "Segments":
        """The same for some of the channels, in the order of `columns`."""
        parts = (getattr(self, name)[:, columns] for name in self.__slots__[1:])
        return Segments(self.edges, *parts)

    def all_numbers(self) -> Doubles:
        """All of them as one array (s, 8, c)."""
        return np.stack([getattr(self, name) for name in self.__slots__[1:]], axis=1, dtype=np.float64)

    def at(self, first_us: int, last_us: int) -> int | None:
        """The segment that both times lie in; None: they are in different ones."""
        if not len(self.edges):
            return 0
        first, last = np.searchsorted(self.edges, (first_us, last_us), side="right").tolist()
        return first if first == last else None


@dataclass(frozen=True, slots=True)
class _Numbers:
    """What one channel does in one segment."""

    logger_slope: float = 1.0
    logger_offset: float = 0.0
    slope: float = 1.0
    offset: float = 0.0
    turn: float = 0.0
    scaled: bool = False
    turned: bool = False
    missing: bool = False


_STAYS = _Numbers()
_MISSING = _Numbers(missing=True)


def _numbers(sensor: Sensor, valid: Calibration | None) -> _Numbers:
    direction, spread = sensor.quantity in DIRECTIONS, sensor.statistic in SPREAD
    if sensor.statistic not in POINT | SPREAD or (direction and spread):
        return _STAYS
    if valid is None:
        return _MISSING
    return _turn(valid) if direction else _scale(valid, spread=spread)


def _turn(valid: Calibration) -> _Numbers:
    if valid.dead_band_orientation_deg is None or valid.logger_offset is None:
        return _MISSING
    turn = valid.dead_band_orientation_deg - valid.logger_offset
    return _Numbers(turn=turn, turned=True) if turn else _STAYS


def _scale(valid: Calibration, *, spread: bool) -> _Numbers:
    logger_offset, offset = (0.0, 0.0) if spread else (valid.logger_offset, valid.offset)
    logger_slope, slope = valid.logger_slope, valid.slope
    if logger_slope is None or slope is None or logger_offset is None or offset is None:
        return _MISSING
    if spread:  # slopes of opposite sign turn the scale around; a spread stays positive
        logger_slope, slope = abs(logger_slope), abs(slope)
    if slope == logger_slope and offset == logger_offset:
        return _STAYS
    return _Numbers(logger_slope, logger_offset, slope, offset, scaled=True)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(time: datetime) -> int:
    """µs since 1970, UTC; exact for any date, which a float of seconds is not."""
    return (time - EPOCH) // timedelta(microseconds=1)


def segments_of(sensors: Sequence[Sensor]) -> Segments:
    """The segments of all sensors of a device, in their order."""
    edges = sorted(
        {
            micros(edge)
            for sensor in sensors
            for interval in sensor.calibrations
            for edge in (interval.valid_from, interval.valid_to)
            if edge is not None
        }
    )
    table = []
    for start in [None, *edges]:
        row = []
        for sensor in sensors:
            valid = next((c for c in sensor.calibrations if _covers(c, start)), None)
            row.append(_numbers(sensor, valid))
        table.append(row)

    def column(name: str, kind: type) -> npt.NDArray[np.generic]:
        cells = [[getattr(n, name) for n in row] for row in table]
        return np.array(cells, kind).reshape(len(table), len(sensors))

    kinds = [(name, bool if name in {"scaled", "turned", "missing"} else float) for name in _Numbers.__slots__]
    return Segments(np.array(edges, np.int64), **{name: column(name, kind) for name, kind in kinds})  # type: ignore[arg-type]  # by name


def _covers(calibration: Calibration, start: int | None) -> bool:
    """Whether it is valid in the segment that begins at `start` (None: since ever)."""
    if start is None:
        return calibration.valid_from is None
    begins = calibration.valid_from is None or micros(calibration.valid_from) <= start
    ends = calibration.valid_to is not None and micros(calibration.valid_to) <= start
    return begins and not ends


def calibrate(logged: Doubles, times: Longs, segments: Segments) -> tuple[Doubles, Bools | None]:
    """Calibrated values (n, c), and where they are not calibrated (n, c); None: all are.

    Args:
        logged: (n, c) as logged, NaN = missing.
        times: (n,) µs UTC, in any order.
        segments: of the c channels.
    """
    if not len(segments.edges) or not len(times):
        values, absent = _within(logged, segments, 0)
        return values, None if absent is None else np.broadcast_to(absent, logged.shape)
    which = np.searchsorted(segments.edges, times, side="right")
    values = np.empty_like(logged)
    missing = np.zeros(logged.shape, bool)
    for segment in np.unique(which).tolist():
        rows = which == segment
        values[rows], absent = _within(logged[rows], segments, segment)
        if absent is not None:
            missing[rows] = absent
    return values, missing if missing.any() else None


def calibrate_each(logged: Doubles, numbers: Doubles, sizes: npt.NDArray[np.intp]) -> tuple[Doubles, Bools | None]:
    """The same of d devices' rows, one device behind the other, each within one segment.

    Args:
        logged: (n, c).
        numbers: (d, 8, c) of each device's segment, as `Segments.all_numbers` has them.
        sizes: (d,) rows of each.
    """

    def each(at: int) -> Doubles:
        part = numbers[:, at]
        return part[:1] if (part == part[0]).all() else np.repeat(part, sizes, axis=0)

    logger_slope, logger_offset, slope, offset, turn = (each(at) for at in range(5))
    scaled, turned, missing = (each(at) != 0 for at in range(5, 8))
    values = logged
    with np.errstate(over="ignore", invalid="ignore"):
        if scaled.any():
            x = (logged - logger_offset) / logger_slope
            x *= slope
            x += offset
            values = x if scaled.all() else np.where(scaled, x, logged)
        if turned.any():
            at = np.flatnonzero(turned.any(axis=0))
            values = values.copy() if values is logged else values
            values[:, at] = np.where(turned[:, at], wrap(logged[:, at] + turn[:, at]), values[:, at])
    return values, np.broadcast_to(missing, logged.shape) if missing.any() else None


def _within(logged: Doubles, s: Segments, i: int) -> tuple[Doubles, Bools | None]:
    """All rows in segment i, and which columns are not calibrated; None: all are."""
    values = logged
    with np.errstate(over="ignore", invalid="ignore"):  # a number beyond all numbers becomes infinite, and fails
        if s.scaled[i].any():
            x = logged - s.logger_offset[i]
            x /= s.logger_slope[i]
            x *= s.slope[i]
            x += s.offset[i]
            for column in np.flatnonzero(~s.scaled[i]).tolist():
                x[:, column] = logged[:, column]
            values = x
        if s.turned[i].any():
            at = np.flatnonzero(s.turned[i])  # few, and `mod` is slow
            values = values.copy() if values is logged else values
            values[:, at] = wrap(logged[:, at] + s.turn[i, at])
    return values, s.missing[i] if s.missing[i].any() else None


def wrap(degrees: Doubles) -> Doubles:
    """Degrees in [0, 360); infinite ones stay. `mod` alone gives 360.0 for a tiny negative angle, NaN for infinity."""
    if (degrees >= -360.0).all() and (degrees < 720.0).all():  # the same numbers, for a fifth of the time
        once = np.where(degrees < 0.0, degrees + 360.0, degrees + 0.0)  # no negative zero
        return np.where(once >= 360.0, once - 360.0, once)
    wrapped = np.mod(degrees, 360.0)
    return np.where(np.isinf(degrees), degrees, np.where(wrapped >= 360.0, 0.0, wrapped))
