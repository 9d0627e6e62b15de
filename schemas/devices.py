"""Configuration of a device: what `devices` carries. Knows the rules that a configuration must keep; knows no source.

Names of quantities and statistics are those of the IEA Task 43 WRA data model. All intervals are half-open
[valid_from, valid_to), in UTC, in order of time and without overlap; null means unbounded.
"""

from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, Protocol, Self

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from schemas.alarms import Severity
from schemas.limits import Limits
from schemas.records import Name, Part, Record, Utc

DEVICE_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""What all of a device's name matches. It stands in file names, rights at the broker and addresses of pages."""
DeviceId = Annotated[str, Field(pattern=f"^{DEVICE_ID}$")]
CalendarDay = Annotated[
    str, Field(pattern=r"^\d{4}-\d\d-\d\d$"), AfterValidator(lambda day: str(date.fromisoformat(day)))
]
"""YYYY-MM-DD."""

DIRECTIONS = frozenset(
    {
        "wind_direction",
        "motion_corrected_wind_direction",
        "wave_direction",
        "water_direction",
        "compass_direction",
        "orientation",
    }
)
"""Quantities that are angles: their mean is circular, their difference wraps."""


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


class Calibration(Part):
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
    certificate: str | None = None
    laboratory: str | None = None
    calibrated_on: CalendarDay | None = None

    @model_validator(mode="after")
    def _slopes_can_be_divided_by(self) -> Self:
        for name in ("logger_slope", "slope"):
            if getattr(self, name) == 0:
                raise ValueError(f"{name} must not be 0")
        return self


class RuleKind(StrEnum):
    """What an alarm rule looks at; what `limit` means for it, and its unit."""

    SILENCE = "silence"  # s without a record of the device; null: the device's silence_limit_s
    SENSOR_SILENCE = "sensor_silence"  # s without a reading of the sensor
    ABOVE = "above"  # calibrated value, sensor's unit
    BELOW = "below"
    RATE = "rate"  # change per second either way, sensor's unit / s
    WINDOW_ABOVE = "window_above"  # `figure` of closed windows of `window_s`
    WINDOW_BELOW = "window_below"
    QUALITY_SHARE = "quality_share"  # share of failed readings in a closed window, 0 to 1
    SEQUENCE_GAP = "sequence_gap"  # missing frames
    CLOCK_SKEW = "clock_skew"  # s between the device's clock and the broker's, either way
    REJECTED_SHARE = "rejected_share"  # share of readings that could not be taken, 0 to 1
    SPOOL_DROPPING = "spool_dropping"  # readings that the spool dropped or refused since the last heartbeat
    SPOOL_DAMAGED = "spool_damaged"  # spools set aside since the edge started: 0 or 1
    SOURCE_FAILED = "source_failed"  # sources of readings at the edge that fail
    DUPLICATE_DEVICE = "duplicate_device"  # spools whose heartbeats come in turns


SENSOR_KINDS = frozenset(
    {
        RuleKind.SENSOR_SILENCE,
        RuleKind.ABOVE,
        RuleKind.BELOW,
        RuleKind.RATE,
        RuleKind.WINDOW_ABOVE,
        RuleKind.WINDOW_BELOW,
        RuleKind.QUALITY_SHARE,
    }
)
"""Kinds that are about one sensor; the others are about the whole device."""

_LIMITLESS = frozenset(
    {
        RuleKind.SILENCE,
        RuleKind.SEQUENCE_GAP,
        RuleKind.SPOOL_DROPPING,
        RuleKind.SPOOL_DAMAGED,
        RuleKind.SOURCE_FAILED,
    }
)
_POSITIVE = frozenset({RuleKind.SILENCE, RuleKind.SENSOR_SILENCE, RuleKind.RATE, RuleKind.CLOCK_SKEW})
_SHARES = frozenset({RuleKind.QUALITY_SHARE, RuleKind.REJECTED_SHARE})
_WINDOWED = frozenset({RuleKind.WINDOW_ABOVE, RuleKind.WINDOW_BELOW})


