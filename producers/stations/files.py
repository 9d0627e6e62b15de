"""A file that describes devices, whichever way: an IEA Task 43 data model, or our own JSON. Knows no broker."""

from pathlib import Path

from schemas.devices import Device, Logger
from schemas.errors import Refused
from schemas.iea.convert import Answers, Imported, devices_of
from schemas.iea.model import is_data_model
from schemas.json_file import BYTES_MAX, JsonFile


def read_file(path: Path, *, answers: Answers) -> Imported:
    """Every device in the file. Raises `Refused` with the file, the JSON path and the line."""
    file = read_json(path)
    if is_data_model(file.value):
        return devices_of(file, answers=answers)
    return _own(file, answers)


def read_json(path: Path) -> JsonFile:
    """Raises `Refused` for what cannot be read or is no JSON."""
    try:
        size = path.stat().st_size
        if size > BYTES_MAX:
            raise Refused(f"{path}: has {size} bytes, more than the {BYTES_MAX} that a JSON file may have")
        return JsonFile(path.read_bytes(), name=str(path))
    except OSError as error:
        raise Refused(f"{path}: cannot be read: {error.strerror or error}") from None


def _own(file: JsonFile, answers: Answers) -> Imported:
    """Devices as `telltale stations show --json` prints them: one, or a list."""
    several = isinstance(file.value, list)
    if not several and not (isinstance(file.value, dict) and "device_id" in file.value):
        raise file.refused(
            (), "is neither a WRA data model (measurement_location) nor a device (device_id) nor a list of devices"
        )
    devices: dict[str, Device] = {}
    for index, value in enumerate(file.value if several else [file.value]):
        at = (index,) if several else ()
        made = {"configured_at": answers.configured_at, "configured_by": answers.configured_by}
        device = file.as_model(Device, {**value, **made} if isinstance(value, dict) else value, at=at)
        if device.device_id in devices:
            raise file.refused((*at, "device_id"), f'"{device.device_id}" stands there a second time')
        devices[device.device_id] = device
    if not devices:
        raise file.refused((), "has no device")
    if answers.device_id and len(devices) > 1:
        raise file.refused((), f"has {len(devices)} devices, and one device id cannot name them")
    return Imported(tuple(_answered(device, answers) for device in devices.values()))


def _answered(device: Device, answers: Answers) -> Device:
    """The device with what a person has said where it says nothing. Its dates are UTC already."""
    loggers: list[Logger] = []
    for logger in device.loggers:
        filled = {
            "utc_offset_minutes": _first(logger.utc_offset_minutes, answers.utc_offset_minutes),
            "stamp": logger.stamp or answers.stamp,
        }
        loggers.append(logger.model_copy(update=filled))
    return device.model_copy(
        update={
            "loggers": tuple(loggers),
            "device_id": answers.device_id or device.device_id,
            "silence_limit_s": answers.silence_limit_s or device.silence_limit_s,
        }
    )


def _first(value: int | None, other: int | None) -> int | None:
    return other if value is None else value
