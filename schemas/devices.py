"""Configuration of a device: what `devices` carries. Knows the rules that a configuration must keep; knows no source.

Names of quantities and statistics are those of the IEA Task 43 WRA data model. All intervals are half-open
[valid_from, valid_to), in UTC, in order of time and without overlap; null means unbounded.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Protocol, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator

from schemas.records import Record, Utc

DeviceId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Span = Annotated[tuple[FiniteFloat, FiniteFloat], BeforeValidator(lambda v: tuple(v) if isinstance(v, list) else v)]

DIRECTIONS = frozenset({"wind_direction"})
"""Quantities that are angles: their mean is circular, their difference wraps."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Dated(Protocol):
    @property
    def valid_from(self) -> datetime | None: ...
    @property
    def valid_to(self) -> datetime | None: ...


def _in_order(intervals: Sequence[_Dated], what: str) -> None:
    for interval in intervals:
        if interval.valid_from and interval.valid_to and interval.valid_from >= interval.valid_to:
            raise ValueError(f"{what} from {interval.valid_from} must begin before it ends at {interval.valid_to}")
    for former, later in pairwise(intervals):
        if former.valid_to is None or later.valid_from is None or later.valid_from < former.valid_to:
            raise ValueError(f"{what} from {later.valid_from} overlaps the one up to {former.valid_to}")


class Calibration(_Part):
    """Numbers valid in [valid_from, valid_to). A missing number that a formula needs means: not calibrated."""

    valid_from: Utc | None = None
    valid_to: Utc | None = None
    logger_slope: FiniteFloat | None = None
    logger_offset: FiniteFloat | None = None
    slope: FiniteFloat | None = None
    offset: FiniteFloat | None = None
    dead_band_orientation_deg: FiniteFloat | None = None
    serial: str | None = None
    instrument: str | None = None

    @model_validator(mode="after")
    def _slopes_can_be_divided_by(self) -> Self:
        for name in ("logger_slope", "slope"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must not be 0")
        return self


class GrossRange(_Part):
    """Bounds are good. Outside `fail` is fail, outside `suspect` is suspect; in the sensor's unit, calibrated."""

    fail: Span | None = None
    suspect: Span | None = None

    @model_validator(mode="after")
    def _spans_make_sense(self) -> Self:
        for name, span in (("fail", self.fail), ("suspect", self.suspect)):
            if span and span[0] > span[1]:
                raise ValueError(f"{name} = {list(span)}: the smaller number must come first")
        if self.fail and self.suspect and not self.fail[0] <= self.suspect[0] <= self.suspect[1] <= self.fail[1]:
            raise ValueError(f"suspect = {list(self.suspect)} must lie inside fail = {list(self.fail)}")
        return self


class Limits(_Part):
    """Limits of the quality tests; a test without limits is not run."""

    gross_range: GrossRange | None = None


class Sensor(_Part):
    """One statistic of one measurement point: one column of the device."""

    channel: Name
    point: Name
    quantity: Name
    unit: str
    statistic: Name
    height_m: FiniteFloat | None = None
    boom_orientation_deg: FiniteFloat | None = None
    calibrations: tuple[Calibration, ...] = ()
    limits: Limits = Limits()
    windows_s: tuple[Annotated[int, Field(gt=0)], ...] = (600,)

    @model_validator(mode="after")
    def _calibrations_in_order(self) -> Self:
        _in_order(self.calibrations, f'channel "{self.channel}": calibration')
        return self


class Logger(_Part):
    """The logger in use in [valid_from, valid_to). A null offset or stamp is unknown, and files wait for an answer."""

    valid_from: Utc | None = None
    valid_to: Utc | None = None
    maker: str | None = None
    model: str | None = None
    serial: str | None = None
    utc_offset_minutes: Annotated[int, Field(ge=-14 * 60, le=14 * 60)] | None = None
    stamp: Literal["begin", "end"] | None = None
    interval_s: Annotated[FiniteFloat, Field(gt=0)] | None = None


class Station(_Part):
    """Where a device stands."""

    station_id: DeviceId
    name: Name
    latitude_deg: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude_deg: Annotated[float, Field(ge=-180, le=180)] | None = None
    elevation_m: FiniteFloat | None = None


class Device(Record):
    """Configuration of one device."""

    schema_name: ClassVar[str] = "device"

    device_id: DeviceId
    name: Name
    station: Station
    loggers: tuple[Logger, ...] = ()
    interval_s: Annotated[FiniteFloat, Field(gt=0)] | None = None
    silence_limit_s: Annotated[FiniteFloat, Field(gt=0)] | None = None
    exists_from: Utc | None = None
    future_limit_s: Annotated[FiniteFloat, Field(ge=0)] = 300.0
    lateness_s: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    sensors: tuple[Sensor, ...]
    configured_at: Utc
    configured_by: Name

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _in_order(self.loggers, "logger")
        channels = [sensor.channel for sensor in self.sensors]
        for channel in channels:
            if channels.count(channel) > 1:
                raise ValueError(f'channel "{channel}" is configured {channels.count(channel)} times')
        return self
