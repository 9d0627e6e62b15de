"""Alarms: those that stand, from the topic; what was, from the database; and what people do about them.

An action goes to `alarm.actions`, and what the page says about it is the stage's answer; about alarms that the stage
does not answer for it is told at once.
"""

import asyncio
from collections import Counter
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, TypedDict

from fastapi import APIRouter, Depends, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse, JSONResponse, Response

from dashboard.acting import STAGE_S_MAX, act_at_once, action_event
from dashboard.live.following import Live
from dashboard.pages.render import fragment, page
from dashboard.pages.serving import running_of
from dashboard.web import audit
from dashboard.web.access import Principal, Role, database, need
from dashboard.web.pools import Database
from infra.database import holding
from schemas.alarms import Action, ActionAnswer, Alarm, AlarmEvent, AlarmState, Severity
from schemas.errors import Refused, Unavailable

router = APIRouter(prefix="/alarms", include_in_schema=False)
Viewer = Depends(need(Role.VIEWER))
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
Db = Annotated[Database, Depends(database)]
Tab = Literal["active", "shelved", "history"]

SHOWN = 100
AT_ONCE_MAX = 200
"""Alarms in one action: each is an event and an answer."""
SHELF_MAX = timedelta(days=90)
TABS = {
    "active": frozenset({AlarmState.RAISED, AlarmState.LATCHED, AlarmState.ACKNOWLEDGED}),
    "shelved": frozenset({AlarmState.SHELVED, AlarmState.SUPPRESSED}),
}
ORDER = {severity: place for place, severity in enumerate(Severity)}

HISTORY = """
SELECT a.alarm_id, rule, source, device_id, station_id, severity, state, reason, message, onset, a.time,
  a.time - onset AS lasted, NULL AS until, w.who, w.why
FROM alarms a LEFT JOIN LATERAL (
  SELECT event -> 'data' ->> 'who' AS who, event -> 'data' ->> 'why' AS why FROM alarm_events
  WHERE alarm_id = a.alarm_id AND event -> 'data' ->> 'who' IS NOT NULL ORDER BY time DESC LIMIT 1) w ON true
WHERE state = 'cleared' AND (%(severity)s::text IS NULL OR severity = %(severity)s)
  AND (%(words)s::text IS NULL OR concat_ws(' ', source, rule, message) ILIKE %(words)s)
  AND (%(before)s::timestamptz IS NULL OR a.time < %(before)s)
ORDER BY a.time DESC LIMIT %(limit)s"""
ONE = """
SELECT alarm_id, rule, source, device_id, station_id, severity, state, reason, message, onset, value, "limit", unit,
  replayed, time
FROM alarms WHERE alarm_id = %s"""
STEPS = """
SELECT time, state, event -> 'data' ->> 'message' AS message, event -> 'data' ->> 'who' AS who,
  event -> 'data' ->> 'why' AS why, event -> 'data' ->> 'until' AS until, event ->> 'source' AS speaker,
  coalesce((event -> 'data' ->> 'step')::int, 0) AS step
FROM alarm_events WHERE alarm_id = %s ORDER BY time, step LIMIT 500"""


class Doing(TypedDict):
    """By whom, why, and until when."""

    who: str
    reason: str
    until: datetime | None


class Acting(BaseModel):
    """What is to be done about which alarms."""

    model_config = ConfigDict(extra="forbid")

    alarms: Annotated[list[str], Field(min_length=1, max_length=AT_ONCE_MAX)]
    action: Action
    reason: Annotated[str, Field(max_length=2000)] = ""
    minutes: Annotated[int, Field(gt=0, le=int(SHELF_MAX.total_seconds() / 60))] | None = None
    until: AwareDatetime | None = None


@router.get("", dependencies=[Viewer])
async def alarms(
    request: Request, tab: Tab = "active", q: str = "", severity: str = "", before: AwareDatetime | None = None
) -> Response:
    """The page; its list comes with it and anew when something changes."""
    return page(
        request,
        "alarms.html",
        title="Alarms",
        tab=tab,
        q=q,
        severity=severity,
        severities=list(Severity),
        **await _listed(request, tab, q=q, severity=severity, before=before),
    )


