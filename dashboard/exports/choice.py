"""What exactly will be in an export's file: a request, answered. Pure: knows no database and no format."""

from dataclasses import dataclass
from datetime import datetime

from dashboard.exports.clock import Clock
from dashboard.exports.columns import Column
from dashboard.exports.request import ExportRequest
from schemas.devices import Device


@dataclass(frozen=True, slots=True)
class Station:
    """Where the columns are from. Unknown: None."""

    station_id: str
    name: str
    latitude_deg: float | None = None
    longitude_deg: float | None = None
    elevation_m: float | None = None


@dataclass(frozen=True, slots=True)
class Flagged:
    """A category's merged flags of one sensor: [begin, end)."""

    sensor_id: int
    category: str
    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Choice:
    """A request, answered: what exactly will be in the file."""

    request: ExportRequest
    columns: tuple[Column, ...]
    stations: tuple[Station, ...]
    begin: datetime
    """Rows begin in [begin, end), UTC; aligned to the interval where one is asked for."""
    end: datetime
    clock: Clock
    step_s: float | None
    """Between rows; None: not known, or not the same for all devices."""
    included: tuple[str, ...]
    """Categories of flags whose readings stay in."""
    excluded: tuple[str, ...]
    flagged: tuple[Flagged, ...] = ()
    """In force in the period, of all categories."""
    view: str | None = None
    """Of statistics, where one holds just what is asked for."""
    notes: tuple[str, ...] = ()
    """What a person should know."""
    devices: tuple[Device, ...] = ()
    """Their configuration, where the format tells it."""
    has_fractions: bool = False
    """Stamps are written with microseconds."""

    @property
    def ids(self) -> list[int]:
        return list(dict.fromkeys(column.sensor_id for column in self.columns))

    @property
    def title(self) -> str:
        names = ", ".join(f"{each.name} ({each.station_id})" for each in self.stations)
        return names or ", ".join(sorted({column.device_id for column in self.columns}))
