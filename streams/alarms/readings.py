"""What alarms make of readings: of rows and of the windows that they closed. Pure.

Judged by the readings' own time. While data is read again, it is judged beside what stands, and nobody is told.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from schemas.alarms import Alarm
from schemas.frames import WindowFrame
from streams.alarms.figures import judge_windows
from streams.alarms.memory import NEVER, AlarmStates, Judging
from streams.alarms.panel import Panel, panel_of
from streams.alarms.values import Rows, Thresholds, judge_values
from streams.plan import Plan


def after_readings(  # noqa: PLR0917
    states: AlarmStates,
    plan: Plan,
    rows: Rows,
    thresholds: Thresholds | None,
    windows: Sequence[WindowFrame],
    out: list[Alarm],
) -> AlarmStates:
    """Rows of a frame and the windows that they closed. Called only if some rule looks at them."""
    until = states.reread_until_us
    if until == NEVER:
        return replace(states, live=_judged(states.live, plan, rows, thresholds, windows, panel_of(states, plan, out)))
    again = rows.times <= until
    closed = [(_windows(w, w.starts + _after_us(w, plan) <= until), w) for w in windows]
    shadow = Panel(
        plan.device,
        plan.rules,
        states.reread.entries,
        out,
        replayed=True,
        known=frozenset(entry.alarm_id for entry in states.standing),
    )
    reread = _judged(
        states.reread, plan, _rows(rows, again), thresholds, [old for old, _ in closed if len(old.starts)], shadow
    )
    states = replace(states, reread=reread)
    if again.all():
        return states
    states = reread_ended(states, plan, out)
    new = [_windows(w, w.starts + _after_us(w, plan) > until) for _, w in closed]
    panel = panel_of(states, plan, out)
    live = _judged(states.live, plan, _rows(rows, ~again), thresholds, [w for w in new if len(w.starts)], panel)
    return replace(states, live=live)


def _judged(  # noqa: PLR0917
    judging: Judging,
    plan: Plan,
    rows: Rows,
    thresholds: Thresholds | None,
    windows: Sequence[WindowFrame],
    panel: Panel,
) -> Judging:
    if thresholds is not None and len(rows.times):
        judging = judge_values(judging, rows, thresholds, panel, plan.rules.channels)
    for frame in windows:
        judge_windows(frame, plan.rules, panel)
    if panel.changed:
        panel.settle()
        return replace(judging, entries=panel.entries)
    return judging


def _rows(rows: Rows, which: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Rows:
    if which.all():
        return rows
    fresh = None if rows.fresh is None else rows.fresh[which]
    return Rows(rows.times[which], rows.values[which], rows.flags[which], fresh)


def _after_us(frame: WindowFrame, plan: Plan) -> int:
    """From a window's start to when it is closed."""
    return int(frame.lengths_s[0]) * 1_000_000 + plan.lateness_us


def _windows(frame: WindowFrame, which: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> WindowFrame:
    if which.all():
        return frame
    channels = tuple(name for name, is_one in zip(frame.channels, which.tolist(), strict=True) if is_one)
    names = [name for name in WindowFrame.__slots__ if name not in ("device_id", "generation", "channels")]
    return replace(frame, channels=channels, **{name: getattr(frame, name)[which] for name in names})


def restarted(states: AlarmStates, judged_us: int) -> AlarmStates:
    """A replay begins: readings up to `judged_us` are judged again, beside what stands and without telling anybody."""
    return replace(states, reread=Judging(), reread_until_us=max(states.reread_until_us, judged_us))


def reread_ended(states: AlarmStates, plan: Plan, out: list[Alarm]) -> AlarmStates:
    """What was found again ends here; if it is so still, the readings that come now will tell."""
    panel = Panel(plan.device, plan.rules, states.reread.entries, out, replayed=True)
    standing = {entry.alarm_id for entry in states.standing}
    for entry in list(panel.entries.values()):
        if entry.alarm_id not in standing:
            panel.drop(entry, "reread_ended")
    return replace(states, reread=Judging(), reread_until_us=NEVER)
