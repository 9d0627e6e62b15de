"""A device as a WRA data model, so that its configuration leaves as it came. Pure: devices in, plain values out.

Columns of one measurement point that have the same history become one entry of each of its lists. Dates are written in
the clock of the logger in use, without a zone, and a change's date_to equals the next date_from, as the data model
wants it. What the data model has no word for is left out, and told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from schemas.devices import Calibration, Device, Logger, Sensor
from schemas.errors import Refused
from schemas.iea.model import WORDS

VERSION: Final = "1.3.0-2024.03"
_ENDS: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Where nothing says since when: the data model must have a date."""


@dataclass(frozen=True, slots=True)
class Exported:
    """The data model, and what a person should know about it."""

    model: dict[str, Any]
    warnings: tuple[str, ...]


def model_of(devices: Sequence[Device], *, author: str, organisation: str, today: date) -> Exported:
    """Raises `Refused` for a device without coordinates, which the data model must have."""
    warnings: list[str] = []
    locations = [_Location(device, warnings).told() for device in devices]
    model = {
        "author": author,
        "organisation": organisation,
        "date": today.isoformat(),
        "version": VERSION,
        "measurement_location": locations,
    }
    return Exported(model, tuple(warnings))


@dataclass(slots=True)
class _Piece:
    """What holds for several columns in [start, end)."""

    start: datetime | None
    end: datetime | None
    numbers: Calibration


@dataclass(slots=True)
class _Group:
    """Columns of one point with one history."""

    first: Sensor
    columns: list[Sensor] = field(default_factory=list)
    pieces: list[_Piece] = field(default_factory=list)  # of the instrument and its mounting, in order

    def takes(self, sensor: Sensor) -> bool:
        """Whether a column tells nothing else of the instrument at any time."""
        return all(
            _instrument(mine.numbers) == _instrument(its.numbers)
            for its in _pieces(sensor)
            for mine in self.pieces
            if _overlap(mine, its)
        )


