"""What people do about alarms: taken, or refused with the reason. Pure."""

from dataclasses import replace

from schemas.alarms import SHELF_MAX, Action, ActionAnswer, Alarm, AlarmActionEvent, Refusal
from schemas.devices import RuleKind
from streams.alarms.lifecycle import Phase
from streams.alarms.memory import NEVER, AlarmStates, Entry
from streams.alarms.panel import TOLD, panel_of, shown
from streams.plan import Plan

SHELF_US_MAX = round(SHELF_MAX.total_seconds() * 1e6)


def apply_action(
    states: AlarmStates, plan: Plan, event: AlarmActionEvent, *, now_us: int, out: list[Alarm]
) -> tuple[AlarmStates, ActionAnswer]:
    """Take an action or say why not."""
    action = event.data
    panel = panel_of(states, plan, out)
    entry = next((e for e in panel.entries.values() if e.alarm_id and e.alarm_id == action.alarm_id), None)
    until_us = round(action.until.timestamp() * 1e6) if action.until else NEVER
    if entry is None:
        text = f"alarm {action.alarm_id} does not stand at {plan.device.device_id}: it is over, or never was"
        return states, ActionAnswer.to(event, text, reason=Refusal.NOT_ACTIVE)
    refusal = _refusal(entry, action.action, until_us, now_us)
    if refusal:
        reason, text = refusal
        return states, ActionAnswer.to(event, text, reason=reason, state=shown(entry))
    if action.action is Action.ACKNOWLEDGE and panel.kind(entry) is RuleKind.SEQUENCE_GAP:
        states = replace(states, frames_given_up=states.frames_missing)
    state = panel.act(entry, action, min(until_us, now_us + SHELF_US_MAX))
    text = f"{entry.rule} of {entry.source}: {action.action.done}, now {state}"
    return panel.kept(states), ActionAnswer.to(event, text, state=state)


def _refusal(entry: Entry, action: Action, until_us: int, now_us: int) -> tuple[Refusal, str] | None:
    if action is Action.ACKNOWLEDGE and entry.inner is Phase.ACKNOWLEDGED:
        return Refusal.ALREADY_ACKNOWLEDGED, "somebody has acknowledged it already"
    if action is Action.ACKNOWLEDGE and entry.inner not in TOLD:
        return Refusal.NOT_ACTIVE, "its condition is over; only the shelf is left"
    if action is Action.UNSHELVE and entry.phase is not Phase.SHELVED:
        return Refusal.NOT_SHELVED, f"it is not shelved, it is {entry.phase}"
    if action is Action.SHELVE and until_us == NEVER:
        return Refusal.NO_END, "a shelf needs an end: until"
    if action is Action.SHELVE and until_us <= now_us:
        return Refusal.END_IS_PAST, "the end of the shelf is past"
    return None
