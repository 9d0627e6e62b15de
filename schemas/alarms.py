"""Alarm events and operators' actions as JSON: CloudEvents 1.0, structured mode. Knows the shape; knows no rule.

JSON, so that `kafka-console-consumer`, kcat and every Kafka user interface show an alarm as it is.
"""

import hashlib
import re
from datetime import timedelta
from enum import StrEnum
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.columnar import Unread, Unreadable
from schemas.records import Utc


class Severity(StrEnum):
    """How bad it is, worst first."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    WARNING = "warning"


class AlarmState(StrEnum):
    """What an event says has become of the alarm."""

    RAISED = "raised"
    ACKNOWLEDGED = "acknowledged"
    LATCHED = "latched"  # the condition is gone, and somebody has to acknowledge that it was there
    SHELVED = "shelved"
    SUPPRESSED = "suppressed"  # stands under another alarm that is its cause
    CLEARED = "cleared"


def alarm_id(rule: str, source: str, onset: int | str) -> str:
    """Sixteen hex digits, the same for the same trouble; `onset` as its speaker counts: mostly µs since 1970."""
    return hashlib.sha256(f"{rule}|{source}|{onset}".encode()).hexdigest()[:16]


STAGE = "streams"
"""The speaker that answers for its devices' alarms in `alarm.actions`; what people do about others is an event."""

STANDING = frozenset(AlarmState) - {AlarmState.CLEARED}
"""States of an alarm that is not over."""


class Alarm(BaseModel):
    """What the alarm is about and how it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alarm_id: str  # derived from rule, source and onset, so that a repeat is recognised
    rule: str
    source: str  # such as device/mast-7 or device/mast-7/Spd80mN
    device_id: str | None
    station_id: str | None
    severity: Severity
    state: AlarmState
    reason: str
    onset: Utc
    value: float | None = None
    limit: float | None = None
    unit: str | None = None
    message: str  # for people, with what to do
    replayed: bool = False  # found in data that was read again: nobody is told twice
    step: int = 0  # how many events this alarm had before
    who: str | None = None  # of the action that brought the event about
    why: str | None = None
    until: Utc | None = None  # end of the shelf
    below: AlarmState | None = None  # what it is under its shelf, and will be when that ends; None: not known

    def over(self, message: str, *, reason: str | None = None, step: int | None = None) -> Self:
        """Its end, the step after this one if not said otherwise."""
        end = {"state": AlarmState.CLEARED, "message": message, "reason": reason or self.reason}
        step = self.step + 1 if step is None else step
        return self.model_copy(update={**end, "step": step, "who": None, "why": None, "until": None, "below": None})


class AlarmEvent(BaseModel):
    """One step in an alarm's life, as it stands in `alarms`. The record's key is the alarm id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str  # of the event: which part of Telltale speaks
    type: str
    subject: str
    time: Utc
    datacontenttype: Literal["application/json"] = "application/json"
    data: Alarm


def is_answered_by_stage(event: AlarmEvent) -> bool:
    """Whether an action on this alarm goes to the stage."""
    return event.source == f"telltale/{STAGE}" and event.data.device_id is not None


def supersedes(event: AlarmEvent, known: AlarmEvent) -> bool:
    """Whether an event that is read after another of the same alarm says how it stands now: not where it is of an
    earlier step, or told once more. Data that is read again tells an alarm's whole life anew, its steps from 0."""
    if event.data.replayed or known.data.replayed:
        return True
    return (event.data.step, event.time) >= (known.data.step, known.time)


def alarm_event(alarm: Alarm, *, time: Utc, speaker: str) -> AlarmEvent:
    """The event for an alarm's present state. The same step of the same alarm has the same event id."""
    return AlarmEvent(
        id=f"{alarm.alarm_id}/{alarm.state}" + (f"/{alarm.step}" if alarm.step else ""),
        source=f"telltale/{speaker}",
        type=f"telltale.alarm.{alarm.state}",
        subject=alarm.source,
        time=time,
        data=alarm,
    )


