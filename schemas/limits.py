"""Limits of the quality tests, as a sensor's configuration carries them. Knows which make sense; the tests themselves
are `streams/quality`.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, FiniteFloat, model_validator

from schemas.records import Name, Part

Span = Annotated[tuple[FiniteFloat, FiniteFloat], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]

Magnitude = Annotated[FiniteFloat, Field(ge=0)]


def _nested(inner_name: str, inner: Span | None, outer_name: str, outer: Span | None) -> None:
    for name, span in ((outer_name, outer), (inner_name, inner)):
        if span and span[0] > span[1]:
            raise ValueError(f"{name} = {list(span)}: the smaller number must come first")
    if outer and inner and not outer[0] <= inner[0] <= inner[1] <= outer[1]:
        raise ValueError(f"{inner_name} = {list(inner)} must lie inside {outer_name} = {list(outer)}")


class _Graded(Part):
    """Limits of which `suspect` is met before `fail`. Those that are 0 may be off, and are not compared."""

    in_order: ClassVar[tuple[str, str]] = ("suspect", "fail")
    """Names of the one that must not be more than the other, and of that."""

    @model_validator(mode="after")
    def _suspect_comes_first(self) -> Self:
        name, limit_name = self.in_order
        value, limit = getattr(self, name), getattr(self, limit_name)
        if value and limit and value > limit:
            raise ValueError(f"{name} = {value:g} must not be more than {limit_name} = {limit:g}")
        return self


class GrossRange(Part):
    """Bounds are good. Outside `fail` is fail, outside `suspect` is suspect; in the sensor's unit, calibrated."""

    fail: Span | None = None
    suspect: Span | None = None

    @model_validator(mode="after")
    def _spans_make_sense(self) -> Self:
        _nested("suspect", self.suspect, "fail", self.fail)
        return self


class Spike(_Graded):
    """How far a value may stand off its two neighbours; strict, 0 is off.

    `average`: off the middle between them. `differential`: the smaller of both steps, where they have opposite signs.
    """

    method: Literal["average", "differential"] = "average"
    suspect: Magnitude | None = None
    fail: Magnitude | None = None


class RateOfChange(_Graded):
    """Change since the reading before, in units per second; strict."""

    in_order = ("suspect_per_s", "fail_per_s")

    suspect_per_s: Magnitude | None = None
    fail_per_s: Magnitude | None = None


class FlatLine(_Graded):
    """Over `suspect_s` or `fail_s` the values must span at least `tolerance`; 0 never flags. Needs `interval_s`."""

    in_order = ("suspect_s", "fail_s")

    tolerance: Magnitude = 0.0
    suspect_s: Magnitude | None = None
    fail_s: Magnitude | None = None


class Gap(_Graded):
    """Time since the row before; strict. The reading behind the gap is flagged."""

    in_order = ("suspect_s", "fail_s")

    suspect_s: Magnitude | None = None
    fail_s: Magnitude | None = None


class Icing(FlatLine):
    """A flat line of a cup or vane while the channel `temperature` reads less than `below` (its unit)."""

    temperature: Name
    below: FiniteFloat = 1.0


class SdZero(_Graded):
    """The deviation of the interval must be more than this: nothing outdoors stands still.

    `sd` is the channel of the deviation; if left out, that of the same measurement point, or the channel itself if it
    is a deviation.
    """

    in_order = ("fail", "suspect")

    sd: Name | None = None
    suspect: Magnitude | None = 0.0
    fail: Magnitude | None = None


class Contradiction(_Graded):
    """By how much a minimum may exceed the average or the average the maximum, or the deviation lie below 0; strict.

    Channels that are left out are those of the same measurement point. Directions are not tested: they have no order.
    """

    min: Name | None = None
    avg: Name | None = None
    max: Name | None = None
    sd: Name | None = None
    suspect: Magnitude | None = None
    fail: Magnitude | None = 0.0


class StalledAtOffset(_Graded):
    """A cup that does not turn reads exactly its offset: for so long it may. Needs `interval_s`.

    `offset` is in the calibrated unit; if left out, that of the calibration valid at the time.
    """

    in_order = ("suspect_s", "fail_s")

    offset: FiniteFloat | None = None
    tolerance: Magnitude = 0.0
    suspect_s: Magnitude | None = None
    fail_s: Magnitude | None = None


class DeadBand(_Graded):
    """A vane that points into its dead band reads anything. Widths of the sector in degrees; its edges are good.

    `orientation_deg` is the middle, from north; if left out, that of the calibration valid at the time.
    """

    in_order = ("fail_width_deg", "suspect_width_deg")

    orientation_deg: FiniteFloat | None = None
    suspect_width_deg: Magnitude | None = None
    fail_width_deg: Magnitude | None = None


class SensorPair(_Graded):
    """How this channel may differ from `other`: differences strict, bounds of this / other good.

    The ratio is judged only where both read more than `ratio_above`; that of two directions never.
    """

    in_order = ("suspect_difference", "fail_difference")

    other: Name
    suspect_difference: Magnitude | None = None
    fail_difference: Magnitude | None = None
    suspect_ratio: Span | None = None
    fail_ratio: Span | None = None
    ratio_above: Magnitude = 0.0

    @model_validator(mode="after")
    def _spans_make_sense(self) -> Self:
        _nested("suspect_ratio", self.suspect_ratio, "fail_ratio", self.fail_ratio)
        return self


class BatteryLow(_Graded):
    """Below these readings of the channel `battery` nothing else can be trusted; strict."""

    in_order = ("fail", "suspect")

    battery: Name
    suspect: FiniteFloat | None = None
    fail: FiniteFloat | None = None


class Limits(Part):
    """Limits of the quality tests, one table a test; a test without limits is not run."""

    gross_range: GrossRange | None = None
    spike: Spike | None = None
    rate_of_change: RateOfChange | None = None
    flat_line: FlatLine | None = None
    gap: Gap | None = None
    icing: Icing | None = None
    sd_zero: SdZero | None = None
    contradiction: Contradiction | None = None
    stalled_at_offset: StalledAtOffset | None = None
    dead_band: DeadBand | None = None
    sensor_pair: SensorPair | None = None
    battery_low: BatteryLow | None = None

    def channels(self) -> Iterator[tuple[str, str]]:
        """The other channels that the tests look at: ("table.key", channel)."""
        named = {
            "icing": ("temperature",),
            "sd_zero": ("sd",),
            "contradiction": ("min", "avg", "max", "sd"),
            "sensor_pair": ("other",),
            "battery_low": ("battery",),
        }
        for table, keys in named.items():
            for key in keys:
                channel = getattr(getattr(self, table), key, None)
                if channel is not None:
                    yield f"{table}.{key}", channel
