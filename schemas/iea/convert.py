"""A WRA data model as `devices` records: one device per measurement location, one sensor per column.

Three lists of a measurement point change numbers, each at its own dates: what was programmed into the logger, which
instrument (with its certificate) was installed, and how it was mounted. Their merged intervals are the calibrations.
A certificate has no dates of its own: it is valid as long as its instrument is installed.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from schemas.devices import DIRECTIONS, Device, Logger, Sensor, Station
from schemas.iea.clock import Clock, Running, spelled_offset
from schemas.iea.model import (
    CalibrationCertificate,
    ColumnName,
    DataModel,
    Dated,
    InstalledSensor,
    LoggerMainConfig,
    LoggerMeasurementConfig,
    MeasurementLocation,
    MeasurementPoint,
)
from schemas.iea.numbers import Ambiguous, certificate_for, joined, numbers_of
from schemas.iea.ranges import default_limits
from schemas.iea.timeline import OPEN, Contradiction, Span, in_order, merged
from schemas.json_file import JsonFile, Path

D = TypeVar("D", bound=Dated)

STEP_UNKNOWN = timedelta(minutes=1)
"""Longest hole that is closed where no averaging period is given: files write the last minute (17:59, then 18:00)."""

SILENT_STEPS = 3
"""Rows that may fail to come before a device counts as silent: one may be late, two are a pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a person says where the file says nothing, and who makes the records."""

    configured_at: datetime
    configured_by: str
    device_id: str | None = None
    utc_offset_minutes: int | None = None
    stamp: Literal["begin", "end"] | None = None
    silence_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """Devices, and what a person should know about them."""

    devices: tuple[Device, ...]
    warnings: tuple[str, ...] = ()


def devices_of(file: JsonFile, *, answers: Answers) -> Imported:
    """Every measurement location of the file as a device. Raises `Refused`."""
    model = file.as_model(DataModel)
    locations = model.measurement_location
    if not locations:
        raise file.refused(("measurement_location",), "must have a measurement location")
    if answers.device_id and len(locations) > 1:
        names = ", ".join(location.name for location in locations)
        raise file.refused(
            ("measurement_location",), f"has {len(locations)} locations ({names}), and one device id cannot name them"
        )
    warnings: list[str] = []
    devices: dict[str, Device] = {}
    for index, location in enumerate(locations):
        reading = _Location(file, ("measurement_location", index), location, answers, warnings)
        device = reading.device()
        if device.device_id in devices:
            raise file.refused((*reading.path, "name"), f'gives the device id "{device.device_id}" a second time')
        devices[device.device_id] = device
    return Imported(tuple(devices.values()), tuple(warnings))


def slug(name: str) -> str:
    """A name as an id: `Demo Mast` as `demo-mast`. May be empty."""
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9._]+", "-", plain).strip("-._")[:128]


@dataclass(slots=True)
class _Column:
    """One column of the logger's files: what it is, and when it was programmed how."""

    path: Path
    name: str
    statistic: str
    point: MeasurementPoint
    point_path: Path
    unit: str | None
    programmed: list[Span[LoggerMeasurementConfig]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Location:
    """One measurement location on its way to a device."""

    file: JsonFile
    path: Path
    location: MeasurementLocation
    answers: Answers
    warnings: list[str]

    def device(self) -> Device:
        device_id = self.answers.device_id or slug(self.location.name)
        if not device_id:
            raise self.file.refused((*self.path, "name"), "gives no device id; give one (--device ID)")
        leading, beside = self._loggers()
        offsets = [self._offset_minutes(span) for span in leading]
        clock = Clock([Running(span.start, offset or 0) for span, offset in zip(leading, offsets, strict=True)])
        loggers = [self._logger(span, offset, clock) for span, offset in zip(leading, offsets, strict=True)]
        interval_s = loggers[-1].interval_s if loggers else None
        for span in beside:
            offset = self._offset_minutes(span)
            loggers.append(self._logger(span, offset, Clock([Running(span.start, offset or 0)])))
        if any(logger.interval_s != interval_s for logger in loggers):
            self.warnings.append(
                f"{self.location.name}: its loggers have different averaging periods; readings are expected every "
                f"{interval_s or 0:g} s, as the first one brings them"
            )
        hole_max = timedelta(seconds=interval_s) if interval_s else STEP_UNKNOWN
        sensors = [self._sensor(column, clock, hole_max) for column in self._columns().values()]
        if not sensors:
            raise self.file.refused((*self.path, "measurement_point"), "has no column with numbers to import")
        self._warn_of_waiting(device_id, loggers)
        default_silence_s = SILENT_STEPS * interval_s if interval_s else None
        device = {
            "device_id": device_id,
            "name": self.location.name,
            "station": Station(
                station_id=slug(self.location.name) or device_id,
                name=self.location.name,
                latitude_deg=self.location.latitude_ddeg,
                longitude_deg=self.location.longitude_ddeg,
                kind=self.location.measurement_station_type_id,
            ),
            "loggers": tuple(loggers),
            "interval_s": interval_s,
            "silence_limit_s": self.answers.silence_limit_s or default_silence_s,
            "exists_from": min((one.valid_from for one in loggers if one.valid_from), default=None),
            "sensors": tuple(sensors),
            "configured_at": self.answers.configured_at,
            "configured_by": self.answers.configured_by,
        }
        return self.file.as_model(Device, device, at=self.path)

    def _loggers(self) -> tuple[list[Span[LoggerMainConfig]], list[Span[LoggerMainConfig]]]:
        """Loggers one after another, by whose clock dates are meant; and those that ran beside them.

        A floating lidar has a buoy's logger, a lidar, a current profiler, all at once: the first in the file leads.
        """
        configs = list(self.location.logger_main_config or [])
        if not configs and self.location.model_config_:
            return self._ordered(
                [each.as_logger() for each in self.location.model_config_], "model_config", STEP_UNKNOWN
            ), []
        at = (*self.path, "logger_main_config")
        spans = [self._span(config, index, (*at, index)) for index, config in enumerate(configs)]
        serials = list(dict.fromkeys(span.value.logger_serial_number for span in spans))
        if len(serials) < 2:
            return self._closed(spans, at, STEP_UNKNOWN), []
        by_serial = [
            self._closed([one for one in spans if one.value.logger_serial_number == serial], at, STEP_UNKNOWN)
            for serial in serials
        ]
        leading: list[Span[LoggerMainConfig]] = []
        beside: list[Span[LoggerMainConfig]] = []
        for mine in by_serial:
            overlaps = any(one.start < other.end and other.start < one.end for one in mine for other in leading)
            (beside if overlaps else leading).extend(mine)
        if beside:
            names = ", ".join(dict.fromkeys(str(span.value.logger_serial_number) for span in beside))
            self.warnings.append(
                f"{self.location.name}: several loggers at a time; dates are read by the clock of "
                f"{leading[0].value.logger_serial_number}, and {names} ran beside it"
            )
        return self._closed(leading, at, STEP_UNKNOWN), beside

    def _offset_minutes(self, span: Span[LoggerMainConfig]) -> int | None:
        """Of a logger's clock: as stated, else by the zone of its dates, else as answered."""
        stated, zone = span.value.offset_from_utc_hrs, span.value.date_from.utcoffset()
        if stated is not None:
            if self.answers.utc_offset_minutes not in (None, round(stated * 60)):
                self.warnings.append(
                    f"{self.location.name}: the file states the logger's offset from UTC ({stated:g} h); it counts"
                )
            return round(stated * 60)
        if zone is not None:
            minutes = round(zone.total_seconds() / 60)
            self.warnings.append(
                f"{self.location.name}: the logger's offset from UTC is taken from the zone of its date_from: {zone}"
            )
            return minutes
        return self.answers.utc_offset_minutes

    def _logger(self, span: Span[LoggerMainConfig], offset_minutes: int | None, clock: Clock) -> Logger:
        config = span.value
        if config.timestamp_is_end_of_period is None:
            stamp = self.answers.stamp
        else:
            stamp = "end" if config.timestamp_is_end_of_period else "begin"
        minutes = config.averaging_period_minutes
        return Logger(
            valid_from=clock.utc(span.start),
            valid_to=clock.utc(span.end),
            maker=config.logger_oem_id,
            model=config.logger_model_name,
            serial=config.logger_serial_number,
            utc_offset_minutes=offset_minutes,
            stamp=stamp,
            interval_s=minutes * 60 if minutes else None,
        )

    def _warn_of_waiting(self, device_id: str, loggers: Sequence[Logger]) -> None:
        """Tell of what must be known before a file of the logger can be read."""
        given = self.answers.utc_offset_minutes
        zone = "HH:MM" if given is None else spelled_offset(given)
        no_zone = any(logger.utc_offset_minutes is None for logger in loggers)
        no_stamp = any(logger.stamp is None for logger in loggers)
        whats = ["the logger's offset from UTC"] * no_zone + ["which end of the interval its stamps mean"] * no_stamp
        options = [f"--utc-offset {zone}"] * (no_zone or given is not None)
        options += [f"--stamp {self.answers.stamp or 'begin|end'}"] * (no_stamp or self.answers.stamp is not None)
        if whats:
            self.warnings.append(
                f"{self.location.name}: the file does not say {' and '.join(whats)}; files of device {device_id} will "
                f"wait until it is given: telltale stations import {self.file.name} {' '.join(options)}"
            )

    def _columns(self) -> dict[str, _Column]:
        """Every column that is not ignored and holds numbers, with all its configurations."""
        columns: dict[str, _Column] = {}
        for point_path, point in self._points():
            for index, config, name_path, name in self._column_names(point_path, point):
                column = columns.setdefault(
                    name.column_name,
                    _Column(name_path, name.column_name, name.statistic_type_id, point, point_path, None),
                )
                if column.point is not point:
                    raise self.file.refused(
                        (*name_path, "column_name"),
                        f'"{name.column_name}" belongs to {column.point.name} already; a column has one point',
                    )
                if column.statistic != name.statistic_type_id:
                    raise self.file.refused(
                        (*name_path, "statistic_type_id"),
                        f'must stay "{column.statistic}" for column "{name.column_name}"',
                    )
                if config.measurement_units_id not in (None, column.unit or config.measurement_units_id):
                    raise self.file.refused(
                        (*point_path, self._list_name(point_path), index, "measurement_units_id"),
                        f'must stay "{column.unit}" for column "{name.column_name}"',
                    )
                column.unit = column.unit or config.measurement_units_id
                column.programmed.append(self._span(config, index, (*point_path, self._list_name(point_path), index)))
        return columns

    def _points(self) -> Iterator[tuple[Path, MeasurementPoint]]:
        for index, point in enumerate(self.location.measurement_point):
            yield (*self.path, "measurement_point", index), point

    def _column_names(
        self, point_path: Path, point: MeasurementPoint
    ) -> Iterator[tuple[int, LoggerMeasurementConfig, Path, ColumnName]]:
        for index, config in enumerate(point.logger_measurement_config):
            for place, name in enumerate(config.column_name):
                if not name.is_ignored and name.statistic_type_id != "text":
                    yield index, config, (*point_path, self._list_name(point_path), index, "column_name", place), name

    def _list_name(self, point_path: Path) -> str:
        """What the file calls a point's list of logger configurations."""
        value = self.file.value
        for step in point_path:
            value = value[step]
        return "logger_measurement_config" if "logger_measurement_config" in value else "sensor_config"

    def _sensor(self, column: _Column, clock: Clock, hole_max: timedelta) -> Sensor:
        point, path = column.point, column.point_path
        list_name = self._list_name(path)
        programmed = self._closed(column.programmed, (*path, list_name), hole_max)
        installed = self._ordered(point.sensor or [], "sensor", hole_max, path)
        mounted = self._ordered(point.mounting_arrangement or [], "mounting_arrangement", hole_max, path)
        certificates = [
            Span(span.start, span.end, (span.value, self._certificate(span, point, path)), span.index)
            for span in installed
        ]
        pieces = []
        for start, end, config, instrument, mounting in merged(programmed, certificates, mounted):
            valid_from, valid_to = clock.utc(start), clock.utc(end)
            if valid_from == valid_to:  # a change of loggers and of their offset swallowed it
                continue
            numbers = numbers_of(config, instrument, mounting, vane=point.measurement_type_id in DIRECTIONS)
            pieces.append(numbers.model_copy(update={"valid_from": valid_from, "valid_to": valid_to}))
        unit = column.unit or ""
        return Sensor(
            channel=column.name,
            point=point.name,
            quantity=point.measurement_type_id,
            unit=unit,
            statistic=column.statistic,
            height_m=point.height_m,
            boom_orientation_deg=mounted[-1].value.boom_orientation_deg if mounted else None,
            calibrations=tuple(joined(pieces)),
            limits=default_limits(point.measurement_type_id, unit, column.statistic),
        )

    def _certificate(
        self, span: Span[InstalledSensor], point: MeasurementPoint, point_path: Path
    ) -> CalibrationCertificate | None:
        try:
            return certificate_for(point.measurement_type_id, span.value)
        except Ambiguous as error:
            raise self.file.refused((*point_path, "sensor", span.index, "calibration"), str(error)) from None

    def _ordered(
        self, entries: Sequence[D], list_name: str, hole_max: timedelta, path: Path | None = None
    ) -> list[Span[D]]:
        at = (*(self.path if path is None else path), list_name)
        return self._closed([self._span(entry, i, (*at, i)) for i, entry in enumerate(entries)], at, hole_max)

    def _closed(self, spans: Sequence[Span[D]], at: Path, hole_max: timedelta) -> list[Span[D]]:
        try:
            return in_order(spans, hole_max=hole_max)
        except Contradiction as error:
            raise self.file.refused((*at, error.index, error.field), error.what) from None

    def _span(self, entry: D, index: int, path: Path) -> Span[D]:
        start, end = entry.date_from, entry.date_to
        for name, date in (("date_from", start), ("date_to", end)):
            if date is not None:
                self._same_zone(date, (*path, name))
        return Span(start.replace(tzinfo=None), end.replace(tzinfo=None) if end else OPEN, entry, index)

    def _same_zone(self, date: datetime, path: Path) -> None:
        """Refuse a date whose zone is not its logger's: which of the two is meant, nobody can tell."""
        zone, local = date.utcoffset(), date.replace(tzinfo=None)
        if zone is None:
            return
        configs = self.location.logger_main_config or []
        begun = [config for config in configs if config.date_from.replace(tzinfo=None) <= local] or configs
        logger = max(begun, key=lambda config: config.date_from.replace(tzinfo=None), default=None)
        if logger is None:
            return
        hours = logger.offset_from_utc_hrs
        wanted = logger.date_from.utcoffset() if hours is None else timedelta(hours=hours)
        if wanted is not None and zone != wanted:
            hours = wanted.total_seconds() / 3600
            raise self.file.refused(
                path, f"{date.isoformat()} must have no zone or the logger's, which is {hours:g} hours from UTC"
            )
