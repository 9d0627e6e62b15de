"""Alarms of a device that is configured no more: nobody judges what they are about, so they end. Pure.

What else is remembered of the device stays: should it be configured again, frames that were received are known, and
its readings go on where they ended.
"""

from collections.abc import Iterable
from dataclasses import replace

from schemas.alarms import Alarm, AlarmState, Severity
from streams.alarms.memory import AlarmStates, Entry
from streams.alarms.panel import instant

REASON = "device_removed"


def without_alarms(states: AlarmStates, device_id: str, told: Iterable[Alarm], out: list[Alarm]) -> AlarmStates:
    """Nothing stands any more, and what is said of that goes to `out`.

    Args:
        told: the device's alarms that are said to stand. They know what its configuration would have told.
    """
    said = {alarm.alarm_id: alarm for alarm in told}
    for entry in states.standing:
        alarm = said.get(entry.alarm_id) or _as_remembered(entry, device_id)
        out.append(end(alarm, step=max(entry.step, alarm.step + 1)))
    return AlarmStates(
        live=replace(states.live, entries={}),
        reread=replace(states.reread, entries={}),
        reread_until_us=states.reread_until_us,
        frames_missing=states.frames_missing,
        frames_given_up=states.frames_missing,
        speakers=states.speakers,
    )


def end(alarm: Alarm, *, step: int | None = None) -> Alarm:
    """The end of such an alarm."""
    text = f"The device {alarm.device_id} is no longer configured: its alarms are over (this one: {alarm.rule})."
    return alarm.over(text, reason=REASON, step=step)


def _as_remembered(entry: Entry, device_id: str) -> Alarm:
    """An alarm of which the topic does not tell any more, or not yet."""
    return Alarm(
        alarm_id=entry.alarm_id,
        rule=entry.rule,
        source=entry.source,
        device_id=device_id,
        station_id=None,
        severity=Severity.MINOR,
        state=AlarmState.RAISED,
        reason=REASON,
        onset=instant(entry.onset_us),
        value=round(entry.value, 6),
        message="",
        step=entry.step - 1,
    )
