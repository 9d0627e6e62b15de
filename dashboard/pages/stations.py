"""Stations and devices: what stands where, how it does, what is complete; and edits, which go to `devices`.

A configuration is written whole, checked by its model, and only over the one that the editor has seen.
"""

import calendar as months
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from starlette.responses import HTMLResponse, JSONResponse, Response

from dashboard.live.following import Live
from dashboard.pages.render import fragment, page
from dashboard.pages.serving import running_of
from dashboard.web import audit
from dashboard.web.access import Principal, Role, database, need
from dashboard.web.pools import Database
from dashboard.web.problems import Problem, not_found
from schemas.devices import Calibration, Device, Station
from schemas.errors import Refused

router = APIRouter(include_in_schema=False)
Viewer = Depends(need(Role.VIEWER))
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
Db = Annotated[Database, Depends(database)]

CONFIG_BYTES_MAX = 2_000_000
BEATS_SHOWN = 300
IMPORTS_SHOWN = 20

LAST_BEATS = """
SELECT received, time, depth, depth_bytes, oldest_unsent, accepted, sent, dropped, refused, free_disk_bytes,
  clock_offset_s, version, spool_id, sources
FROM heartbeats WHERE device_id = %s ORDER BY received DESC LIMIT %s"""
IMPORTS = """
SELECT sha256, name, state, rows, reason, line, time FROM imports
WHERE device_id = %s ORDER BY time DESC LIMIT %s"""
EDITS = """
SELECT time, who, what, detail FROM audit_log WHERE subject = %s AND what IN ('device.edit', 'station.edit')
ORDER BY audit_id DESC LIMIT 20"""
# Good readings of each day (UTC) of a year, over a device's active sensors; `sensors` those with any in the year.
DAYS = """
SELECT u.time::date AS day, sum(u.count)::bigint AS count
FROM sensors s CROSS JOIN LATERAL (
  SELECT time, count FROM unflagged_daily
  WHERE sensor_id = s.sensor_id AND time >= %(begin)s AND time < %(end)s) u
WHERE s.device_id = %(device)s AND s.active AND (%(channel)s::text IS NULL OR s.channel = %(channel)s)
GROUP BY 1"""
EXTENT = """
SELECT min(f.time) AS first, max(l.time) AS last
FROM sensors s
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time DESC LIMIT 1) l ON true
WHERE s.device_id = %s AND s.active"""


class DeviceEdit(BaseModel):
    """The fields of the form; `seen` is the configuration that was edited, by its time."""

    model_config = ConfigDict(extra="forbid")

    seen: AwareDatetime
    name: Annotated[str, Field(min_length=1, max_length=256)]
    interval_s: FiniteFloat | None = None
    silence_limit_s: FiniteFloat | None = None
    future_limit_s: FiniteFloat = 300.0
    lateness_s: FiniteFloat = 0.0


class ConfigEdit(BaseModel):
    """The whole configuration as JSON."""

    model_config = ConfigDict(extra="forbid")

    seen: AwareDatetime
    text: Annotated[str, Field(max_length=CONFIG_BYTES_MAX)]


