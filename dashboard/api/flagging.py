"""Flags on readings, and their categories."""

from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from psycopg.types.range import TimestamptzRange
from pydantic import BaseModel, ConfigDict, Field

from dashboard.api.paging import Entry, Listing, Page, Paged, answer
from dashboard.api.params import Device, During, Station, Text, Time
from dashboard.api.selection import sensors_of
from dashboard.flags.stored import ADD, CATEGORIES, REMOVE
from dashboard.web.access import Principal, Scope, database, need
from dashboard.web.audit import note
from dashboard.web.pools import Database
from dashboard.web.problems import Problem, documented
from schemas.records import Utc

Db = Annotated[Database, Depends(database)]
MayRead = Depends(need(Scope.READ))
MayFlag = Annotated[Principal, Depends(need(Scope.FLAG))]
FlagId = Annotated[int, Path(ge=1, le=2**63 - 1)]
router = APIRouter(tags=["flags"])

FLAGS = """
SELECT f.flag_id, f.sensor_id, s.device_id || '/' || s.channel AS sensor, lower(f.during) AS begin,
  upper(f.during) AS "end",  f.category, c.colour, c.excludes, f.reason, f.author, f.created, f.removed, f.removed_by
FROM flags f JOIN sensors s USING (sensor_id) JOIN flag_categories c USING (category)
LEFT JOIN devices d USING (device_id)
WHERE (%(id)s::bigint IS NULL OR f.flag_id = %(id)s) AND (%(removed)s OR f.removed IS NULL)
  AND (%(sensor)s::text IS NULL OR s.device_id || '/' || s.channel = %(sensor)s OR s.sensor_id::text = %(sensor)s)
  AND (%(device)s::text IS NULL OR s.device_id = %(device)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)
  AND (%(category)s::text IS NULL OR f.category = %(category)s)
  AND f.during && tstzrange(%(begin)s, %(end)s)"""


class Flagged(Entry):
    """A flag on a sensor's readings in [begin, end); a bound that is null is not there."""

    flag_id: int
    sensor_id: int
    sensor: str
    begin: Utc | None
    end: Utc | None
    category: str
    colour: str
    excludes: bool = Field(description="Whether statistics leave such readings out.")
    reason: str
    author: str
    created: Utc
    removed: Utc | None
    removed_by: str | None


class Category(Entry):
    """A kind of flag."""

    category: str
    colour: str
    excludes: bool
    description: str


class Categories(BaseModel):
    """All of them."""

    items: list[Category]


class Flagging(BaseModel):
    """A flag to put on."""

    model_config = ConfigDict(extra="forbid")

    sensor: Text = Field(description="DEVICE/CHANNEL or a sensor's number.")
    begin: Time
    end: Time
    category: Text
    reason: Text = ""


@router.get("/flag-categories", response_model=Categories, dependencies=[MayRead])
async def categories(*, request: Request, db: Db) -> Response:
    """The kinds of flags there are."""
    return answer(request, Categories.model_validate({"items": await db.rows(CATEGORIES)}))


@router.get("/flags", response_model=Page[Flagged], dependencies=[MayRead])
async def flags(
    *,
    paged: Paged,
    sensor: Annotated[Text | None, Query(description="DEVICE/CHANNEL or a sensor's number.")] = None,
    device: Device = None,
    station: Station = None,
    category: Annotated[Text | None, Query()] = None,
    period: During,
    removed: Annotated[bool, Query(description="Also those that were taken off.")] = False,
) -> Response:
    """Flags that touch the period, by number."""
    arguments: dict[str, Any] = {
        "id": None,
        "sensor": sensor,
        "device": device,
        "station": station,
        "category": category,
    }
    arguments |= {"removed": removed, "begin": period.begin, "end": period.end}
    return await paged.answer(Page[Flagged], Listing(select=FLAGS, key={"flag_id": int}), arguments)


@router.get("/flags/{flag_id}", response_model=Flagged, dependencies=[MayRead], responses=documented(404))
async def flag(*, request: Request, db: Db, flag_id: FlagId) -> Response:
    """One flag, also one that was taken off."""
    return answer(request, await _flag(db, flag_id))


async def _flag(db: Database, flag_id: int) -> Flagged:
    arguments: dict[str, Any] = {"id": flag_id, "removed": True}
    arguments |= dict.fromkeys(("sensor", "device", "station", "category", "begin", "end"))
    return Flagged.model_validate(await db.one(FLAGS, arguments, what=f"flag {flag_id}"))


@router.post("/flags", response_model=Flagged, status_code=201, responses=documented(404, 409, 413))
async def put_on(*, request: Request, db: Db, principal: MayFlag, flagging: Flagging) -> Response:
    """Flag a sensor's readings of a period. Statistics and exports follow at once; readings stay as they are."""
    if flagging.begin >= flagging.end:
        raise Problem(422, "begin: must be before end")
    (sensor,) = await sensors_of(db, [flagging.sensor], device=None, station=None)
    span = TimestamptzRange(flagging.begin, flagging.end, "[)")
    asked = (sensor["sensor_id"], span, flagging.category, flagging.reason, principal.name)
    try:
        async with db.connection() as connection:
            row = await (await connection.execute(ADD, asked)).fetchone()
    except psycopg.errors.ForeignKeyViolation:
        known = ", ".join(each["category"] for each in await db.rows(CATEGORIES))
        raise Problem(422, f'category "{flagging.category}" is none of: {known}') from None
    number = row[0] if row else None
    told = {"sensor": sensor["sensor"], "begin": flagging.begin.isoformat(), "end": flagging.end.isoformat()}
    outcome = "refused" if number is None else "done"
    await note(
        db,
        request,
        principal,
        "flag.add",
        subject=sensor["sensor"],
        outcome=outcome,
        category=flagging.category,
        **told,
    )
    if number is None:
        raise Problem(409, f'flags of category "{flagging.category}" cover this period of {sensor["sensor"]} already')
    made = answer(request, await _flag(db, number))
    made.status_code = 201
    made.headers["Location"] = f"/api/v1/flags/{number}"
    return made


@router.delete("/flags/{flag_id}", response_model=Flagged, responses=documented(404, 409))
async def take_off(*, request: Request, db: Db, principal: MayFlag, flag_id: FlagId) -> Response:
    """Take a flag off. It stays in the history."""
    await _flag(db, flag_id)
    async with db.connection() as connection:
        row = await (await connection.execute(REMOVE, (flag_id, principal.name))).fetchone()
    was_on = bool(row and row[0])
    await note(db, request, principal, "flag.remove", subject=str(flag_id), outcome="done" if was_on else "refused")
    if not was_on:
        raise Problem(409, f"flag {flag_id} was taken off already")
    return answer(request, await _flag(db, flag_id))