class Action(StrEnum):
    """What people do about an alarm."""

    ACKNOWLEDGE = "acknowledge"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    COMMENT = "comment"

    @property
    def done(self) -> str:
        """What is said of an alarm when it has been taken."""
        return _DONE[self]


_DONE = {
    Action.ACKNOWLEDGE: "acknowledged",
    Action.SHELVE: "shelved",
    Action.UNSHELVE: "taken off the shelf",
    Action.COMMENT: "commented",
}

SHELF_MAX = timedelta(days=366)
"""A shelf ends after it at the latest."""


class AlarmAction(BaseModel):
    """What somebody did about an alarm."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alarm_id: str
    device_id: str
    action: Action
    who: str
    why: str = ""
    until: Utc | None = None


class AlarmActionEvent(BaseModel):
    """An operator's action as it stands in `alarm.actions`. The record's key is the device id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: Literal["telltale.alarm.action"] = "telltale.alarm.action"
    subject: str
    time: Utc
    datacontenttype: Literal["application/json"] = "application/json"
    data: AlarmAction


class Refusal(StrEnum):
    """Why an action could not be taken."""

    NOT_ACTIVE = "not_active"  # never raised by this device, or over
    ALREADY_ACKNOWLEDGED = "already_acknowledged"
    NOT_SHELVED = "not_shelved"
    NO_END = "no_end"  # a shelf must end
    END_IS_PAST = "end_is_past"
    NOT_CONFIGURED = "not_configured"  # the device
    THREW = "our_error"


class ActionAnswer(BaseModel):
    """What became of an action."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action_id: str  # the action's event id
    alarm_id: str
    device_id: str | None  # None: it is about no device
    action: Action
    reason: Refusal | None = None  # None: applied
    state: AlarmState | None = None  # the alarm's, if it stands
    message: str

    @classmethod
    def to(
        cls, event: AlarmActionEvent, message: str, *, reason: Refusal | None = None, state: AlarmState | None = None
    ) -> Self:
        """The answer to an action."""
        action = event.data
        return cls(
            action_id=event.id,
            alarm_id=action.alarm_id,
            device_id=action.device_id,
            action=action.action,
            reason=reason,
            state=state,
            message=message,
        )


class ActionAnswerEvent(BaseModel):
    """The stage's answer to an action, in `alarm.actions` behind it. The record's key is the device id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: Literal["telltale.alarm.action_applied", "telltale.alarm.action_refused"]
    subject: str
    time: Utc
    datacontenttype: Literal["application/json"] = "application/json"
    data: ActionAnswer


def answer_event(answer: ActionAnswer, *, time: Utc, speaker: str) -> ActionAnswerEvent:
    """The event for an answer; one action has one."""
    return ActionAnswerEvent(
        id=f"{answer.action_id}/answer",
        source=f"telltale/{speaker}",
        type="telltale.alarm.action_refused" if answer.reason else "telltale.alarm.action_applied",
        subject=answer.alarm_id,
        time=time,
        data=answer,
    )


E = TypeVar("E", AlarmEvent, AlarmActionEvent, ActionAnswerEvent)


def read_alarm(data: bytes | None) -> AlarmEvent:
    """The alarm event in `data`. Raises `Unreadable`."""
    return _read(AlarmEvent, data)


def read_action(data: bytes | None) -> AlarmActionEvent:
    """The operator's action in `data`. Raises `Unreadable`."""
    return _read(AlarmActionEvent, data)


def read_action_or_answer(data: bytes | None) -> AlarmActionEvent | ActionAnswerEvent:
    """Either of the two that `alarm.actions` carries. Raises `Unreadable`."""
    if data and _ANSWER.search(data):
        return _read(ActionAnswerEvent, data)
    return read_action(data)


_ANSWER = re.compile(rb'"type"\s*:\s*"telltale\.alarm\.action_(applied|refused)"')


def _read(event: type[E], data: bytes | None) -> E:
    if not data:
        raise Unreadable(Unread.EMPTY, "no bytes")
    try:
        return event.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Unreadable(Unread.BAD_VALUE, f"{where or 'event'}: {first['msg']}") from None
