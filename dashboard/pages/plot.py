"""The plot of sensors: which there are, flags taken off a range, wind rose, recalibration. Series and flags come from
the API that everybody uses; this adds what only a page needs."""

import asyncio
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from psycopg.types.range import TimestamptzRange
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from dashboard.flags.stored import CATEGORIES, REMOVE_RANGE
from dashboard.pages import commands
from dashboard.pages.render import page
from dashboard.web import audit
from dashboard.web.access import Principal, Role, database, need
from dashboard.web.pools import Database
from dashboard.web.problems import Problem
from infra.database import holding
from schemas.errors import Refused

router = APIRouter(prefix="/plot", include_in_schema=False)
Viewer = Depends(need(Role.VIEWER))
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
Db = Annotated[Database, Depends(database)]

SHOWN_MAX = 8
FOUND_MAX = 30
PREVIEW_S_MAX = 120.0
START_S = 2.0
"""So long an answer waits for a recalibration, which is refused at once or goes on without it."""
SECTORS = 16
SPEED_EDGES = (2.0, 4.0, 6.0, 10.0, 15.0)
"""Of the rose's classes, m/s: below the first is called calm by nobody's standard, so it is a class of its own."""

# What a plot must know of its sensors. `least`, `largest`: the minimum and maximum of the same measurement point.
SENSORS = """
SELECT s.sensor_id, s.device_id || '/' || s.channel AS sensor, s.device_id, s.channel, s.point, s.quantity, s.unit,
  s.statistic, s.height_m, d.interval_s, d.station_id, f.time AS first, l.time AS last,
  (SELECT o.sensor_id FROM sensors o WHERE o.device_id = s.device_id AND o.point = s.point AND o.statistic = 'min'
     AND o.quantity = s.quantity LIMIT 1) AS least,
  (SELECT o.sensor_id FROM sensors o WHERE o.device_id = s.device_id AND o.point = s.point AND o.statistic = 'max'
     AND o.quantity = s.quantity LIMIT 1) AS largest
FROM sensors s LEFT JOIN devices d USING (device_id)
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time DESC LIMIT 1) l ON true
WHERE s.device_id || '/' || s.channel = ANY (%s) OR s.sensor_id::text = ANY (%s)"""
FIND = """
SELECT s.device_id || '/' || s.channel AS sensor, s.quantity, s.statistic, s.height_m, s.unit
FROM sensors s
WHERE (SELECT bool_and(concat_ws(' ', s.device_id || '/' || s.channel, s.quantity, s.statistic) ILIKE word)
       FROM unnest(%s::text[]) AS word) IS NOT FALSE
ORDER BY s.active DESC, s.device_id, s.sensor_id LIMIT %s"""
# Time at each direction and speed: how often both were good at once.
ROSE = """
SELECT floor(((d.value + 360.0 / %(sectors)s / 2)::numeric %% 360)::float8 / (360.0 / %(sectors)s))::int AS sector,
  width_bucket(v.value, %(edges)s::float8[]) AS class, count(*) AS count, sum(v.value) AS sum
FROM readings_good d JOIN readings_good v ON v.time = d.time
WHERE d.sensor_id = %(direction)s AND v.sensor_id = %(speed)s
  AND d.time >= %(begin)s AND d.time < %(end)s AND v.time >= %(begin)s AND v.time < %(end)s
GROUP BY 1, 2"""
# A vane and the anemometer of the same device that is nearest to it in height.
PAIR = """
SELECT d.sensor_id AS direction, v.sensor_id AS speed, d.device_id || '/' || d.channel AS direction_name,
  v.device_id || '/' || v.channel AS speed_name
FROM sensors d JOIN sensors v USING (device_id)
WHERE d.device_id = %s AND d.quantity = 'wind_direction' AND v.quantity = 'wind_speed'
  AND d.statistic = 'avg' AND v.statistic = 'avg'
ORDER BY (d.active AND v.active) DESC, (d.sensor_id = %s OR v.sensor_id = %s) DESC,
  abs(coalesce(d.height_m - v.height_m, 1e6)), v.height_m DESC
LIMIT 1"""
RECALIBRATIONS = """
SELECT r.recalibration_id, s.device_id || '/' || s.channel AS sensor, r.author, r.started, r.finished, r.rows,
  r.changed, least(1.0, greatest(0.0, extract(epoch FROM r.reached - r.begins)::float8
    / nullif(extract(epoch FROM r.ends - r.begins)::float8, 0))) AS share
FROM recalibrations r JOIN sensors s USING (sensor_id)
WHERE s.device_id || '/' || s.channel = ANY (%s) ORDER BY r.recalibration_id DESC LIMIT 10"""

