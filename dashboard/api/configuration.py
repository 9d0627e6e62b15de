"""What stands where: stations, devices, sensors, calibrations. With ETags: it is asked for often and changes rarely."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from dashboard.api.paging import Entry, Listing, Page, Paged, answer
from dashboard.api.params import Device, Station, Text
from dashboard.web.access import Scope, database, need
from dashboard.web.pools import Database
from dashboard.web.problems import documented
from schemas.records import Utc

Db = Annotated[Database, Depends(database)]
Id = Annotated[Text, Path()]
SensorId = Annotated[int, Path(ge=1, le=2**31 - 1)]
Quantity = Annotated[Text | None, Query(description="Such as wind_speed.")]
Active = Annotated[bool | None, Query(description="false: only what is no longer configured; by default all.")]

UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "You have it already (If-None-Match)."}}
router = APIRouter(
    tags=["configuration"], dependencies=[Depends(need(Scope.READ))], responses=UNCHANGED | documented(404)
)

STATIONS = """
SELECT station_id, name, kind, latitude_deg, longitude_deg, elevation_m,
  (SELECT count(*) FROM devices d WHERE d.station_id = s.station_id AND d.active) AS devices
FROM stations s WHERE (%(id)s::text IS NULL OR station_id = %(id)s)"""
DEVICES = """
SELECT device_id, station_id, name, interval_s, silence_limit_s, exists_from, future_limit_s, lateness_s, loggers,
  configured_at, configured_by, active
FROM devices
WHERE (%(id)s::text IS NULL OR device_id = %(id)s) AND (%(station)s::text IS NULL OR station_id = %(station)s)
  AND (%(active)s::bool IS NULL OR active = %(active)s)"""
SENSORS = """
SELECT s.sensor_id, s.device_id || '/' || s.channel AS sensor, d.station_id, s.device_id, s.channel, s.point,
  s.quantity, s.unit, s.statistic, s.height_m, s.boom_orientation_deg, d.interval_s, s.limits, s.windows_s, s.active
FROM sensors s LEFT JOIN devices d USING (device_id)
WHERE (%(id)s::int IS NULL OR s.sensor_id = %(id)s) AND (%(device)s::text IS NULL OR s.device_id = %(device)s)
  AND (%(channel)s::text IS NULL OR s.channel = %(channel)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)
  AND (%(quantity)s::text IS NULL OR s.quantity = %(quantity)s)
  AND (%(active)s::bool IS NULL OR s.active = %(active)s)"""
CALIBRATIONS = """
SELECT c.sensor_id, s.device_id || '/' || s.channel AS sensor, c.place, c.valid_from, c.valid_to, c.logger_slope,
  c.logger_offset, c.slope, c."offset", c.dead_band_orientation_deg, c.serial, c.instrument, c.certificate,
  c.laboratory, c.calibrated_on
FROM calibrations c JOIN sensors s USING (sensor_id) LEFT JOIN devices d USING (device_id)
WHERE (%(id)s::int IS NULL OR c.sensor_id = %(id)s) AND (%(device)s::text IS NULL OR s.device_id = %(device)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)"""


class Site(Entry):
    """A station."""

    station_id: str
    name: str
    kind: str | None
    latitude_deg: float | None
    longitude_deg: float | None
    elevation_m: float | None
    devices: int = Field(description="How many are configured.")


class Logger(Entry):
    """A device: what writes frames."""

    device_id: str
    station_id: str
    name: str
    interval_s: float | None
    silence_limit_s: float | None
    exists_from: Utc | None
    future_limit_s: float | None
    lateness_s: float | None
    loggers: list[dict[str, Any]]
    configured_at: Utc
    configured_by: str
    active: bool = Field(description="false: removed from the configuration; its readings stay.")


class Channel(Entry):
    """A sensor: one column of a device."""

    sensor_id: int
    sensor: str = Field(description="DEVICE/CHANNEL")
    station_id: str | None
    device_id: str
    channel: str
    point: str | None
    quantity: str | None
    unit: str | None
    statistic: str | None
    height_m: float | None
    boom_orientation_deg: float | None
    interval_s: float | None
    limits: dict[str, Any] | None
    windows_s: list[int] | None
    active: bool


class Certificate(Entry):
    """A calibration, valid in [valid_from, valid_to)."""

    sensor_id: int
    sensor: str
    place: int = Field(description="Its place among the sensor's calibrations.")
    valid_from: Utc | None
    valid_to: Utc | None
    logger_slope: float | None
    logger_offset: float | None
    slope: float | None
    offset: float | None
    dead_band_orientation_deg: float | None
    serial: str | None
    instrument: str | None
    certificate: str | None
    laboratory: str | None
    calibrated_on: date | None


@router.get("/stations", response_model=Page[Site])
async def stations(*, paged: Paged) -> Response:
    """All stations, by id."""
    return await paged.answer(Page[Site], Listing(select=STATIONS, key={"station_id": str}), {"id": None}, etag=True)


@router.get("/stations/{station_id}", response_model=Site)
async def station(*, request: Request, db: Db, station_id: Id) -> Response:
    """One station."""
    row = await db.one(STATIONS, {"id": station_id}, what=f"station {station_id}")
    return answer(request, Site.model_validate(row), etag=True)


@router.get("/devices", response_model=Page[Logger])
async def devices(
    *,
    paged: Paged,
    station: Station = None,
    active: Active = None,
) -> Response:
    """Devices, by id."""
    arguments: dict[str, Any] = {"id": None, "station": station, "active": active}
    return await paged.answer(Page[Logger], Listing(select=DEVICES, key={"device_id": str}), arguments, etag=True)


@router.get("/devices/{device_id}", response_model=Logger)
async def device(*, request: Request, db: Db, device_id: Id) -> Response:
    """One device."""
    arguments = {"id": device_id, "station": None, "active": None}
    row = await db.one(DEVICES, arguments, what=f"device {device_id}")
    return answer(request, Logger.model_validate(row), etag=True)


@router.get("/sensors", response_model=Page[Channel])
async def sensors(
    *,
    paged: Paged,
    station: Station = None,
    device: Device = None,
    channel: Annotated[Text | None, Query()] = None,
    quantity: Quantity = None,
    active: Active = None,
) -> Response:
    """Sensors, by number."""
    arguments: dict[str, Any] = {"id": None, "station": station, "device": device, "channel": channel}
    arguments |= {"quantity": quantity, "active": active}
    return await paged.answer(Page[Channel], Listing(select=SENSORS, key={"sensor_id": int}), arguments, etag=True)


@router.get("/sensors/{sensor_id}", response_model=Channel)
async def sensor(*, request: Request, db: Db, sensor_id: SensorId) -> Response:
    """One sensor."""
    arguments = {"id": sensor_id, **dict.fromkeys(("station", "device", "channel", "quantity", "active"))}
    row = await db.one(SENSORS, arguments, what=f"sensor {sensor_id}")
    return answer(request, Channel.model_validate(row), etag=True)


@router.get("/calibrations", response_model=Page[Certificate])
async def calibrations(
    *,
    paged: Paged,
    sensor_id: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    device: Device = None,
    station: Station = None,
) -> Response:
    """Dated calibrations, by sensor and place."""
    listing = Listing(select=CALIBRATIONS, key={"sensor_id": int, "place": int})
    arguments = {"id": sensor_id, "device": device, "station": station}
    return await paged.answer(Page[Certificate], listing, arguments, etag=True)