class AlarmRule(Part):
    """When to raise an alarm. It replaces the one of its name further away: default, fleet, station, device, sensor.

    Raised when the value is beyond `limit` for `on_delay_s`; cleared when it is back by `hysteresis` for `off_delay_s`.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    kind: RuleKind
    enabled: bool = True
    severity: Severity = Severity.MINOR
    limit: FiniteFloat | None = None
    hysteresis: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    on_delay_s: Annotated[FiniteFloat, Field(ge=0, le=366 * 86_400)] = 0.0
    off_delay_s: Annotated[FiniteFloat, Field(ge=0, le=366 * 86_400)] = 0.0
    latched: bool = False
    window_s: Annotated[int, Field(gt=0)] | None = None
    figure: Literal["mean", "sd", "min", "max", "completeness"] | None = None
    quantity: Name | None = None  # only sensors of this quantity
    statistic: Name | None = None  # only sensors of this statistic

    @model_validator(mode="after")
    def _complete(self) -> Self:
        what = f'alarm rule "{self.name}" ({self.kind})'
        if not self.enabled:
            return self
        if self.limit is None and self.kind not in _LIMITLESS:
            raise ValueError(f"{what} needs a limit")
        if self.limit is not None and self.kind in _POSITIVE and self.limit <= 0:
            raise ValueError(f"{what}: limit must be above 0, got {self.limit:g}")
        if self.limit is not None and self.kind in _SHARES and not 0 <= self.limit < 1:
            raise ValueError(f"{what}: limit is a share and must be in [0, 1), got {self.limit:g}")
        if (self.figure is None or self.window_s is None) and self.kind in _WINDOWED:
            raise ValueError(f"{what} needs a figure (mean, sd, min, max, completeness) and window_s")
        if self.figure is not None and self.kind not in _WINDOWED:
            raise ValueError(f"{what} has no figure; only window_above and window_below have")
        if self.window_s is not None and self.kind not in _WINDOWED | {RuleKind.QUALITY_SHARE}:
            raise ValueError(f"{what} has no window_s; only rules on windows have")
        if (self.quantity or self.statistic) and self.kind not in SENSOR_KINDS:
            raise ValueError(f"{what} is about the whole device: it cannot be for a quantity or statistic")
        return self


def _names_once(rules: Sequence[AlarmRule], what: str) -> None:
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f'{what}: alarm rule "{name}" stands {names.count(name)} times')


class Sensor(Part):
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
    windows_s: tuple[Annotated[int, Field(gt=0, le=366 * 86_400)], ...] = (600,)
    alarm_rules: tuple[AlarmRule, ...] = ()

    @model_validator(mode="after")
    def _calibrations_in_order(self) -> Self:
        _in_order(self.calibrations, f'channel "{self.channel}": calibration')
        return self

    @model_validator(mode="after")
    def _rules_fit(self) -> Self:
        _names_once(self.alarm_rules, f'channel "{self.channel}"')
        for rule in self.alarm_rules:
            what = f'channel "{self.channel}": alarm rule "{rule.name}" ({rule.kind})'
            if rule.kind not in SENSOR_KINDS:
                raise ValueError(f"{what} is about the whole device: it belongs among the device's alarm_rules")
            if rule.enabled and rule.window_s is not None and rule.window_s not in self.windows_s:
                raise ValueError(f"{what}: window_s = {rule.window_s} is none of windows_s = {list(self.windows_s)}")
        return self


class Program(Part):
    """A program of a logger, as its files name it, that somebody has accepted."""

    table: str = ""
    program: str = ""
    signature: str = ""
    columns: tuple[str, ...] = ()


class Logger(Part):
    """The logger in use in [valid_from, valid_to). A null offset or stamp is unknown, and files wait for an answer."""

    valid_from: Utc | None = None
    valid_to: Utc | None = None
    maker: str | None = None
    model: str | None = None
    serial: str | None = None
    utc_offset_minutes: Annotated[int, Field(ge=-14 * 60, le=14 * 60)] | None = None
    stamp: Literal["begin", "end"] | None = None
    interval_s: Annotated[FiniteFloat, Field(gt=0)] | None = None
    date_order: Literal["dmy", "mdy", "ymd"] | None = None
    programs: tuple[Program, ...] = ()


def _one_logger_at_a_time(loggers: Sequence[Logger]) -> None:
    """Of one serial number; several loggers (a lidar and a buoy's) may run side by side, listed one after another."""
    for serial in dict.fromkeys(logger.serial for logger in loggers):
        _in_order([logger for logger in loggers if logger.serial == serial], "logger")
    if any(logger.serial is None for logger in loggers):
        _in_order(loggers, "logger")


class Station(Part):
    """Where a device stands."""

    station_id: DeviceId
    name: Name
    latitude_deg: Annotated[float, Field(ge=-90, le=90)] | None = None
    longitude_deg: Annotated[float, Field(ge=-180, le=180)] | None = None
    elevation_m: FiniteFloat | None = None
    alarm_rules: tuple[AlarmRule, ...] = ()
    kind: str | None = None

    @model_validator(mode="after")
    def _rules_once(self) -> Self:
        _names_once(self.alarm_rules, f"station {self.station_id}")
        return self


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
    alarm_rules: tuple[AlarmRule, ...] = ()
    fleet_alarm_rules: tuple[AlarmRule, ...] = ()
    configured_at: Utc
    configured_by: Name

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _one_logger_at_a_time(self.loggers)
        _names_once(self.alarm_rules, f"device {self.device_id}")
        _names_once(self.fleet_alarm_rules, "all devices")
        channels = [sensor.channel for sensor in self.sensors]
        for channel in channels:
            if channels.count(channel) > 1:
                raise ValueError(f'channel "{channel}" is configured {channels.count(channel)} times')
        for sensor in self.sensors:
            for key, channel in sensor.limits.channels():
                if channel not in channels:
                    raise ValueError(
                        f'channel "{sensor.channel}": limits.{key} = "{channel}" is no channel of the device'
                    )
        return self
