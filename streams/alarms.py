"""The life of an alarm. Pure: conditions and times in, events out; `now` is an argument.

At most one alarm is active per (rule, source). Its id is derived from rule, source and onset, so that the same
trouble found twice, by a restarted worker or by its successor, is the same alarm.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from schemas.alarms import Alarm, AlarmState, Severity
from schemas.devices import Device


class Rule(StrEnum):
    """What can be wrong."""

    DEVICE_SILENT = "device_silent"


@dataclass(frozen=True, slots=True)
class Active:
    """An alarm that is not normal."""

    rule: Rule
    source: str
    state: AlarmState
    alarm_id: str
    onset_us: int


def alarm_id(rule: Rule, source: str, onset_us: int) -> str:
    """Sixteen hex digits, the same for the same trouble."""
    return hashlib.sha256(f"{rule}|{source}|{onset_us}".encode()).hexdigest()[:16]


def find(active: tuple[Active, ...], rule: Rule, source: str) -> Active | None:
    """The active alarm of a rule about a source."""
    return next((alarm for alarm in active if alarm.rule == rule and alarm.source == source), None)


def device_source(device: Device) -> str:
    return f"device/{device.device_id}"


def silence(
    active: tuple[Active, ...], device: Device, *, heard_us: int, now_us: int
) -> tuple[tuple[Active, ...], Alarm | None]:
    """Raise "device silent" when the device was last heard longer ago than its limit.

    `heard_us` is when it was last heard, or since when it has been expected if it never was.
    """
    source = device_source(device)
    if device.silence_limit_s is None or now_us - heard_us <= device.silence_limit_s * 1e6:
        return active, None
    if find(active, Rule.DEVICE_SILENT, source):
        return active, None
    new = Active(
        Rule.DEVICE_SILENT, source, AlarmState.RAISED, alarm_id(Rule.DEVICE_SILENT, source, heard_us), heard_us
    )
    return (*active, new), _silent(device, new, (now_us - heard_us) / 1e6)


def heard(active: tuple[Active, ...], device: Device, *, heard_us: int) -> tuple[tuple[Active, ...], Alarm | None]:
    """Clear "device silent": the device was heard at `heard_us`."""
    alarm = find(active, Rule.DEVICE_SILENT, device_source(device))
    if alarm is None or heard_us <= alarm.onset_us:
        return active, None
    left = tuple(other for other in active if other is not alarm)
    cleared = Active(alarm.rule, alarm.source, AlarmState.CLEARED, alarm.alarm_id, alarm.onset_us)
    return left, _silent(device, cleared, (heard_us - alarm.onset_us) / 1e6)


def _silent(device: Device, alarm: Active, silent_s: float) -> Alarm:
    since = datetime.fromtimestamp(alarm.onset_us / 1e6, UTC)
    raised = alarm.state is AlarmState.RAISED
    message = (
        f"Nothing heard from {device.name} since {since:%Y-%m-%d %H:%M:%S} UTC. Check its power, its link and "
        f"`telltale edge spool` on it; what it has measured waits in its spool."
        if raised
        else f"{device.name} is heard again after {silent_s:.0f} s."
    )
    return Alarm(
        alarm_id=alarm.alarm_id,
        rule=alarm.rule,
        source=alarm.source,
        device_id=device.device_id,
        station_id=device.station.station_id,
        severity=Severity.MAJOR,
        state=alarm.state,
        reason="silent" if raised else "heard_again",
        onset=since,
        value=round(silent_s, 3),
        limit=device.silence_limit_s,
        unit="s",
        message=message,
    )
