"""What people do about alarms that the stage does not answer for: those of services, of the pipeline itself. Pure.

Their keepers take no orders: one may be the very part that is down. So whoever acts writes the alarm's next event, with
the step of its last one: the keeper's own next event, one step on, stands after it whichever is read first.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from schemas.alarms import (
    SHELF_MAX,
    STANDING,
    Action,
    ActionAnswer,
    Alarm,
    AlarmEvent,
    AlarmState,
    Refusal,
    is_answered_by_stage,
)


class Acted(NamedTuple):
    """What came of an action: the event to be told, None if it was refused, and the answer."""

    event: AlarmEvent | None
    answer: ActionAnswer


def acted(
    event: AlarmEvent,
    action: Action,
    *,
    action_id: str,
    who: str,
    reason: str,
    until: datetime | None,
    now: datetime,
) -> Acted:
    """An action on an alarm, of which `event` is the last one.

    Args:
        event: how the alarm stands.
        action: what is done.
        action_id: of this action and no other.
        who: who does it.
        reason: why, in words; may be empty.
        until: the end of a shelf.
        now: when it is done.
    """
    alarm = event.data
    refused = _refusal(alarm, action, until, now)
    reason_refused, message = refused or (None, "")
    state = alarm.state
    told = None
    if refused is None:
        state, below = _after(alarm, action)
        shelf = alarm.until if state is AlarmState.SHELVED else None
        if action is Action.SHELVE and until:
            shelf = min(until, now + SHELF_MAX)
        told = _next(event, now, action_id, state=state, below=below, who=who, why=reason or None, until=shelf)
        message = f"{alarm.rule} of {alarm.source}: {action.done}, now {state}"
    answer = ActionAnswer(
        action_id=action_id,
        alarm_id=alarm.alarm_id,
        device_id=alarm.device_id,
        action=action,
        reason=reason_refused,
        state=state if state in STANDING else None,
        message=message,
    )
    return Acted(told, answer)


def shelf_over(event: AlarmEvent, now: datetime) -> AlarmEvent | None:
    """The alarm's next event, if its shelf has ended and nobody else says so: it is what it was under it."""
    alarm = event.data
    if alarm.state is not AlarmState.SHELVED or alarm.until is None or alarm.until > now or is_answered_by_stage(event):
        return None
    this = f"shelf_over-{alarm.until:%Y%m%dT%H%M%S.%fZ}"
    # As of its end, whenever that is told: what somebody has done since then stands.
    return _next(event, alarm.until, this, state=_under(alarm), below=None, who=None, why=None, until=None)


def end_again(event: AlarmEvent, known: AlarmEvent | None) -> AlarmEvent | None:
    """The end of an alarm, to be told once more: an event of ours that was read behind it makes it seem to stand."""
    if known is None or known.data.state in STANDING or event.data.state not in STANDING:
        return None
    return known.model_copy(update={"id": f"{known.id}/again"})


def _under(alarm: Alarm) -> AlarmState:
    """What the alarm is under its shelf; without one, what it is."""
    return (alarm.below or AlarmState.RAISED) if alarm.state is AlarmState.SHELVED else alarm.state


def _after(alarm: Alarm, action: Action) -> tuple[AlarmState, AlarmState | None]:
    """What the alarm is after an action, and under its shelf: as the stage has it with alarms of devices."""
    under = AlarmState.ACKNOWLEDGED if action is Action.ACKNOWLEDGE else _under(alarm)
    on_shelf = action is Action.SHELVE or (alarm.state is AlarmState.SHELVED and action is not Action.UNSHELVE)
    return (AlarmState.SHELVED, under) if on_shelf else (under, None)


def _refusal(alarm: Alarm, action: Action, until: datetime | None, now: datetime) -> tuple[Refusal, str] | None:
    state = alarm.state
    if state not in STANDING:
        return Refusal.NOT_ACTIVE, "it is over"
    if action is Action.ACKNOWLEDGE and _under(alarm) is AlarmState.ACKNOWLEDGED:
        return Refusal.ALREADY_ACKNOWLEDGED, "somebody has acknowledged it already"
    if action is Action.UNSHELVE and state is not AlarmState.SHELVED:
        return Refusal.NOT_SHELVED, f"it is not shelved, it is {state}"
    if action is Action.SHELVE and until is None:
        return Refusal.NO_END, "a shelf needs an end: until"
    if action is Action.SHELVE and until is not None and until <= now:
        return Refusal.END_IS_PAST, "the end of the shelf is past"
    return None


def _next(event: AlarmEvent, now: datetime, this: str, **changes: object) -> AlarmEvent:
    """Of the same speaker, for the alarm stays its own. Behind the last one in time, should the clocks differ."""
    alarm = event.data.model_copy(update=changes)
    return event.model_copy(
        update={
            "id": f"{alarm.alarm_id}/{alarm.state}/{this}",
            "type": f"telltale.alarm.{alarm.state}",
            "time": max(now, event.time + timedelta.resolution),
            "data": alarm,
        }
    )
