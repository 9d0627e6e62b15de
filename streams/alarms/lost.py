"""Alarms that a state had told of which is lost: whoever reads the topic still believes that they stand. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from schemas.alarms import Alarm, AlarmState
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
    over = {"state": AlarmState.CLEARED, "reason": "state_lost", "message": text, "step": alarm.step + 1}
    return alarm.model_copy(update={**over, "who": None, "why": None, "until": None})


def with_steps(states: AlarmStates, told: Iterable[Alarm]) -> AlarmStates:
    """Steps go on from what was said: an alarm that a lost state had told of, found again, begins with step 0."""
    said = {alarm.alarm_id: alarm.step for alarm in told}
    behind = {
        key: replace(entry, step=said[entry.alarm_id] + 1)
        for key, entry in states.live.entries.items()
        if entry.alarm_id and entry.step <= said.get(entry.alarm_id, -1)
    }
    return replace(states, live=replace(states.live, entries={**states.live.entries, **behind})) if behind else states
