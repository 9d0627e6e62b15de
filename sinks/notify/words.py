"""A notice in words. Pure: events in, text out."""

from collections.abc import Sequence
from datetime import datetime

from infra.printable import printable
from schemas.alarms import AlarmEvent, AlarmState
from sinks.notify.notices import Notice

SHOWN = {AlarmState.CLEARED: "over"}
LINES_MAX = 200
"""Alarms told one by one in a text; the rest is counted. More than anybody reads, less than a mail server refuses."""


def subject(notice: Notice) -> str:
    """One line: how many, how bad, where. A mail's header takes it whatever a device calls itself."""
    return printable(_subject(notice))


def _subject(notice: Notice) -> str:
    events = notice.events
    raised = [e for e in events if e.data.state != AlarmState.CLEARED]
    over = [e for e in events if e.data.state == AlarmState.CLEARED]
    if len(events) == 1:
        alarm = events[0].data
        said = f"{_state(events[0])}: {alarm.rule} {alarm.source}"
        return f"[telltale] {_again(notice)}{alarm.severity.upper()} {said}"
    worst = (raised or over)[0].data.severity.upper()
    counts = ", ".join(f"{len(some)} {word}" for some, word in ((raised, "standing"), (over, "over")) if some)
    return f"[telltale] {_again(notice)}{worst} {notice.group}: {counts}"


def _again(notice: Notice) -> str:
    return "still: " if notice.repeat else ""


def _state(event: AlarmEvent) -> str:
    return SHOWN.get(event.data.state, event.data.state.value)


def text(notice: Notice, *, dashboard: str | None) -> str:
    """The message: one block an alarm, worst first."""
    blocks = [_block(event) for event in notice.events[:LINES_MAX]]
    if len(notice.events) > LINES_MAX:
        blocks.append(f"... and {len(notice.events) - LINES_MAX} more: `telltale alarms list`")
    foot = "acknowledge: telltale alarms acknowledge ID"
    if dashboard:
        foot = f"{dashboard.rstrip('/')}/alarms\n{foot}"
    return "\n\n".join([*blocks, foot]) + "\n"


def _block(event: AlarmEvent) -> str:
    alarm = event.data
    lines = [
        f"{alarm.severity.upper()} {_state(event)}: {alarm.rule}, {alarm.source}",
        f"  {alarm.message}",
        f"  since {_time(alarm.onset)}"
        + (f", {_state(event)} {_time(event.time)}" if event.time != alarm.onset else ""),
    ]
    if alarm.value is not None:
        unit = f" {alarm.unit}" if alarm.unit else ""
        limit = "" if alarm.limit is None else f" (limit {alarm.limit:g}{unit})"
        lines.append(f"  value {alarm.value:g}{unit}{limit}")
    if alarm.who:
        lines.append(f"  {alarm.who}: {alarm.why or ''}".rstrip(": "))
    lines.append(f"  id {alarm.alarm_id}")
    return "\n".join(map(printable, lines))


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def batch(events: Sequence[AlarmEvent]) -> bytes:
    """The events as a CloudEvents JSON batch."""
    return b"[" + b",".join(event.model_dump_json().encode() for event in events) + b"]"