@dataclass(frozen=True, slots=True)
class _Location:
    device: Device
    warnings: list[str]

    def told(self) -> dict[str, Any]:
        device, station = self.device, self.device.station
        if station.latitude_deg is None or station.longitude_deg is None:
            raise Refused(
                f"device {device.device_id}: its station {station.station_id} has no latitude_deg and longitude_deg, "
                "and a WRA data model must have them; add them (telltale stations show --json, edit, import)"
            )
        told: dict[str, Any] = {
            "name": device.name,
            "latitude_ddeg": station.latitude_deg,
            "longitude_ddeg": station.longitude_deg,
            "measurement_station_type_id": station.kind or "mast",
        }
        if device.loggers and station.kind == "reanalysis":
            told["model_config"] = [self._model(logger) for logger in device.loggers]
        elif device.loggers:
            told["logger_main_config"] = [self._logger(logger) for logger in device.loggers]
        told["measurement_point"] = [self._point(group) for group in self._groups()]
        if not told["measurement_point"]:
            raise Refused(f"device {device.device_id}: the data model has no word for any of its channels")
        return told

    # clocks

    def _local(self, at: datetime | None) -> str:
        """An instant in the clock of the logger in use."""
        if at is None:
            known = [each.valid_from for each in _leading(self.device.loggers) if each.valid_from]
            at = min(known, default=self.device.exists_from or BEGINNING)
        leading = _leading(self.device.loggers)
        begun = [each for each in leading if each.valid_from is None or each.valid_from <= at]
        logger = begun[-1] if begun else next(iter(leading), Logger())
        minutes = logger.utc_offset_minutes or 0
        local = (at.astimezone(UTC) + timedelta(minutes=minutes)).replace(tzinfo=None)
        return local.isoformat()

    def _dates(self, start: datetime | None, end: datetime | None) -> dict[str, Any]:
        return {"date_from": self._local(start), "date_to": None if end is None else self._local(end)}

    def _logger_dates(self, logger: Logger) -> dict[str, Any]:
        """In its own clock."""
        offset = timedelta(minutes=logger.utc_offset_minutes or 0)

        def local(at: datetime) -> str:
            return (at.astimezone(UTC) + offset).replace(tzinfo=None).isoformat()

        since = logger.valid_from or self.device.exists_from or BEGINNING
        return {"date_from": local(since), "date_to": None if logger.valid_to is None else local(logger.valid_to)}

    # loggers

    def _clock(self, logger: Logger) -> dict[str, Any]:
        minutes = None if logger.interval_s is None else logger.interval_s / 60
        whole = minutes is not None and minutes == int(minutes)
        if minutes is not None and not whole:
            self.warnings.append(
                f"{self.device.device_id}: an averaging period of {logger.interval_s:g} s is no whole number of minutes"
            )
        offset = logger.utc_offset_minutes
        return {
            "offset_from_utc_hrs": None if offset is None else _plain(offset / 60),
            "averaging_period_minutes": int(minutes) if minutes is not None and whole else None,
            "timestamp_is_end_of_period": None if logger.stamp is None else logger.stamp == "end",
        }

    def _logger(self, logger: Logger) -> dict[str, Any]:
        known = logger.maker in WORDS["logger_maker"]
        names = [word for word in (None if known else logger.maker, logger.model) if word]
        return {
            "logger_oem_id": logger.maker if known else "Other",
            "logger_model_name": " ".join(names) or None,
            "logger_serial_number": logger.serial or "unknown",
            **self._clock(logger),
            **self._logger_dates(logger),
        }

    def _model(self, logger: Logger) -> dict[str, Any]:
        named = {"reanalysis": logger.maker} if logger.maker else {}
        return {**named, "model_used": logger.model, **self._clock(logger), **self._logger_dates(logger)}

    # points

    def _groups(self) -> list[_Group]:
        groups: dict[tuple[Any, ...], list[_Group]] = {}
        for sensor in self.device.sensors:
            if sensor.statistic not in WORDS["statistic"]:
                self.warnings.append(
                    f"{self.device.device_id}: channel {sensor.channel} is left out: the data model has no statistic "
                    f'"{sensor.statistic}"'
                )
                continue
            same = groups.setdefault((sensor.point, sensor.quantity, sensor.height_m, sensor.boom_orientation_deg), [])
            group = next((each for each in same if each.takes(sensor)), None)
            if group is None:
                group = _Group(sensor)
                same.append(group)
            group.columns.append(sensor)
            group.pieces = _merged([*group.pieces, *_pieces(sensor)])
        return [group for same in groups.values() for group in same]

    def _point(self, group: _Group) -> dict[str, Any]:
        first = group.first
        quantity = first.quantity if first.quantity in WORDS["measurement_type"] else "other"
        pieces = group.pieces
        told: dict[str, Any] = {
            "name": first.point,
            "measurement_type_id": quantity,
            "height_m": first.height_m,
            "logger_measurement_config": list(self._programmed(group)),
        }
        instruments = [piece for piece in pieces if any(_certified(piece.numbers))]
        if instruments:
            told["sensor"] = [self._instrument(piece, quantity) for piece in _joined(instruments, _certified)]
        mounted = first.boom_orientation_deg is not None
        turned = any(piece.numbers.dead_band_orientation_deg is not None for piece in pieces)
        if mounted or turned:
            told["mounting_arrangement"] = [
                {
                    "boom_orientation_deg": first.boom_orientation_deg,
                    "vane_dead_band_orientation_deg": piece.numbers.dead_band_orientation_deg,
                    **self._dates(piece.start, piece.end),
                }
                for piece in _joined(pieces, lambda numbers: (numbers.dead_band_orientation_deg,))
            ]
        return told

    def _programmed(self, group: _Group) -> Iterable[dict[str, Any]]:
        """What was typed into the logger: columns with the same numbers in the same time are one entry."""
        entries: dict[tuple[Any, ...], list[Sensor]] = {}
        for sensor in group.columns:
            for piece in _joined(_pieces(sensor), _logged):
                unit = sensor.unit if sensor.unit in WORDS["unit"] else None
                if unit is None and sensor.unit:
                    self.warnings.append(
                        f'{self.device.device_id}: channel {sensor.channel}: the data model has no unit "{sensor.unit}"'
                    )
                key = (piece.start, piece.end, *_logged(piece.numbers), unit)
                entries.setdefault(key, []).append(sensor)
        for (start, end, slope, offset, unit), sensors in entries.items():
            yield {
                "slope": slope,
                "offset": offset,
                "measurement_units_id": unit,
                "height_m": group.first.height_m,
                "column_name": [
                    {"column_name": sensor.channel, "statistic_type_id": sensor.statistic, "is_ignored": False}
                    for sensor in sensors
                ],
                **self._dates(start, end),
            }

    def _instrument(self, piece: _Piece, quantity: str) -> dict[str, Any]:
        numbers = piece.numbers
        told: dict[str, Any] = {
            "oem": None,
            "model": numbers.instrument,
            "serial_number": numbers.serial,
            **self._dates(piece.start, piece.end),
        }
        certificate = {
            "slope": numbers.slope,
            "offset": numbers.offset,
            "calibration_id": numbers.certificate,
            "calibration_organisation": numbers.laboratory,
            "date_of_calibration": numbers.calibrated_on,
        }
        if any(value is not None for value in certificate.values()):
            told["calibration"] = [{"measurement_type_id": quantity, **certificate}]
        return told


