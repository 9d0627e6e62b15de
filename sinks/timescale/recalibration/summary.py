"""What a recalibration did to a sensor, in numbers that add up over slices. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Side:
    """Finite values before or after."""

    count: int = 0
    total: float = 0.0
    min: float | None = None
    max: float | None = None
    sines: float = 0.0
    cosines: float = 0.0
    suspect: int = 0  # flags, of finite and other values
    failed: int = 0

    @staticmethod
    def read(row: Sequence[Any]) -> "Side":
        """From the eight aggregates, of which some are null where there is no row."""
        count, total, low, high, sines, cosines, suspect, failed = row
        return Side(count, total or 0.0, low, high, sines or 0.0, cosines or 0.0, suspect, failed)

    def plus(self, other: "Side") -> "Side":
        lows = [side.min for side in (self, other) if side.min is not None]
        highs = [side.max for side in (self, other) if side.max is not None]
        return Side(
            self.count + other.count,
            self.total + other.total,
            min(lows, default=None),
            max(highs, default=None),
            self.sines + other.sines,
            self.cosines + other.cosines,
            self.suspect + other.suspect,
            self.failed + other.failed,
        )

    def told(self, *, is_angle: bool) -> dict[str, Any]:
        """Directions have a circular mean, and neither smallest nor largest."""
        if not self.count:
            return {"mean": None, "min": None, "max": None}
        if is_angle:
            mean = math.degrees(math.atan2(self.sines, self.cosines)) % 360.0
            return {"mean": mean if mean < 360.0 else 0.0, "min": None, "max": None}
        return {"mean": self.total / self.count, "min": self.min, "max": self.max}


@dataclass(frozen=True, slots=True)
class Summary:
    """Of the first time through a sensor's readings; what later passes find is counted as changed only."""

    before: Side = field(default_factory=Side)
    after: Side = field(default_factory=Side)
    largest_change: float | None = None
    uncalibrated_before: int = 0
    uncalibrated_after: int = 0
    is_whole: bool = False
    is_angle: bool = False

    def plus(self, row: Sequence[Any], *, is_angle: bool) -> "Summary":
        """With a slice's largest change, numbers of uncalibrated rows, and both sides' eight figures."""
        largest = [each for each in (self.largest_change, row[0]) if each is not None]
        sides = Side.read(row[3:11]), Side.read(row[11:19])
        return replace(
            self,
            before=self.before.plus(sides[0]),
            after=self.after.plus(sides[1]),
            largest_change=max(largest, default=None),
            uncalibrated_before=self.uncalibrated_before + row[1],
            uncalibrated_after=self.uncalibrated_after + row[2],
            is_angle=is_angle,
        )

    def plain(self) -> dict[str, Any]:
        """For keeping; `of` reads it. JSON knows no infinity, which a total may become."""
        kept: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        kept["before"], kept["after"] = _finite(self.before), _finite(self.after)
        return kept

    @staticmethod
    def of(kept: dict[str, Any]) -> "Summary":
        sides: dict[str, Any] = {name: Side(**kept[name]) for name in ("before", "after") if name in kept}
        return Summary(**(kept | sides))

    def told(self) -> dict[str, Any]:
        """For people and scripts."""
        return {
            "before": self._side(self.before, self.uncalibrated_before),
            "after": self._side(self.after, self.uncalibrated_after),
            "largest_change": self.largest_change,
        }

    def _side(self, side: Side, uncalibrated: int) -> dict[str, Any]:
        counts = {"suspect": side.suspect, "failed": side.failed, "not_calibrated": uncalibrated}
        return side.told(is_angle=self.is_angle) | counts


def _finite(side: Side) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for each in fields(side):
        value = getattr(side, each.name)
        kept[each.name] = 0.0 if isinstance(value, float) and not math.isfinite(value) else value
    return kept