# Alarms of a device that touch a period; `ended` is null for one that stands.
ALARMS = """
SELECT alarm_id, rule, source, severity, state, message, onset, CASE WHEN state = 'cleared' THEN time END AS ended
FROM alarms
WHERE device_id = %(device)s AND onset < %(end)s AND (state <> 'cleared' OR time >= %(begin)s)
ORDER BY onset DESC LIMIT 500"""


class Span(BaseModel):
    """A sensor and a period of it."""

    model_config = ConfigDict(extra="forbid")

    sensor: Annotated[str, Field(min_length=1, max_length=400)]
    begin: AwareDatetime
    end: AwareDatetime


class Unflagging(Span):
    """Flags to be taken off a period; of one category, or of all."""

    category: str | None = None


class Recalibrating(BaseModel):
    """Readings to be calibrated anew; without a period, all of them."""

    model_config = ConfigDict(extra="forbid")

    sensor: Annotated[str, Field(pattern=r"^[^-/][^/]*/[^\x00]+$", max_length=400)]
    begin: AwareDatetime | None = None
    end: AwareDatetime | None = None
    dry_run: bool = True


@router.get("", dependencies=[Viewer])
async def plot(request: Request, db: Db, sensor: Annotated[list[str] | None, Query()] = None) -> Response:
    """The page. Sensors and period stand in its address."""
    known = {row["sensor"]: row for row in await _known(db, sensor or [])}
    missing = [each for each in sensor or [] if each not in known]
    shown = [known[each] for each in sensor or [] if each in known]
    told = {
        "sensors": [row | {"offset": _offset(request, row["device_id"])} for row in shown],
        "categories": await db.rows(CATEGORIES),
        "sensors_max": SHOWN_MAX,
    }
    return page(
        request,
        "plot.html",
        title="Plot",
        missing=missing,
        told=orjson.dumps(told, option=orjson.OPT_NAIVE_UTC).decode(),
        categories=told["categories"],
        edges=SPEED_EDGES,
    )


def _offset(request: Request, device_id: str) -> int | None:
    running = getattr(request.app.state, "running", None)
    device = running.live.device(device_id) if running else None
    return device.loggers[-1].utc_offset_minutes if device and device.loggers else None


async def _known(db: Database, names: list[str]) -> list[dict[str, Any]]:
    if len(names) > SHOWN_MAX:
        raise Refused(f"a plot shows {SHOWN_MAX} sensors at most, not {len(names)}")
    return await db.rows(SENSORS, (names, names)) if names else []


