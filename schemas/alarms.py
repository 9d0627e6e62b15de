"""Alarm events and operators' actions as JSON: CloudEvents 1.0, structured mode. Knows the shape; knows no rule.

JSON, so that `kafka-console-consumer`, kcat and every Kafka user interface show an alarm as it is.
"""

from enum import StrEnum
from typing import Literal, TypeVar

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
    CLEARED = "cleared"


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
    replayed: bool = False


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


def alarm_event(alarm: Alarm, *, time: Utc, speaker: str) -> AlarmEvent:
    """The event for an alarm's present state. The same state of the same alarm has the same event id."""
    return AlarmEvent(
        id=f"{alarm.alarm_id}/{alarm.state}",
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


E = TypeVar("E", AlarmEvent, AlarmActionEvent)


def read_alarm(data: bytes | None) -> AlarmEvent:
    """The alarm event in `data`. Raises `Unreadable`."""
    return _read(AlarmEvent, data)


def read_action(data: bytes | None) -> AlarmActionEvent:
    """The operator's action in `data`. Raises `Unreadable`."""
    return _read(AlarmActionEvent, data)


def _read(event: type[E], data: bytes | None) -> E:
    if not data:
        raise Unreadable(Unread.EMPTY, "no bytes")
    try:
        return event.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Unreadable(Unread.BAD_VALUE, f"{where or 'event'}: {first['msg']}") from None
