"""A ready-made configuration from what a logger file says, for a person to look at and accept. Pure.

What a column measures is taken from its unit and name: a proposal, which is why a person accepts it. What nothing says
is left open, and files wait for the answer.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from producers.files.logger_file import Column, Identity, Kind, Stamping
from producers.imports.identifying import measured, program_of, same_serial, value_columns
from producers.imports.remembering import answered
from schemas.devices import Calibration, Device, Logger, Program, Sensor, Station
from schemas.iea.convert import SILENT_STEPS, slug
from schemas.iea.ranges import default_limits

# Units as loggers write them, in lower case without blanks: as the data model writes them.
UNITS = {
    **dict.fromkeys(("m/s", "ms-1", "mps", "meters/second", "metres/second", "meterspersecond", "m/sec"), "m/s"),
    **dict.fromkeys(("deg", "degs", "degree", "degrees", "degreesn", "°"), "deg"),
    **dict.fromkeys(("degc", "deg_c", "c", "oc", "°c", "celsius", "degreesc", "degreescelsius"), "deg_C"),
    **dict.fromkeys(("degf", "deg_f", "f", "°f", "fahrenheit"), "deg_F"),
    **dict.fromkeys(("k", "kelvin"), "K"),
    **dict.fromkeys(("%", "%rh", "percent", "pct", "rh%"), "%"),
    **dict.fromkeys(("hpa", "mb", "mbar", "millibar", "millibars"), "hPa"),
    **dict.fromkeys(("v", "volt", "volts", "vdc"), "V"),
    **dict.fromkeys(("w/m^2", "w/m2", "w/m²", "watts/meter^2", "wm-2", "w/sqm"), "W/m^2"),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), "mm"),
    **dict.fromkeys(("mph", "knots", "hz", "a", "ma", "ohm", "lux", "db", "mmhg", "inhg", "m"), ""),
}
SPELLED = {"hz": "Hz", "a": "A", "ma": "mA", "db": "dB", "mmhg": "mmHg", "inhg": "inHg"}

STATISTICS = {
    **dict.fromkeys(("avg", "average", "mean", "smp", "sample", "wvc", "wv", ""), "avg"),
    **dict.fromkeys(("std", "sd", "stdev", "stddev"), "sd"),
    **dict.fromkeys(("max", "maximum"), "max"),
    **dict.fromkeys(("min", "minimum"), "min"),
    **dict.fromkeys(("tot", "total", "sum", "totrun"), "sum"),
    **dict.fromkeys(("gust",), "gust"),
    **dict.fromkeys(("count", "cnt"), "count"),
    **dict.fromkeys(("med", "median"), "median"),
}
_SUFFIX = re.compile(r"[ _.\-]*(avg|std|sd|stdev|max|min|tot|sum|gust|smp|wvc)(?=\(|\[|$|[ _].*$)", re.IGNORECASE)
_HEIGHT = re.compile(r"(?<![\d.])(\d{1,3}(?:\.\d+)?) ?m(?![a-z/])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Proposal:
    """The configuration, and what it changes."""

    device: Device
    new: tuple[str, ...]  # channels
    left_out: tuple[str, ...]
    is_known: bool  # an existing device is extended


def propose(
    identity: Identity,
    columns: Sequence[Column],
    *,
    stamping: Stamping,
    interval_s: float | None,
    known: Device | None,
    device_id: str | None,
    station: str | None,
    leave_out: Collection[str],
    now: datetime,
    who: str,
) -> Proposal:
    """`stamping` is what file and person say, `interval_s` the step between its rows, if it has one."""
    program = program_of(identity, columns)
    program = program.model_copy(update={"columns": measured(columns)})
    told = Stamping(stamping.utc_offset_minutes, stamping.stamp, stamping.interval_s or interval_s, stamping.date_order)
    wanted = [column for column in columns if column.kind is Kind.VALUE and column.name not in leave_out]
    if known is None:
        sensors = tuple(sensor_of(column) for column in wanted)
        device = _new(identity, program, told, sensors, device_id=device_id, station=station, now=now, who=who)
        return Proposal(device, tuple(sensor.channel for sensor in sensors), _left(columns, sensors), False)
    have = {sensor.channel for sensor in known.sensors}
    new = tuple(sensor_of(column) for column in wanted if column.name not in have)
    sensors = (*known.sensors, *new)
    update = {
        "sensors": sensors,
        "loggers": _with_program(known.loggers, identity, program, told),
        "configured_at": now,
        "configured_by": who,
    }
    device = known.model_copy(update=update)
    return Proposal(device, tuple(sensor.channel for sensor in new), _left(columns, sensors), True)


def _left(columns: Sequence[Column], sensors: Sequence[Sensor]) -> tuple[str, ...]:
    channels = {sensor.channel for sensor in sensors}
    return tuple(name for name in value_columns(columns) if name not in channels)


def _new(
    identity: Identity,
    program: Program,
    told: Stamping,
    sensors: tuple[Sensor, ...],
    *,
    device_id: str | None,
    station: str | None,
    now: datetime,
    who: str,
) -> Device:
    place = station or identity.station or identity.serial or identity.model or "station"
    name = " ".join(word for word in (place, identity.table) if word)
    station_id = slug(place) or "station"
    made_id = device_id or slug(name) or station_id
    return Device(
        device_id=made_id,
        name=name,
        station=Station(station_id=station_id, name=place),
        loggers=(answered(_logger(identity, program), told),),
        interval_s=told.interval_s,
        silence_limit_s=SILENT_STEPS * told.interval_s if told.interval_s else None,
        sensors=sensors,
        configured_at=now,
        configured_by=who,
    )


def _logger(identity: Identity, program: Program) -> Logger:
    return Logger(
        maker=identity.maker or None, model=identity.model or None, serial=identity.serial or None, programs=(program,)
    )


def _with_program(
    loggers: tuple[Logger, ...], identity: Identity, program: Program, told: Stamping
) -> tuple[Logger, ...]:
    """The program goes to the logger of this serial number that is in use last; a new logger is added."""
    out = list(loggers)
    mine = [at for at, logger in enumerate(out) if same_serial(logger.serial, identity.serial)]
    if not mine:
        mine = [at for at, logger in enumerate(out) if logger.serial is None]
    if not mine:
        return (*out, answered(_logger(identity, program), told))
    last = out[mine[-1]]
    programs = (*(each for each in last.programs if each != program), program)
    out[mine[-1]] = answered(last.model_copy(update={"programs": programs}), told)
    return tuple(out)


def sensor_of(column: Column) -> Sensor:
    """What a column measures, by its unit, statistic and name."""
    unit, statistic = unit_of(column), statistic_of(column)
    quantity = quantity_of(column, unit)
    about = column.about
    calibrations: tuple[Calibration, ...] = ()
    if about.scale is not None or about.serial:
        scale = about.scale or None  # no sensor multiplies with 0
        calibrations = (
            Calibration(
                logger_slope=scale,
                logger_offset=about.offset,
                serial=about.serial or None,
                instrument=about.description or None,
            ),
        )
    return Sensor(
        channel=column.name,
        point=point_of(column),
        quantity=quantity,
        unit=unit,
        statistic=statistic,
        height_m=about.height_m if about.height_m is not None else _height(column.name),
        boom_orientation_deg=about.bearing_deg,
        calibrations=calibrations,
        limits=default_limits(quantity, unit, statistic),
    )


def unit_of(column: Column) -> str:
    plain = column.unit.strip().lower().replace(" ", "")
    return UNITS.get(plain) or SPELLED.get(plain) or column.unit.strip()


def statistic_of(column: Column) -> str:
    said = column.statistic.strip().lower()
    if said and said not in ("smp", "sample"):
        return STATISTICS.get(said, said)
    found = _SUFFIX.search(column.name)
    return STATISTICS.get(found[1].lower(), "avg") if found else "avg"


def point_of(column: Column) -> str:
    """The name without its statistic: columns of one instrument have one point."""
    bare = _SUFFIX.sub("", column.name, count=1).strip(" _.-")
    return bare or column.name


# By unit: what it is where the name says so (a pattern, in lower case), else.
QUANTITIES: dict[str, tuple[str, str, str]] = {
    **dict.fromkeys(("m/s", "mph", "knots"), ("vert", "vertical_wind_speed", "wind_speed")),
    "deg": ("", "wind_direction", "wind_direction"),
    **dict.fromkeys(("deg_C", "deg_F", "K"), ("ptemp|panel|logger|itemp", "temperature", "air_temperature")),
    "%": ("rh|hum", "relative_humidity", "other"),
    **dict.fromkeys(("hPa", "kPa", "Pa", "mmHg", "inHg"), ("", "air_pressure", "air_pressure")),
    "W/m^2": ("ghi|glob|solar|pyra|sr", "global_horizontal_irradiance", "other"),
    "V": ("", "voltage", "voltage"),
    **dict.fromkeys(("A", "mA"), ("", "current", "current")),
    "ohm": ("", "resistance", "resistance"),
    "mm": ("", "precipitation", "precipitation"),
}


def quantity_of(column: Column, unit: str) -> str:
    pattern, named, otherwise = QUANTITIES.get(unit, ("", "other", "other"))
    return named if re.search(pattern, column.name.lower()) else otherwise


def _height(name: str) -> float | None:
    found = _HEIGHT.search(name)
    return float(found[1]) if found else None
