"""Devices as a person reads them. Pure: a device and a time in, a table out."""

from datetime import datetime

from rich.table import Table
from rich.text import Text

from schemas.devices import DIRECTIONS, Calibration, Device, Sensor


def active(sensor: Sensor, *, now: datetime) -> Calibration | None:
    """The calibration whose [valid_from, valid_to) holds `now`."""
    for calibration in sensor.calibrations:
        begun = calibration.valid_from is None or calibration.valid_from <= now
        if begun and (calibration.valid_to is None or now < calibration.valid_to):
            return calibration
    return None


def numbers(sensor: Sensor, *, now: datetime) -> str:
    """What the calibration that is active now does to a logged value, in a few characters."""
    calibration = active(sensor, now=now)
    if calibration is None:
        return "none"
    if sensor.quantity in DIRECTIONS:
        needed = {"logger_offset": calibration.logger_offset, "dead_band": calibration.dead_band_orientation_deg}
    else:
        needed = {name: getattr(calibration, name) for name in ("logger_slope", "logger_offset", "slope", "offset")}
    missing = [name for name, value in needed.items() if value is None]
    if len(missing) == len(needed):
        return "as logged"
    if missing:
        return f"as logged (no {', '.join(missing)})"
    if sensor.quantity in DIRECTIONS:
        return f"dead band {needed['dead_band']:g}°, logger offset {needed['logger_offset']:g}°"
    logged = f"{needed['logger_slope']:g}·x {_signed(needed['logger_offset'])}"
    certified = f"{needed['slope']:g}·x {_signed(needed['offset'])}"
    return f"{logged} (as certified)" if logged == certified else f"{logged} → {certified}"


def table(device: Device, *, now: datetime) -> Table:
    """One device: a line per sensor."""
    sheet = Table(
        title=Text(_title(device)), title_justify="left", caption=Text(_caption(device)), caption_justify="left"
    )
    for heading in ("channel", "quantity", "statistic", "unit"):
        sheet.add_column(heading, overflow="fold")
    for heading in ("height m", "boom °", "calibrations"):
        sheet.add_column(heading, justify="right")
    sheet.add_column("now", overflow="fold")
    sheet.add_column("instrument", overflow="fold")
    sheet.add_column("gross range")
    for sensor in device.sensors:
        calibration = active(sensor, now=now)
        instrument = [calibration.instrument, calibration.serial] if calibration else []
        gross = sensor.limits.gross_range
        cells = (
            sensor.channel,
            sensor.quantity,
            sensor.statistic,
            sensor.unit,
            _number(sensor.height_m),
            _number(sensor.boom_orientation_deg),
            str(len(sensor.calibrations)),
            numbers(sensor, now=now),
            " ".join(word for word in instrument if word),
            f"{gross.fail[0]:g} to {gross.fail[1]:g}" if gross and gross.fail else "",
        )
        sheet.add_row(*map(Text, cells))  # not as markup: a channel may be called AirT[42]
    return sheet


def _title(device: Device) -> str:
    station = device.station
    place = "" if station.latitude_deg is None else f" at {station.latitude_deg:g}, {station.longitude_deg:g}"
    return f"{device.device_id}: {device.name}, station {station.station_id}{place}"


def _caption(device: Device) -> str:
    every = f"every {device.interval_s:g} s" if device.interval_s else "irregular"
    silent = f"silent after {device.silence_limit_s:g} s" if device.silence_limit_s else "never called silent"
    loggers = []
    for logger in device.loggers:
        offset = logger.utc_offset_minutes
        zone = (
            "UTC offset unknown" if offset is None else f"UTC{offset // 60 if offset >= 0 else -(-offset // 60):+03d}"
        )
        zone += f":{abs(offset) % 60:02d}" if offset is not None else ""
        stamp = f"stamps {logger.stamp} the interval" if logger.stamp else "meaning of stamps unknown"
        words = [word for word in (logger.maker, logger.model, logger.serial) if word]
        loggers.append(f"logger {' '.join(words)}, {zone}, {stamp}")
    return "; ".join([f"{every}, {silent}", *loggers])


def _signed(value: float | None) -> str:
    return f"{'-' if value is not None and value < 0 else '+'} {abs(value or 0.0):g}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
