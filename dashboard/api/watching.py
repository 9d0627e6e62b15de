"""What happens: heartbeats, alarms and what people do about them, rejected records."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from dashboard.acting import act_on
from dashboard.api.paging import Entry, Listing, Page, Paged, answer
from dashboard.api.params import Device, During, Station, Text, Time
from dashboard.web.access import Principal, Scope, database, need
from dashboard.web.audit import note
from dashboard.web.pools import Database
from dashboard.web.problems import Problem, documented, unavailable
from dashboard.web.state import web_of
from schemas.alarms import Action, ActionAnswer, AlarmEvent, AlarmState, Severity
from schemas.records import Utc

Db = Annotated[Database, Depends(database)]
MayRead = Depends(need(Scope.READ))
router = APIRouter(tags=["what happens"])

HEARTBEATS = """
SELECT device_id, received, time, spool_id, started, version, next_sequence, depth, depth_bytes, oldest_unsent,
  accepted, sent, dropped, refused, free_disk_bytes, clock_offset_s, clock_synchronised, sources
FROM heartbeats
WHERE (%(device)s::text IS NULL OR device_id = %(device)s)
  AND (%(station)s::text IS NULL OR device_id IN (SELECT device_id FROM devices WHERE station_id = %(station)s))
  AND (%(begin)s::timestamptz IS NULL OR received >= %(begin)s)
  AND (%(end)s::timestamptz IS NULL OR received < %(end)s)"""
ALARMS = """
SELECT alarm_id, rule, source, device_id, station_id, severity, state, reason, onset, value, "limit", unit, message,
  replayed, time
FROM alarms
WHERE (%(id)s::text IS NULL OR alarm_id = %(id)s) AND (%(state)s::text[] IS NULL OR state = ANY (%(state)s))
  AND (%(severity)s::text[] IS NULL OR severity = ANY (%(severity)s))
  AND (%(device)s::text IS NULL OR device_id = %(device)s)
  AND (%(station)s::text IS NULL OR station_id = %(station)s)
  AND (%(begin)s::timestamptz IS NULL OR onset >= %(begin)s) AND (%(end)s::timestamptz IS NULL OR onset < %(end)s)"""
LAST_EVENT = """
SELECT event FROM alarm_events WHERE alarm_id = %s
ORDER BY coalesce((event -> 'data' ->> 'step')::int, 0) DESC, time DESC LIMIT 1"""
EVENTS = """
SELECT event_id, alarm_id, state, time, event FROM alarm_events
WHERE (%(alarm)s::text IS NULL OR alarm_id = %(alarm)s)
  AND (%(device)s::text IS NULL OR event->'data'->>'device_id' = %(device)s)
  AND (%(begin)s::timestamptz IS NULL OR time >= %(begin)s) AND (%(end)s::timestamptz IS NULL OR time < %(end)s)"""
REJECTED = """
SELECT topic, part, at_offset, device_id, reason, detail, rows, time, length(payload) AS bytes FROM rejected
WHERE (%(device)s::text IS NULL OR device_id = %(device)s) AND (%(reason)s::text IS NULL OR reason = %(reason)s)
  AND (%(begin)s::timestamptz IS NULL OR time >= %(begin)s) AND (%(end)s::timestamptz IS NULL OR time < %(end)s)"""


class Beat(Entry):
    """What an edge said of itself. `received` is the broker's clock."""

    device_id: str
    received: Utc
    time: Utc
    spool_id: str
    started: Utc
    version: str
    next_sequence: int
    depth: int
    depth_bytes: int
    oldest_unsent: Utc | None
    accepted: int
    sent: int
    dropped: int
    refused: int
    free_disk_bytes: int
    clock_offset_s: float | None
    clock_synchronised: bool | None
    sources: list[dict[str, Any]]


class AlarmNow(Entry):
    """An alarm as of its newest event."""

    alarm_id: str
    rule: str
    source: str
    device_id: str | None
    station_id: str | None
    severity: str
    state: str
    reason: str
    onset: Utc
    value: float | None
    limit: float | None
    unit: str | None
    message: str
    replayed: bool
    time: Utc = Field(description="Of the newest event.")


class Step(Entry):
    """One event of an alarm's life."""

    event_id: str
    alarm_id: str
    state: str
    time: Utc
    event: dict[str, Any] = Field(description="The CloudEvent as it stands in the topic.")


class Refusal(Entry):
    """A record that could not be taken; its bytes are in the topic `readings.rejected`."""

    topic: str
    part: int
    at_offset: int
    device_id: str | None
    reason: str
    detail: str
    rows: int
    time: Utc
    bytes: int


