"""Alarms of which only the topic still knows: the state that told of them is lost, or has forgotten them. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from schemas.alarms import Alarm
from streams.alarms.memory import AlarmStates
from streams.plan import Plan


def unknown(states: AlarmStates, told: Iterable[Alarm]) -> list[Alarm]:
    """Of alarms that are said to stand, those that do not."""
    known = {entry.alarm_id for part in (states.live, states.reread) for entry in part.entries.values()}
    return [alarm for alarm in told if alarm.alarm_id not in known]


def lost(alarm: Alarm, plan: Plan) -> Alarm:
    """The end of an alarm that no state knows."""
    text = (
        f"{plan.device.name}: what was known of this alarm ({alarm.rule}) is lost with the stage's state. "
        "If its trouble lasts, there is another alarm about it."
    )
    return alarm.over(text, reason="state_lost")


def with_steps(states: AlarmStates, told: Iterable[Alarm]) -> AlarmStates:
    """Steps go on from what was said: an alarm that a lost state had told of, found again, begins with step 0."""
    said = {alarm.alarm_id: alarm.step for alarm in told}
    behind = {
        key: replace(entry, step=said[entry.alarm_id] + 1)
        for key, entry in states.live.entries.items()
        if entry.alarm_id and entry.step <= said.get(entry.alarm_id, -1)
    }
    return replace(states, live=replace(states.live, entries={**states.live.entries, **behind})) if behind else states


def after_its_end(states: AlarmStates, told: list[Alarm], ended: Callable[[str, str], Alarm | None]) -> AlarmStates:
    """An alarm that is found again after its end, of the same onset, goes on after what was said of it, or its steps
    would say that it is over: `told` and the states are brought there.

    Args:
        told: what is to be said now; changed in place.
        ended: by rule and source: the last alarm, if it was said to be over.
    """
    ahead: dict[str, int] = {}
    for at, alarm in enumerate(told):
        last = ended(alarm.rule, alarm.source)
        if alarm.alarm_id not in ahead and last and last.alarm_id == alarm.alarm_id and last.step >= alarm.step:
            ahead[alarm.alarm_id] = last.step + 1 - alarm.step
        told[at] = alarm.model_copy(update={"step": alarm.step + ahead.get(alarm.alarm_id, 0)})
    if not ahead:
        return states
    entries = {
        key: replace(entry, step=entry.step + ahead.get(entry.alarm_id, 0))
        for key, entry in states.live.entries.items()
    }
    return replace(states, live=replace(states.live, entries=entries))