@router.get("/list", dependencies=[Viewer])
async def alarm_list(
    request: Request,
    tab: Tab = "active",
    q: Annotated[str, Query(max_length=200)] = "",
    severity: str = "",
    before: AwareDatetime | None = None,
) -> Response:
    """The list alone."""
    told = await _listed(request, tab, q=q, severity=severity, before=before)
    return HTMLResponse(fragment("alarm_list.html", tab=tab, q=q, severity=severity, **told))


async def _listed(request: Request, tab: Tab, *, q: str, severity: str, before: datetime | None) -> dict[str, Any]:
    live = running_of(request).live
    wanted = severity if severity in set(Severity) else None
    principal: Principal = request.state.principal
    standing = live.standing()
    counts = {name: sum(event.data.state in states for event in standing) for name, states in TABS.items()}
    told: dict[str, Any] = {"counts": counts, "operates": principal.may(Role.OPERATOR), "more": None}
    told["before"] = before.isoformat() if before else ""
    if tab == "history":
        db = await database(request)
        words = holding(q.strip()) if q.strip() else None
        names = {"severity": wanted, "words": words, "before": before, "limit": SHOWN + 1}
        rows = await db.rows(HISTORY, names)
        if len(rows) > SHOWN:
            told["more"] = rows[SHOWN - 1]["time"].isoformat()
        return told | {"rows": [row | {"offset": _offset(live, row["device_id"])} for row in rows[:SHOWN]], "of": None}
    fitting = [
        event
        for event in standing
        if event.data.state in TABS[tab]
        and (wanted is None or event.data.severity == wanted)
        and _fits(event.data, q.lower().split())
    ]
    fitting.sort(key=lambda event: (ORDER[event.data.severity], -event.data.onset.timestamp()))
    rows = [_row(event, live) for event in fitting[:SHOWN]]
    return told | {"rows": rows, "of": len(fitting)}


def _fits(alarm: Alarm, words: list[str]) -> bool:
    text = f"{alarm.source} {alarm.rule} {alarm.message}".lower()
    return all(word in text for word in words)


def _row(event: AlarmEvent, live: Live) -> dict[str, Any]:
    return event.data.model_dump() | {"time": event.time, "offset": _offset(live, event.data.device_id)}


def _offset(live: Live, device_id: str | None) -> int | None:
    """Of the station's clock, in minutes."""
    device = live.device(device_id) if device_id else None
    return device.loggers[-1].utc_offset_minutes if device and device.loggers else None


@router.get("/{alarm_id}", dependencies=[Viewer])
async def alarm(request: Request, alarm_id: str, db: Db) -> Response:
    """One alarm with all its steps."""
    return page(request, "alarm.html", title="Alarm", **await _one(request, alarm_id, db))


@router.get("/{alarm_id}/steps", dependencies=[Viewer])
async def alarm_steps(request: Request, alarm_id: str, db: Db) -> Response:
    """What changes of it."""
    return HTMLResponse(fragment("alarm_steps.html", **await _one(request, alarm_id, db)))


async def _one(request: Request, alarm_id: str, db: Database) -> dict[str, Any]:
    live = running_of(request).live
    principal: Principal = request.state.principal
    event = live.alarm(alarm_id)
    if event is not None:
        found: dict[str, Any] = _row(event, live)
    else:
        found = dict(await db.one(ONE, (alarm_id,), what=f"alarm {alarm_id}"))
        found["offset"] = _offset(live, found["device_id"])
        found["until"] = None
    return {
        "alarm": found,
        "steps": await db.rows(STEPS, (alarm_id,)),
        "stands": event is not None,
        "operates": principal.may(Role.OPERATOR) and event is not None,
    }


