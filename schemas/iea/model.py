"""What a file of the IEA Task 43 WRA data model must look like, as far as Telltale uses it.

Fields are named as the data model names them (version 1.3; what was `sensor_config` before 1.0 is read too). What is
not used here is let pass unread; what is used must have the type, the span and the word that the data model
prescribes. Dates are the logger's local time, mostly without a zone. Source: the schema text of 1.3.0-2024.03.
"""

import tomllib
from datetime import datetime
from difflib import get_close_matches
from importlib.resources import files
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr

from schemas.json_file import shown


def _words() -> dict[str, frozenset[str]]:
    lists = tomllib.loads((files("schemas.iea") / "words.toml").read_text())
    return {name: frozenset(words) for name, words in lists.items()}


WORDS: Final = _words()
YEARS: Final = (1900, 9998)
"""No mast is older; and a year later than 9998 leaves no room for a zone."""

MINUTES_OF_A_YEAR: Final = 366 * 24 * 60
SMALLEST: Final = 1e-300
"""Smaller numbers cannot be divided by: the result is none that a computer can hold."""


def _one_of(what: str) -> AfterValidator:
    words = WORDS[what]

    def check(word: str) -> str:
        if word in words:
            return word
        near = get_close_matches(word, words, n=1, cutoff=0.5)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ValueError(f"must be a {what.replace('_', ' ')} of the data model, got {shown(word)}{hint}")

    return AfterValidator(check)


def _date(value: Any) -> datetime:
    if isinstance(value, str) and len(value) > len("2016-01-09") and value[4:5] == "-":
        try:
            date = datetime.fromisoformat(value)
        except ValueError:
            pass
        else:
            if YEARS[0] <= date.year <= YEARS[1]:
                return date
    raise ValueError(f"must be a date and time such as 2016-01-09T15:30:00, got {shown(value)}")


def _finite(value: float) -> float:
    if abs(value) == float("inf"):
        raise ValueError("must be a number that a computer can hold")
    return value


def _not_zero(value: float) -> float:
    if abs(value) < SMALLEST:
        raise ValueError("must not be 0")
    return value


Number = Annotated[float, Field(strict=True), AfterValidator(_finite)]
Divisor = Annotated[Number, AfterValidator(_not_zero)]
Bearing = Annotated[Number, Field(ge=0, le=360)]
Text = Annotated[StrictStr, Field(min_length=1, max_length=256)]
Date = Annotated[datetime, BeforeValidator(_date)]


class Part(BaseModel):
    """A part of the data model; what Telltale does not use is not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Dated(Part):
    """Valid in [date_from, date_to); a null date_to means: still valid."""

    date_from: Date
    date_to: Date | None = None


class ColumnName(Part):
    column_name: Text
    statistic_type_id: Annotated[StrictStr, _one_of("statistic")]
    is_ignored: StrictBool | None = None


class LoggerMeasurementConfig(Dated):
    """What was programmed into the logger for a measurement point."""

    slope: Divisor | None = None
    offset: Number | None = None
    sensitivity: Divisor | None = None
    measurement_units_id: Annotated[StrictStr, _one_of("unit")] | None = None
    column_name: list[ColumnName]


class CalibrationCertificate(Part):
    measurement_type_id: Annotated[StrictStr, _one_of("measurement_type")] | None = None
    slope: Divisor | None = None
    offset: Number | None = None
    sensitivity: Divisor | None = None
    date_of_calibration: StrictStr | None = None
    calibration_id: StrictStr | None = None
    calibration_organisation: StrictStr | None = None


class InstalledSensor(Dated):
    oem: StrictStr | None = None
    model: StrictStr | None = None
    serial_number: StrictStr | None = None
    calibration: list[CalibrationCertificate] | None = None


class MountingArrangement(Dated):
    boom_orientation_deg: Bearing | None = None
    vane_dead_band_orientation_deg: Bearing | None = None


class MeasurementPoint(Part):
    name: Text
    measurement_type_id: Annotated[StrictStr, _one_of("measurement_type")]
    height_m: Number | None = None
    logger_measurement_config: Annotated[
        list[LoggerMeasurementConfig],
        Field(validation_alias=AliasChoices("logger_measurement_config", "sensor_config")),
    ]
    sensor: list[InstalledSensor] | None = None
    mounting_arrangement: list[MountingArrangement] | None = None


def _whole_minutes(hours: float) -> float:
    if abs(hours * 60 - round(hours * 60)) > 1e-6:
        raise ValueError(f"must be a whole number of minutes, got {hours} hours")
    return hours


class LoggerMainConfig(Dated):
    logger_oem_id: StrictStr | None = None
    logger_model_name: StrictStr | None = None
    logger_serial_number: StrictStr | None = None
    offset_from_utc_hrs: Annotated[Number, Field(ge=-14, le=14), AfterValidator(_whole_minutes)] | None = None
    averaging_period_minutes: Annotated[Number, Field(ge=1 / 60_000, le=MINUTES_OF_A_YEAR)] | None = None
    timestamp_is_end_of_period: StrictBool | None = None


class ModelConfig(Dated):
    """Of a reanalysis, in the place of a logger."""

    reanalysis: StrictStr | None = None
    model_used: StrictStr | None = None
    offset_from_utc_hrs: Annotated[Number, Field(ge=-14, le=14), AfterValidator(_whole_minutes)] | None = None
    averaging_period_minutes: Annotated[Number, Field(ge=1 / 60_000, le=MINUTES_OF_A_YEAR)] | None = None
    timestamp_is_end_of_period: StrictBool | None = None

    def as_logger(self) -> LoggerMainConfig:
        """What writes its files."""
        return LoggerMainConfig.model_construct(
            date_from=self.date_from,
            date_to=self.date_to,
            logger_oem_id=self.reanalysis,
            logger_model_name=self.model_used,
            offset_from_utc_hrs=self.offset_from_utc_hrs,
            averaging_period_minutes=self.averaging_period_minutes,
            timestamp_is_end_of_period=self.timestamp_is_end_of_period,
        )


class MeasurementLocation(Part):
    name: Text
    measurement_station_type_id: Annotated[StrictStr, _one_of("station_type")] = "mast"
    latitude_ddeg: Annotated[Number, Field(ge=-90, le=90)]
    longitude_ddeg: Annotated[Number, Field(ge=-180, le=180)]
    logger_main_config: list[LoggerMainConfig] | None = None
    model_config_: Annotated[list[ModelConfig] | None, Field(alias="model_config")] = None
    measurement_point: list[MeasurementPoint]


class DataModel(Part):
    """The whole file."""

    measurement_location: list[MeasurementLocation]


def is_data_model(value: Any) -> bool:
    """Whether a JSON value calls itself a WRA data model."""
    return isinstance(value, dict) and "measurement_location" in value
