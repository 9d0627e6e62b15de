"""What came in and what did not: imports, gaps, data recovery, replays, recalibrations."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from dashboard.api.paging import Entry, Listing, Page, Paged, answer
from dashboard.api.params import Device, During, Station
from dashboard.api.selection import Sensors, sensors_of
from dashboard.web.access import Scope, database, need
from dashboard.web.pools import Database
from dashboard.web.problems import documented
from schemas.records import ImportState, Utc

Db = Annotated[Database, Depends(database)]
router = APIRouter(tags=["what came in"], dependencies=[Depends(need(Scope.READ))])

IMPORTS = """
SELECT sha256, name, device_id, format, state, rows, readings, sent, rejected, missing, repeated, out_of_order,
  problems, questions, reason, line, source, bytes, uploaded_by, maker, model, serial, first_time, last_time,
  found, time, stored
FROM imports
WHERE (%(id)s::text IS NULL OR sha256 = %(id)s) AND (%(state)s::text[] IS NULL OR state = ANY (%(state)s))
  AND (%(device)s::text IS NULL OR device_id = %(device)s)
  AND (%(begin)s::timestamptz IS NULL OR time >= %(begin)s) AND (%(end)s::timestamptz IS NULL OR time < %(end)s)"""
# The view looks at one sensor at a time; what it is told to look at keeps it short.
GAPS = """
SELECT sensor_id, device_id || '/' || channel AS sensor, begins, ends, extract(epoch FROM length)::float8 AS length_s,
  missing, is_open
FROM gaps
WHERE sensor_id = ANY (%(sensors)s) AND length >= make_interval(secs => %(least_s)s)
  AND (%(begin)s::timestamptz IS NULL OR ends > %(begin)s) AND (%(end)s::timestamptz IS NULL OR begins < %(end)s)"""
RECOVERY = """
SELECT sensor_id, device_id || '/' || channel AS sensor, month, expected, stored, present, good, recovery, availability
FROM data_recovery WHERE sensor_id = ANY (%(sensors)s)
  AND (%(begin)s::timestamptz IS NULL OR month >= %(begin)s) AND (%(end)s::timestamptz IS NULL OR month < %(end)s)"""
REPLAYS = "SELECT replay_id, sink, topic, part, generation, stood_at, moved_to, reason, owner, time FROM replays"
RECALIBRATIONS = """
SELECT r.recalibration_id, r.sensor_id, s.device_id || '/' || s.channel AS sensor, r.begins, r.ends, r.reached, r.rows,
  r.changed, r.changed_from, r.changed_to, r.author, r.started, r.finished
FROM recalibrations r JOIN sensors s USING (sensor_id)"""


class Import(Entry):
    """A file and how far it has come. Rows and readings are those of the file."""

    sha256: str
    name: str
    device_id: str | None
    format: str | None
    state: str
    rows: int
    readings: int
    sent: int
    rejected: int
    missing: int
    repeated: int
    out_of_order: int
    problems: int
    questions: list[str] = Field(description="What has to be answered before it goes on.")
    reason: str | None
    line: int | None
    source: str | None
    bytes: int
    uploaded_by: str | None
    maker: str
    model: str
    serial: str
    first_time: Utc | None
    last_time: Utc | None
    found: Utc | None
    time: Utc = Field(description="Of this state.")
    stored: Utc | None


class Gap(Entry):
    """A range in which a sensor has no reading, or only ones that say "missing"."""

    sensor_id: int
    sensor: str
    begins: Utc
    ends: Utc
    length_s: float
    missing: int = Field(description="How many readings the sensor's interval asks for.")
    is_open: bool = Field(description="It lasts until now.")


class Recovery(Entry):
    """One sensor's month (UTC)."""

    sensor_id: int
    sensor: str
    month: Utc
    expected: int | None
    stored: int
    present: int
    good: int
    recovery: float | None = Field(description="Good of expected.")
    availability: float | None = Field(description="Present of expected.")


class Replay(Entry):
    """Each time a position was moved by something other than storing what lay before it."""

    replay_id: int
    sink: str
    topic: str
    part: int
    generation: int
    stood_at: int
    moved_to: int
    reason: str
    owner: str
    time: Utc


class Recalibration(Entry):
    """Stored values made anew from logged ones."""

    recalibration_id: int
    sensor_id: int
    sensor: str
    begins: Utc
    ends: Utc
    reached: Utc
    rows: int
    changed: int
    changed_from: Utc | None
    changed_to: Utc | None
    author: str
    started: Utc
    finished: Utc | None


Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@router.get("/imports", response_model=Page[Import])
async def imports(
    *,
    paged: Paged,
    state: Annotated[list[ImportState] | None, Query(description="May be repeated; by default all.")] = None,
    device: Device = None,
    period: During,
) -> Response:
    """Imported files, the one that moved last first."""
    listing = Listing(select=IMPORTS, key={"time": Utc, "sha256": str}, newest_first=True)
    states = [str(each) for each in state] if state else None
    arguments = {"id": None, "state": states, "device": device, "begin": period.begin, "end": period.end}
    return await paged.answer(Page[Import], listing, arguments)


@router.get("/imports/{sha256}", response_model=Import, responses=documented(404))
async def one_import(*, request: Request, db: Db, sha256: Sha256) -> Response:
    """One file's state, by the SHA-256 of its content."""
    arguments = {"id": sha256, **dict.fromkeys(("state", "device", "begin", "end"))}
    row = await db.one(IMPORTS, arguments, what=f"file {sha256}")
    return answer(request, Import.model_validate(row))


@router.get("/gaps", response_model=Page[Gap], responses=documented(404, 413))
async def gaps(
    *,
    paged: Paged,
    sensor: Sensors = None,
    device: Device = None,
    station: Station = None,
    period: During,
    least_s: Annotated[float, Query(ge=0, le=1e9, description="Only gaps of this length or more.")] = 0.0,
) -> Response:
    """Where readings are missing, by sensor and time."""
    found = await sensors_of(paged.db, sensor, device=device, station=station)
    arguments = _of(found, period.begin, period.end) | {"least_s": least_s}
    listing = Listing(select=GAPS, key={"sensor_id": int, "begins": Utc})
    return await paged.answer(Page[Gap], listing, arguments)


@router.get("/recovery", response_model=Page[Recovery], responses=documented(404, 413))
async def recovery(
    *,
    paged: Paged,
    sensor: Sensors = None,
    device: Device = None,
    station: Station = None,
    period: During,
) -> Response:
    """How much of each month there is, by sensor and month (UTC)."""
    found = await sensors_of(paged.db, sensor, device=device, station=station)
    listing = Listing(select=RECOVERY, key={"sensor_id": int, "month": Utc})
    return await paged.answer(Page[Recovery], listing, _of(found, period.begin, period.end))


def _of(sensors: list[dict[str, Any]], begin: datetime | None, end: datetime | None) -> dict[str, Any]:
    return {"sensors": [each["sensor_id"] for each in sensors], "begin": begin, "end": end}


@router.get("/replays", response_model=Page[Replay])
async def replays(*, paged: Paged) -> Response:
    """Each time the sink was told to read again, newest first."""
    listing = Listing(select=REPLAYS, key={"replay_id": int}, newest_first=True)
    return await paged.answer(Page[Replay], listing, {})


@router.get("/recalibrations", response_model=Page[Recalibration])
async def recalibrations(*, paged: Paged) -> Response:
    """Recalibrations and how far they have come, newest first."""
    listing = Listing(select=RECALIBRATIONS, key={"recalibration_id": int}, newest_first=True)
    return await paged.answer(Page[Recalibration], listing, {})