@router.post("/actions")
async def act(request: Request, told: Acting, principal: Operator, db: Db) -> Response:
    """Does it, and says what the stage has answered for each alarm."""
    live = running_of(request).live
    until = _until(told)
    if told.action is Action.COMMENT and not told.reason.strip():
        raise Refused("say something: a comment needs words")
    sent: dict[str, tuple[str, Future[ActionAnswer]]] = {}
    others: list[AlarmEvent] = []
    doing: Doing = {"who": principal.name, "reason": told.reason.strip(), "until": until}
    outcomes: dict[str, tuple[str, str]] = {}
    for alarm_id in dict.fromkeys(told.alarms):
        event = live.alarm(alarm_id)
        if event is None:
            outcomes[alarm_id] = "refused", "is over already"
            continue
        try:
            action = action_event(event, told.action, speaker="dashboard", **doing)
            if action is None:
                others.append(event)
            else:
                sent[alarm_id] = action.id, live.act(action)
        except (Refused, Unavailable) as trouble:
            outcomes[alarm_id] = "failed" if isinstance(trouble, Unavailable) else "refused", str(trouble)
    # Beside the stage, which may be away.
    at_once = asyncio.create_task(asyncio.to_thread(_at_once, live.kafka, others, told.action, doing))
    waited = {alarm_id: asyncio.wrap_future(future) for alarm_id, (_, future) in sent.items()}
    if waited:  # for all of them together: a stage that is away answers none
        await asyncio.wait(waited.values(), timeout=STAGE_S_MAX)
    for alarm_id, answer in waited.items():
        live.forget(sent[alarm_id][0])
        outcomes[alarm_id] = _outcome(answer)
    outcomes |= await at_once
    for alarm_id, (outcome, message) in outcomes.items():
        what = f"alarm.{told.action}"
        await audit.note(
            db, request, principal, what, subject=alarm_id, outcome=outcome, reason=told.reason.strip(), answer=message
        )
    return JSONResponse(_summary(told.action, outcomes))


def _until(told: Acting) -> datetime | None:
    """The end of a shelf. Raises `Refused`."""
    if told.action is not Action.SHELVE:
        return None
    now = datetime.now(UTC)
    until = now + timedelta(minutes=told.minutes) if told.minutes else told.until
    if until is None:
        raise Refused("say for how long: a shelf must end")
    if not now < until <= now + SHELF_MAX:
        raise Refused(f"a shelf ends in the future, and within {SHELF_MAX.days} days")
    return until


def _at_once(kafka: str, events: list[AlarmEvent], action: Action, doing: Doing) -> dict[str, tuple[str, str]]:
    if not events:
        return {}
    try:
        answers = act_at_once(kafka, events, action, **doing)
    except Unavailable as trouble:
        return {event.data.alarm_id: ("failed", str(trouble)) for event in events}
    return {answer.alarm_id: _said(answer) for answer in answers}


def _outcome(answered: "asyncio.Future[ActionAnswer]") -> tuple[str, str]:
    if not answered.done():
        answered.cancel()
        return "failed", "the stage has not answered yet; the action waits in Kafka and is taken when it works again"
    try:
        answer = answered.result()
    except Unavailable as trouble:
        return "failed", str(trouble)
    return _said(answer)


def _said(answer: ActionAnswer) -> tuple[str, str]:
    return ("done" if answer.reason is None else "refused"), answer.message


def _summary(action: Action, outcomes: dict[str, tuple[str, str]]) -> dict[str, Any]:
    counts = Counter(outcome for outcome, _ in outcomes.values())
    words = [f"{counts['done']} {action.done}"] if counts["done"] else []
    for outcome, label in (("refused", "refused"), ("failed", "without an answer")):
        if counts[outcome]:
            first = next(message for found, message in outcomes.values() if found == outcome)
            words.append(f"{counts[outcome]} {label}: {first}")
    answers = {alarm_id: {"outcome": outcome, "message": told} for alarm_id, (outcome, told) in outcomes.items()}
    tone = "good" if set(counts) == {"done"} else "bad"
    return {"message": "; ".join(words), "tone": tone, "answers": answers}