class StationEdit(BaseModel):
    """The fields of a station; each device of it is written anew."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=256)]
    latitude_deg: FiniteFloat | None = None
    longitude_deg: FiniteFloat | None = None
    elevation_m: FiniteFloat | None = None


@router.get("/stations", dependencies=[Viewer])
async def stations(request: Request) -> Response:
    """All stations with their devices."""
    live = running_of(request).live
    there = live.stations()
    rows = iter(_device_rows(live, [device for devices in there.values() for device in devices]))
    found = [{"station": devices[0].station, "devices": list(islice(rows, len(devices)))} for devices in there.values()]
    return page(request, "stations.html", title="Stations", live="all", stations=found, position=position)


@router.get("/stations/{station_id}", dependencies=[Viewer])
async def station(request: Request, station_id: str, db: Db) -> Response:
    """One station."""
    live = running_of(request).live
    devices = _devices_of(live, station_id)
    return page(
        request,
        "station.html",
        title=devices[0].station.name,
        live="all",
        station=devices[0].station,
        devices=_device_rows(live, devices),
        edits=await db.rows(EDITS, (station_id,)),
        position=position,
    )


def _devices_of(live: Live, station_id: str) -> list[Device]:
    devices = live.stations().get(station_id)
    if not devices:
        raise not_found(f"station {station_id}")
    return devices


def _device_rows(live: Live, devices: list[Device]) -> list[dict[str, Any]]:
    """Of all devices at once: each look goes over the whole fleet."""
    states = live.states_of([each.device_id for each in devices])
    return [{"device": device, "state": state} for device, state in zip(devices, states, strict=True)]


def position(place: Station) -> str:
    """Where it is, in words: degrees with their hemisphere, metres above the sea."""
    if place.latitude_deg is None or place.longitude_deg is None:
        return "position not known"
    north, east = "N" if place.latitude_deg >= 0 else "S", "E" if place.longitude_deg >= 0 else "W"
    high = f", {place.elevation_m:g} m above the sea" if place.elevation_m is not None else ""
    return f"{abs(place.latitude_deg):.5f}° {north}, {abs(place.longitude_deg):.5f}° {east}{high}"


@router.get("/devices/{device_id}", dependencies=[Viewer])
async def device(request: Request, device_id: str, db: Db) -> Response:
    """One device: sensors and calibrations, heartbeats, imports, completeness, edits."""
    live = running_of(request).live
    config = _configured(live, device_id)
    extent = await db.first(EXTENT, (device_id,))
    beats = await db.rows(LAST_BEATS, (device_id, BEATS_SHOWN))
    now = datetime.now(UTC)
    since = config.exists_from or (extent["first"] if extent else None)
    return page(
        request,
        "device.html",
        title=config.name,
        live="all",
        device=config,
        live_state=live.states_of([device_id])[0],
        offset=config.loggers[-1].utc_offset_minutes if config.loggers else None,
        extent=extent,
        position=position,
        beats=beats,
        depths=orjson.dumps([[beat["received"].timestamp(), beat["depth"]] for beat in reversed(beats)]).decode(),
        imports=await db.rows(IMPORTS, (device_id, IMPORTS_SHOWN)),
        edits=await db.rows(EDITS, (device_id,)),
        timelines={
            each.channel: timeline(each.calibrations, since, now) for each in config.sensors if each.calibrations
        },
        text=config.model_dump_json(indent=2),
        year=(extent["last"] if extent and extent["last"] else now).year,
    )


def _configured(live: Live, device_id: str) -> Device:
    found = live.device(device_id)
    if found is None:
        raise Problem(
            404, f"device {device_id} is not configured; of one that was removed, plots and exports are there"
        )
    return found


def timeline(calibrations: tuple[Calibration, ...], since: datetime | None, now: datetime) -> list[dict[str, Any]]:
    """Each calibration's place on a line of 0 to 100 from the first date to now, and its numbers in words. One that has
    always been valid begins where the device does (`since`), if that is known."""
    dates = [
        date for each in calibrations for date in (each.valid_from, each.valid_to) if date is not None and date < now
    ]
    always = calibrations[0].valid_from is None
    first = min([*dates, *([since] if since and always else [])], default=now)
    length = max((now - first).total_seconds(), 1.0)

    def place(date: datetime | None, unbounded: float) -> float:
        if date is None:
            return unbounded
        return min(100.0, max(0.0, 100 * (date - first).total_seconds() / length))

    found = []
    for each in calibrations:
        begin, end = place(each.valid_from, 0.0), place(each.valid_to, 100.0)
        found.append({"calibration": each, "x": begin, "width": max(0.6, end - begin), "words": numbers(each)})
    return found


def numbers(each: Calibration) -> str:
    """What a calibration does, as a formula."""
    if each.dead_band_orientation_deg is not None:
        return f"dead band at {each.dead_band_orientation_deg:g}°, logger offset {each.logger_offset or 0:g}°"
    if each.slope is None or each.offset is None:
        return "numbers are missing: values stay as logged"
    return f"{each.slope:g}·x {'−' if each.offset < 0 else '+'} {abs(each.offset):g}"


@router.get("/devices/{device_id}/calendar", dependencies=[Viewer])
async def calendar(
    request: Request,
    device_id: str,
    db: Db,
    year: Annotated[int, Query(ge=1990, le=2200)],
    channel: str = "",
) -> Response:
    """How complete each day of a year is."""
    config = _configured(running_of(request).live, device_id)
    begin, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    names = {"device": device_id, "channel": channel or None, "begin": begin, "end": end}
    rows = await db.rows(DAYS, names)
    counts = {row["day"]: row["count"] for row in rows}
    sensors = 1 if channel else len(config.sensors)
    expected = sensors * 86_400 / config.interval_s if config.interval_s else None
    grid = []
    for month in range(1, 13):
        days = []
        for day in range(1, months.monthrange(year, month)[1] + 1):
            date = datetime(year, month, day, tzinfo=UTC).date()
            count = counts.get(date, 0)
            share = min(1.0, count / expected) if expected else None
            days.append({"date": date, "count": count, "share": share, "class": _shade(share, count)})
        there = [each["share"] for each in days if each["share"] is not None]
        used = [each for each in days if each["count"]]
        grid.append({"month": month, "days": days, "share": sum(there) / len(there) if there and used else None})
    told = {"device": config, "year": year, "grid": grid, "expected": expected, "channel": channel}
    return HTMLResponse(fragment("calendar.html", **told))


def _shade(share: float | None, count: int) -> str:
    if not count:
        return "cal-none"
    if share is None:
        return "cal-3"
    return f"cal-{0 if share < 0.5 else 1 if share < 0.9 else 2 if share < 0.99 else 3}"


@router.put("/devices/{device_id}")
async def edit_device(request: Request, device_id: str, told: DeviceEdit, principal: Operator, db: Db) -> Response:
    """Changes what the form has."""
    live = running_of(request).live
    old = _unchanged(live, device_id, told.seen)
    wanted = told.model_dump(exclude={"seen"})
    return await _write(request, db, principal, live=live, old=old, wanted=lambda: {**old.model_dump(), **wanted})


@router.put("/devices/{device_id}/config")
async def edit_config(request: Request, device_id: str, told: ConfigEdit, principal: Operator, db: Db) -> Response:
    """Changes everything."""
    live = running_of(request).live
    old = _unchanged(live, device_id, told.seen)
    try:
        wanted = orjson.loads(told.text)
    except orjson.JSONDecodeError as error:
        raise Refused(f"this is no JSON: {error}") from None
    if not isinstance(wanted, dict) or wanted.get("device_id") != device_id:
        raise Refused(f'device_id must stay "{device_id}": another id is another device')
    return await _write(request, db, principal, live=live, old=old, wanted=lambda: wanted)


@router.put("/stations/{station_id}")
async def edit_station(request: Request, station_id: str, told: StationEdit, principal: Operator, db: Db) -> Response:
    """Changes a station in the configuration of each of its devices."""
    live = running_of(request).live
    devices = _devices_of(live, station_id)
    wanted = told.model_dump()
    made = [
        _made({**old.model_dump(), "station": {**old.station.model_dump(), **wanted}}, principal) for old in devices
    ]
    changed = _differences(devices[0].station.model_dump(), made[0].station.model_dump())
    if not changed:
        return JSONResponse({"message": "nothing was changed", "tone": "good"})
    for each in made:
        await live.configure(each)
    await audit.note(db, request, principal, "station.edit", subject=station_id, changed=changed, devices=len(made))
    return JSONResponse({"message": f"{told.name}: saved", "tone": "good", "go": f"/stations/{station_id}"})


def _unchanged(live: Live, device_id: str, seen: datetime) -> Device:
    old = _configured(live, device_id)
    if abs((old.configured_at - seen).total_seconds()) > 0.001:
        raise Problem(
            409, f"{old.configured_by} has changed {device_id} meanwhile: load the page again, then edit what is new"
        )
    return old


async def _write(
    request: Request,
    db: Database,
    principal: Principal,
    *,
    live: Live,
    old: Device,
    wanted: Callable[[], dict[str, Any]],
) -> Response:
    made = _made(wanted(), principal)
    changed = _differences(old.model_dump(mode="json"), made.model_dump(mode="json"))
    if not changed:
        return JSONResponse({"message": "nothing was changed", "tone": "good"})
    await live.configure(made)
    await audit.note(db, request, principal, "device.edit", subject=old.device_id, changed=changed)
    return JSONResponse({"message": f"{made.name}: saved", "tone": "good", "go": f"/devices/{old.device_id}"})


def _made(facts: dict[str, Any], principal: Principal) -> Device:
    """The configuration. Raises `Refused` with the first thing that is wrong, and where."""
    try:
        return Device.model_validate_json(
            orjson.dumps({**facts, "configured_at": datetime.now(UTC), "configured_by": principal.name})
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(f"{where or 'device'}: {first['msg'].removeprefix('Value error, ')}") from None


_NOT_TOLD = {"configured_at", "configured_by"}
WORDS_MAX = 200


def _differences(old: Any, new: Any, path: str = "") -> dict[str, str]:
    """What was and what is, by path."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, str] = {}
        for name in sorted(old.keys() | new.keys()):
            if path or name not in _NOT_TOLD:
                found |= _differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
        return found
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        found = {}
        for place, (was, now) in enumerate(zip(old, new, strict=True)):
            found |= _differences(was, now, f"{path}[{place}]")
        return found
    return {} if old == new else {path: f"{str(old)[:WORDS_MAX]} → {str(new)[:WORDS_MAX]}"}
