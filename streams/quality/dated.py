"""Numbers of calibrations that a test needs, by date. Pure: half-open intervals [valid_from, valid_to)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.devices import Calibration, Sensor
from streams.calibration import micros


@dataclass(frozen=True, slots=True)
class Dated:
    """A number of k channels in s segments of time."""

    edges: Longs  # (s - 1,) µs UTC, ascending
    numbers: Doubles  # (s, k); NaN: not known

    def at(self, times: Longs) -> Doubles:
        """What holds at n times: (n, k), or (k,) if it never changes."""
        if not len(self.edges):
            first: Doubles = self.numbers[0]
            return first
        return self.numbers[np.searchsorted(self.edges, times, side="right")]


def dated(
    sensors: Sequence[Sensor],
    fixed: Sequence[float | None],
    name: Literal["offset", "dead_band_orientation_deg"],
) -> Dated:
    """The fixed number of each sensor, or where that is None, the one of its calibrations."""
    edges: set[int] = set()
    for sensor, number in zip(sensors, fixed, strict=True):
        if number is None:
            for each in sensor.calibrations:
                edges |= {micros(edge) for edge in (each.valid_from, each.valid_to) if edge is not None}
    ordered = sorted(edges)
    table = [
        [
            _number(sensor.calibrations, start, name) if number is None else number
            for sensor, number in zip(sensors, fixed, strict=True)
        ]
        for start in [None, *ordered]
    ]
    return Dated(np.array(ordered, np.int64), np.array(table, np.float64).reshape(len(table), len(sensors)))


def _number(calibrations: Sequence[Calibration], start: int | None, name: str) -> float:
    """What is valid in the segment that begins at `start` (None: since ever)."""
    for each in calibrations:
        begins = each.valid_from is None or (start is not None and micros(each.valid_from) <= start)
        ends = each.valid_to is not None and start is not None and micros(each.valid_to) <= start
        if begins and not ends:
            number = getattr(each, name)
            return np.nan if number is None else float(number)
    return np.nan
