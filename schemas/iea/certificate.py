"""A digital calibration certificate as the calibration of an instrument. Knows the certificate of IEA Wind Task 43
(1.0.0-2022.01, IEC 61400-12-1); also reads the same numbers from a plain object.

Fields used: calibration_id, calibration_lab.company_name, test_item.model|serial_number|oem.company_name,
setup.date_of_calibration, result.linear_regression.slope|offset (a number, or {value, unit}).
"""

import math
from dataclasses import dataclass
from datetime import date
from typing import Any

from schemas.json_file import JsonFile


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says. `unit` is that of the slope, such as m/s/Hz."""

    slope: float
    offset: float
    serial: str | None = None
    instrument: str | None = None
    certificate: str | None = None
    laboratory: str | None = None
    calibrated_on: str | None = None
    quantity: str | None = None
    unit: str | None = None


PLAIN = {
    "certificate": ("certificate", "calibration_id"),
    "laboratory": ("laboratory", "calibration_organisation"),
    "calibrated_on": ("calibrated_on", "date_of_calibration"),
    "serial": ("serial", "serial_number"),
    "instrument": ("instrument", "model"),
    "quantity": ("quantity", "measurement_type_id"),
}


def read_certificate(file: JsonFile) -> Certificate:
    """Raises `Refused` with the file, the JSON path and the line."""
    value = file.value
    if not isinstance(value, dict):
        raise file.refused((), "is no calibration certificate: expected an object")
    if "result" in value:
        return _digital(file, value)
    if "slope" in value and "offset" in value:
        slope, offset = _number(file, ("slope",)), _number(file, ("offset",))
        said = {name: _first(file, value, keys) for name, keys in PLAIN.items()}
        return _checked(file, Certificate(slope, offset, **said), ("date_of_calibration",))
    raise file.refused(
        (), "is no calibration certificate: expected result.linear_regression (IEA Task 43), or slope and offset"
    )


def _digital(file: JsonFile, value: dict[str, Any]) -> Certificate:
    at = ("result", "linear_regression")
    regression = _part(file, value, at)
    if not isinstance(regression, dict):
        raise file.refused(("result",), "must have linear_regression with slope and offset")
    item = value.get("test_item") if isinstance(value.get("test_item"), dict) else {}
    oem = _part(file, value, ("test_item", "oem", "company_name"))
    words = [word for word in (oem, (item or {}).get("model")) if isinstance(word, str) and word]
    slope = regression.get("slope")
    return _checked(
        file,
        Certificate(
            slope=_number(file, (*at, "slope")),
            offset=_number(file, (*at, "offset")),
            serial=_text(_part(file, value, ("test_item", "serial_number"))),
            instrument=" ".join(words) or None,
            certificate=_text(value.get("calibration_id")),
            laboratory=_text(_part(file, value, ("calibration_lab", "company_name"))),
            calibrated_on=_text(_part(file, value, ("setup", "date_of_calibration"))),
            unit=_text(slope.get("unit")) if isinstance(slope, dict) else None,
        ),
        ("setup", "date_of_calibration"),
    )


def _checked(file: JsonFile, made: Certificate, date_at: tuple[str, ...]) -> Certificate:
    if made.slope == 0:
        raise file.refused((), "slope must not be 0")
    if made.calibrated_on is not None:
        try:
            date.fromisoformat(made.calibrated_on)
        except ValueError:
            raise file.refused(date_at, f"must be a date such as 2021-01-31, got {made.calibrated_on!r}") from None
    return made


def _part(file: JsonFile, value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(value, dict):
            return None
        value = value.get(step)
    return value


def _number(file: JsonFile, path: tuple[str, ...]) -> float:
    found = _part(file, file.value, path)
    value = found.get("value") if isinstance(found, dict) else found
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise file.refused(path, f"must be a number, or an object with a number as its value, got {found!r}")
    return float(value)


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _first(file: JsonFile, value: dict[str, Any], keys: tuple[str, ...]) -> str | None:
    return next((text for key in keys if (text := _text(value.get(key)))), None)
