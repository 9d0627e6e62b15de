"""What an export is asked to hold and how it is written. Pure: words of the request; knows no database, no file."""

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from schemas.quality import Flag
from schemas.records import Utc

Name = Annotated[str, Field(min_length=1, max_length=300)]
Names = tuple[Name, ...]

STATION_ZONE = "station"
OFFSET = re.compile(r"(?:UTC)?([+-])(\d{1,2}):?([0-5]\d)")
MISSING_LENGTH_MAX = 20


class Format(StrEnum):
    """Of the file."""

    WINDOGRAPHER = "windographer"
    CSV = "csv"
    PARQUET = "parquet"
    ZIP = "zip"
    IEA43 = "iea43"


SUFFIX = {Format.WINDOGRAPHER: ".txt", Format.CSV: ".csv", Format.PARQUET: ".parquet"} | {
    Format.ZIP: ".zip",
    Format.IEA43: ".csv",
}


class Interval(StrEnum):
    """Of the rows."""

    AS_LOGGED = "logged"
    TEN_MINUTES = "10min"
    HOUR = "hour"
    DAY = "day"


STEP_S = {Interval.TEN_MINUTES: 600, Interval.HOUR: 3600, Interval.DAY: 86_400}


class Figure(StrEnum):
    """What a longer interval keeps of the readings in it."""

    MEAN = "mean"
    SD = "sd"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    COUNT = "count"


class Labels(StrEnum):
    """How columns are called."""

    DESCRIBED = "described"  # Speed 80m N SD [m/s], what Windographer reads height, kind and unit from
    CHANNEL = "channel"  # Spd80mNStd [m/s]
    BARE = "bare"  # Spd80mNStd


def _zone(text: str) -> str:
    if text in (STATION_ZONE, "UTC"):
        return text
    if found := OFFSET.fullmatch(text):
        if int(found[2]) > 14:
            raise ValueError(f"{text} is no offset from UTC: expected at most 14 hours")
        return f"{found[1]}{int(found[2]):02}:{found[3]}"
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{text}: expected station, UTC, an offset such as +01:00, or a zone such as Europe/Dublin"
        ) from None
    return text


def _missing(text: str) -> str:
    if len(text) > MISSING_LENGTH_MAX or not text.isprintable() or not text.isascii():
        raise ValueError(f"expected at most {MISSING_LENGTH_MAX} printable characters, such as -9999")
    return text


class ExportRequest(BaseModel):
    """Everything that decides what is in the file. Equal requests over equal data make equal bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Format
    station: Name | None = None
    device: Name | None = None
    sensors: Names = ()
    """[DEVICE/]CHANNEL, `*` and `?` allowed. Empty: all of station or device."""
    statistics: Names = ()
    """Such as avg, sd, max: only channels that are one of these. Empty: all."""
    quantities: Names = ()
    """Such as wind_speed. Empty: all."""
    begin: Utc | None = None
    """From this time on, by the beginning of the interval; None: from the first reading."""
    end: Utc | None = None
    """Before this time; None: to the last reading."""
    interval: Interval = Interval.AS_LOGGED
    figures: tuple[Figure, ...] = ()
    """Of intervals longer than logged, a column each. Empty: the one that continues the channel's own statistic."""
    values: Literal["calibrated", "logged"] = "calibrated"
    quality: tuple[Flag, ...] = (Flag.GOOD, Flag.NOT_EVALUATED)
    """Readings with other flags are left out."""
    include_flags: Names = ()
    """Categories whose readings stay in, although they are left out by default."""
    exclude_flags: Names = ()
    """Categories whose readings are left out, although they stay in by default. `*`: all."""
    missing: Annotated[str, AfterValidator(_missing)] = ""
    zone: Annotated[str, AfterValidator(_zone)] = STATION_ZONE
    stamp: Literal["begin", "end"] = "begin"
    decimal: Literal[".", ","] = "."
    separator: Literal["\t", ",", ";"] | None = None
    """None: tab for Windographer and zip, comma for CSV and iea43 (semicolon where the decimal is a comma)."""
    labels: Labels | None = None
    """None: described for Windographer and zip, bare for others."""
    flag_log: bool = True
    """Windographer: a log of the flags beside the text."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.begin and self.end and self.begin >= self.end:
            raise ValueError(f"from {_told(self.begin)} must be before to {_told(self.end)}")
        if self.separator == self.decimal:
            raise ValueError("separator and decimal must not both be a comma")
        if self.figures and self.interval is Interval.AS_LOGGED:
            raise ValueError("figures are of longer intervals: say an interval of 10min, hour or day")
        if not self.quality:
            raise ValueError("quality: at least one flag must stay in")
        if self.format is Format.IEA43 and (self.values, self.interval) != ("logged", Interval.AS_LOGGED):
            raise ValueError("iea43: a reader of the data model calibrates by it: values and interval must be logged")
        if both := sorted(set(self.include_flags) & set(self.exclude_flags)):
            raise ValueError(f"category {both[0]} cannot be both in and out")
        if not (self.station or self.device or self.sensors):
            raise ValueError("say which station, device or sensors")
        text = self.cell_separator + self.decimal + '\r\n"'
        if set(self.missing) & (set(text) - {"."}):
            raise ValueError(f'missing "{self.missing}" holds a separator, a decimal sign or a quote')
        return self

    @property
    def cell_separator(self) -> str:
        if self.separator is not None:
            return self.separator
        if self.format in (Format.CSV, Format.IEA43):
            return ";" if self.decimal == "," else ","
        return "\t"

    @property
    def column_labels(self) -> Labels:
        if self.labels is not None:
            return self.labels
        return Labels.DESCRIBED if self.format in (Format.WINDOGRAPHER, Format.ZIP) else Labels.BARE

    @property
    def digest(self) -> str:
        """The same for equal requests."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    @property
    def subject(self) -> str:
        """What it is about, in a word."""
        return self.station or self.device or self.sensors[0]


def _told(time: datetime) -> str:
    return time.isoformat()