@router.get("/heartbeats", response_model=Page[Beat], dependencies=[MayRead])
async def heartbeats(
    *,
    paged: Paged,
    device: Device = None,
    station: Station = None,
    period: During,
) -> Response:
    """Heartbeats, newest first."""
    listing = Listing(select=HEARTBEATS, key={"received": Utc, "device_id": str, "time": Utc}, newest_first=True)
    arguments = {"device": device, "station": station, "begin": period.begin, "end": period.end}
    return await paged.answer(Page[Beat], listing, arguments)


@router.get("/alarms", response_model=Page[AlarmNow], dependencies=[MayRead])
async def alarms(
    *,
    paged: Paged,
    state: Annotated[list[AlarmState] | None, Query(description="May be repeated; by default all.")] = None,
    severity: Annotated[list[Severity] | None, Query(description="May be repeated; by default all.")] = None,
    device: Device = None,
    station: Station = None,
    period: During,
) -> Response:
    """Alarms as they stand, latest onset first. `from` and `to` are about the onset."""
    listing = Listing(select=ALARMS, key={"onset": Utc, "alarm_id": str}, newest_first=True)
    arguments = {
        "id": None,
        "state": [str(each) for each in state] if state else None,
        "severity": [str(each) for each in severity] if severity else None,
        "device": device,
        "station": station,
        "begin": period.begin,
        "end": period.end,
    }
    return await paged.answer(Page[AlarmNow], listing, arguments)


AlarmId = Annotated[Text, Path()]


@router.get("/alarms/{alarm_id}", response_model=AlarmNow, responses=documented(404), dependencies=[MayRead])
async def alarm(*, request: Request, db: Db, alarm_id: AlarmId) -> Response:
    """One alarm."""
    arguments = {"id": alarm_id, **dict.fromkeys(("state", "severity", "device", "station", "begin", "end"))}
    row = await db.one(ALARMS, arguments, what=f"alarm {alarm_id}")
    return answer(request, AlarmNow.model_validate(row))


@router.get("/alarm-events", response_model=Page[Step], dependencies=[MayRead])
async def alarm_events(
    *,
    paged: Paged,
    alarm: Annotated[Text | None, Query(description="Of this alarm.")] = None,
    device: Device = None,
    period: During,
) -> Response:
    """Every step of alarms' lives, newest first."""
    listing = Listing(select=EVENTS, key={"time": Utc, "event_id": str}, newest_first=True)
    arguments = {"alarm": alarm, "device": device, "begin": period.begin, "end": period.end}
    return await paged.answer(Page[Step], listing, arguments)


class Doing(BaseModel):
    """What to do about an alarm."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    reason: Text = ""
    until: Time | None = Field(default=None, description="End of the shelf; with `shelve` only.")


@router.post(
    "/alarms/{alarm_id}/actions", response_model=ActionAnswer, responses=documented(404, 409, 413), status_code=200
)
async def do(
    *,
    request: Request,
    db: Db,
    principal: Annotated[Principal, Depends(need(Scope.ALARM))],
    alarm_id: AlarmId,
    doing: Doing,
) -> Response:
    """Acknowledge, shelve, unshelve, comment. Goes through Kafka: of a device's alarm, the answer is the stream stage's
    own; about an alarm of the pipeline itself it is told at once."""
    if (doing.action is Action.SHELVE) != (doing.until is not None):
        raise Problem(422, "until: expected with shelve, and with nothing else")
    if doing.action is Action.COMMENT and not doing.reason:
        raise Problem(422, "reason: expected with comment")
    web = web_of(request)
    if web.kafka is None:
        raise unavailable("this service runs without a broker, so nothing can be done about alarms")
    last = await db.one(LAST_EVENT, (alarm_id,), what=f"alarm {alarm_id}")
    known = AlarmEvent.model_validate(last["event"])
    said = await asyncio.to_thread(
        act_on, web.kafka, known, doing.action, reason=doing.reason, until=doing.until, who=principal.name
    )
    outcome = "refused" if said.reason else "done"
    await note(db, request, principal, f"alarm.{doing.action}", subject=alarm_id, outcome=outcome, reason=doing.reason)
    if said.reason is not None:
        raise Problem(409, f"{said.reason}: {said.message}")
    return answer(request, said)


@router.get("/rejected", response_model=Page[Refusal], dependencies=[MayRead])
async def rejected(
    *,
    paged: Paged,
    device: Device = None,
    reason: Annotated[Text | None, Query()] = None,
    period: During,
) -> Response:
    """Records that could not be taken, newest first."""
    key = {"time": Utc, "topic": str, "part": int, "at_offset": int}
    listing = Listing(select=REJECTED, key=key, newest_first=True)
    arguments = {"device": device, "reason": reason, "begin": period.begin, "end": period.end}
    return await paged.answer(Page[Refusal], listing, arguments)