def _leading(loggers: Sequence[Logger]) -> list[Logger]:
    """Loggers one after another, by whose clock dates are meant: those that overlap with none before them."""
    leading: list[Logger] = []
    for logger in loggers:
        since, until = logger.valid_from or _ENDS[0], logger.valid_to or _ENDS[1]
        if all(until <= (each.valid_from or _ENDS[0]) or (each.valid_to or _ENDS[1]) <= since for each in leading):
            leading.append(logger)
    return leading


def _certified(numbers: Calibration) -> tuple[Any, ...]:
    """What belongs to the instrument."""
    return (
        numbers.slope,
        numbers.offset,
        numbers.serial,
        numbers.instrument,
        numbers.certificate,
        numbers.laboratory,
        numbers.calibrated_on,
    )


def _instrument(numbers: Calibration) -> tuple[Any, ...]:
    """What a whole point has in common."""
    return (*_certified(numbers), numbers.dead_band_orientation_deg)


def _pieces(sensor: Sensor) -> list[_Piece]:
    pieces = [_Piece(each.valid_from, each.valid_to, each) for each in sensor.calibrations]
    return pieces or [_Piece(None, None, Calibration())]


def _span(piece: _Piece) -> tuple[datetime, datetime]:
    return piece.start or _ENDS[0], piece.end or _ENDS[1]


def _overlap(one: _Piece, other: _Piece) -> bool:
    (begin, end), (since, until) = _span(one), _span(other)
    return begin < until and since < end


def _merged(pieces: Sequence[_Piece]) -> list[_Piece]:
    """In order, those that overlap or meet and say the same as one."""
    out: list[_Piece] = []
    for piece in sorted(pieces, key=_span):
        last = out[-1] if out else None
        if last is not None and _instrument(last.numbers) == _instrument(piece.numbers):
            (_, end), (since, until) = _span(last), _span(piece)
            if since <= end:
                out[-1] = _Piece(last.start, last.end if end >= until else piece.end, last.numbers)
                continue
        out.append(piece)
    return out


def _logged(numbers: Calibration) -> tuple[Any, ...]:
    """What was typed into the logger."""
    return (numbers.logger_slope, numbers.logger_offset)


def _joined(pieces: Sequence[_Piece], of: Any) -> list[_Piece]:
    """Neighbours that say the same, as one."""
    out: list[_Piece] = []
    for piece in pieces:
        if out and out[-1].end == piece.start and of(out[-1].numbers) == of(piece.numbers):
            out[-1] = _Piece(out[-1].start, piece.end, out[-1].numbers)
        else:
            out.append(piece)
    return out


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number