@router.get("/find", dependencies=[Viewer])
async def find(db: Db, q: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Sensors whose name, quantity or statistic has these words."""
    words = [holding(word) for word in q.split()[:6]]
    return JSONResponse(await db.rows(FIND, (words, FOUND_MAX)))


@router.get("/sensors", dependencies=[Viewer])
async def sensors(request: Request, db: Db, sensor: Annotated[list[str], Query(max_length=SHOWN_MAX)]) -> Response:
    """What the plot must know of these."""
    rows = [row | {"offset": _offset(request, row["device_id"])} for row in await _known(db, sensor)]
    return Response(orjson.dumps(rows), media_type="application/json")


@router.get("/alarms", dependencies=[Viewer])
async def alarms(
    db: Db, device: Annotated[str, Query(max_length=200)], begin: AwareDatetime, end: AwareDatetime
) -> Response:
    """Alarms of a device that touch a period."""
    rows = await db.rows(ALARMS, {"device": device, "begin": begin, "end": end})
    return Response(orjson.dumps(rows), media_type="application/json")


@router.post("/unflag")
async def unflag(request: Request, told: Unflagging, principal: Operator, db: Db) -> Response:
    """Takes flags off a period; what reaches beyond it stays flagged."""
    if told.begin >= told.end:
        raise Refused("the period is empty")
    (sensor,) = await _one(db, told.sensor)
    span = TimestamptzRange(told.begin, told.end, "[)")
    async with db.connection() as connection:
        done = await connection.execute(REMOVE_RANGE, (sensor["sensor_id"], span, told.category, principal.name))
        row = await done.fetchone()
    touched = int(row[0]) if row else 0
    await audit.note(
        db,
        request,
        principal,
        "flag.remove_range",
        subject=told.sensor,
        begin=told.begin.isoformat(),
        end=told.end.isoformat(),
        touched=touched,
    )
    return JSONResponse({"touched": touched, "message": f"{touched} flags were touched", "tone": "good"})


async def _one(db: Database, name: str) -> list[dict[str, Any]]:
    found = await _known(db, [name])
    if not found:
        raise Problem(404, f"sensor {name} is not known here")
    return found


@router.get("/rose", dependencies=[Viewer])
async def rose(
    db: Db,
    device: Annotated[str, Query(max_length=200)],
    begin: AwareDatetime,
    end: AwareDatetime,
    sensor: int = 0,
) -> Response:
    """How often the wind came from where, and how fast, by the best pair of vane and anemometer of a device."""
    pair = await db.first(PAIR, (device, sensor, sensor))
    if pair is None:
        raise Refused(f"device {device} has no wind direction and wind speed (averages) together")
    names = {"direction": pair["direction"], "speed": pair["speed"], "begin": begin, "end": end}
    names |= {"sectors": SECTORS, "edges": list(SPEED_EDGES)}
    rows = await db.rows(ROSE, names)
    counts = [[0] * (len(SPEED_EDGES) + 1) for _ in range(SECTORS)]
    for row in rows:
        counts[row["sector"] % SECTORS][row["class"]] += row["count"]
    total = sum(map(sum, counts))
    mean = sum(row["sum"] for row in rows) / total if total else None
    told = {"counts": counts, "edges": SPEED_EDGES, "total": total, "mean": mean}
    return JSONResponse(told | {"direction": pair["direction_name"], "speed": pair["speed_name"]})


@router.get("/recalibrations", dependencies=[Viewer])
async def recalibrations(db: Db, sensor: Annotated[list[str], Query(max_length=SHOWN_MAX)]) -> Response:
    """How far recalibrations of these sensors have come."""
    return Response(orjson.dumps(await db.rows(RECALIBRATIONS, (sensor,))), media_type="application/json")


@router.post("/recalibrate")
async def recalibrate(request: Request, told: Recalibrating, principal: Operator, db: Db) -> Response:
    """What would change; or the work itself, which goes on when the page is left."""
    await _one(db, told.sensor)
    words = ["recalibrate", told.sensor, "--json"]
    words += ["--from", told.begin.isoformat()] if told.begin else []
    words += ["--to", told.end.isoformat()] if told.end else []
    process = await commands.start(request, [*words, *(["--dry-run"] if told.dry_run else [])], who=principal.name)
    what = "recalibrate.preview" if told.dry_run else "recalibrate"
    await audit.note(db, request, principal, what, subject=told.sensor, begin=_iso(told.begin), end=_iso(told.end))
    if told.dry_run:
        found = await commands.answer_within(process, PREVIEW_S_MAX, remedy="choose a shorter period")
    else:
        work = asyncio.create_task(commands.answer(process))
        _at_work.add(work)
        work.add_done_callback(_at_work.discard)
        done, _ = await asyncio.wait({work}, timeout=START_S)
        if not done:
            return JSONResponse({"message": "the recalibration is at work", "tone": "good", "running": True})
        found = work.result()
    changed = sum(each["changed"] for each in found["sensors"])
    verb = "would change" if told.dry_run else "changed"
    return JSONResponse(found | {"message": f"{changed:,} readings {verb}", "tone": "good", "running": False})


_at_work: set["asyncio.Task[Any]"] = set()
"""Tasks that nobody else holds."""


def _iso(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
