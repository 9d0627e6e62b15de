"""What the stage tells the alarms, and what they make of it: one function for each thing that can happen. Pure.

`(states, plan, facts, now) -> states`, with events appended to `out`. Rules on readings are judged by the readings' own
time, the others by the broker's or the wall clock's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from schemas.alarms import Action, ActionAnswer, Alarm, AlarmActionEvent, AlarmState, Refusal
from schemas.columnar import Longs
from schemas.devices import RuleKind
from schemas.frames import WindowFrame
from schemas.records import Heartbeat
from streams.alarms.figures import judge_windows
from streams.alarms.lifecycle import Phase
from streams.alarms.memory import NEVER, AlarmStates, Entry, Judging, Speaker, Tally
from streams.alarms.panel import CHATTER_US, OWN, TOLD, Panel, shown
from streams.alarms.rules import FRAMES_THROW, Bound, Rules, device_source
from streams.alarms.values import Rows, Thresholds, judge_values
from streams.plan import Plan

TALLY_US = 10_000_000
"""Rejected readings are counted over so long: within it somebody is to know, and one frame of many is not all."""

HELD_US_MIN, HELD_US_MAX = 5_000_000, 60_000_000
"""A silent device's alarm is held back a quarter of its limit for its station's to be found. Silence is looked for each
second, and the word goes through a topic: less than some seconds would tell devices first. Nobody waits a minute."""

SPEAKERS_MAX = 8
"""Spools of a device whose heartbeats are remembered, as many as of its frames."""

TURNS_US = 600_000_000
"""A spool that has spoken again after another one within so long speaks beside it. One does when an old card is put
back, two only where two machines have one id. Ten minutes are twenty heartbeats."""

SHELF_US_MAX = 366 * 86_400_000_000


@dataclass(frozen=True, slots=True)
class StationView:
    """What is known of a device's station, if it has several devices and all of them have a silence limit."""

    silent: bool  # its alarm stands
    cleared_us: int = NEVER  # when it last ended


@dataclass(frozen=True, slots=True)
class Taken:
    """One frame as it came."""

    appended_us: int
    readings: int
    rejected: int
    missing: int  # frames missing after it


def _panel(states: AlarmStates, plan: Plan, out: list[Alarm]) -> Panel:
    return Panel(plan.device, plan.rules, states.live.entries, out)


def _saying(rules: Rules, told: Iterable[Bound]) -> Rules:
    """The rules, some of them with words of this moment in what they say."""
    return replace(rules, bound=MappingProxyType({**rules.bound, **{bound.key: bound for bound in told}}))


def _kept(states: AlarmStates, panel: Panel) -> AlarmStates:
    if not panel.changed:
        return states
    return replace(states, live=replace(states.live, entries=panel.entries))


# -- readings --


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
        return replace(states, live=_judged(states.live, plan, rows, thresholds, windows, _panel(states, plan, out)))
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
    panel = _panel(states, plan, out)
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


# -- frames and heartbeats --


def after_frames(states: AlarmStates, plan: Plan, frames: Sequence[Taken], out: list[Alarm]) -> AlarmStates:
    """Frames as they came: rejected readings and missing frames. Not called while data is read again."""
    rules, tally = plan.rules, states.tally
    last = frames[-1]
    gap = last.missing != states.frames_missing or any(
        (last.missing - states.frames_given_up > (b.limit or 0)) != (b.key in states.live.entries) for b in rules.gap
    )
    one_period = (
        frames[0].appended_us >= tally.from_us and max(f.appended_us for f in frames) < tally.from_us + TALLY_US
    )
    if one_period and not gap:
        readings, rejected = sum(f.readings for f in frames), sum(f.rejected for f in frames)
        return replace(states, tally=Tally(tally.from_us, tally.readings + readings, tally.rejected + rejected))
    panel = _panel(states, plan, out)
    missing, given_up = states.frames_missing, states.frames_given_up
    for frame in frames:
        at_us = frame.appended_us
        if at_us >= tally.from_us + TALLY_US:
            _close(tally, rules, panel)
            tally = Tally(at_us - at_us % TALLY_US)
        tally = Tally(tally.from_us, tally.readings + frame.readings, tally.rejected + frame.rejected)
        missing = frame.missing
        given_up = min(given_up, missing)
        _judge_gap(rules, panel, missing - given_up, at_us)
    panel.settle()
    return _kept(replace(states, tally=tally, frames_missing=missing, frames_given_up=given_up), panel)


OF_READINGS = frozenset(
    {
        RuleKind.ABOVE,
        RuleKind.BELOW,
        RuleKind.RATE,
        RuleKind.WINDOW_ABOVE,
        RuleKind.WINDOW_BELOW,
        RuleKind.QUALITY_SHARE,
        RuleKind.CLOCK_SKEW,
        RuleKind.SPOOL_DROPPING,
        RuleKind.SPOOL_DAMAGED,
        RuleKind.SOURCE_FAILED,
        RuleKind.DUPLICATE_DEVICE,
    }
)
"""Kinds that a frame does not concern by coming, only by what it holds (or not at all)."""


def of_readings_only(states: AlarmStates, plan: Plan) -> bool:
    """Whether no entry cares for frames as such: silence, gaps, rejected ones, those that threw."""
    bound = plan.rules.bound
    return all(key in bound and bound[key].kind in OF_READINGS for key in states.live.entries)


def tallied(tally: Tally, appended_us: tuple[int, int], readings: int) -> Tally | None:
    """After frames that came between two times, none of which was rejected; None: not all are in the same period."""
    first, last = appended_us
    if tally.rejected or first < tally.from_us or last >= tally.from_us + TALLY_US:
        return None
    return Tally(tally.from_us, tally.readings + readings, 0)


def tallied_anew(tally: Tally, appended_us: Longs, readings: Longs) -> Tally | None:
    """The same of m frames in order of time that reach into another period; None: the periods have to be judged."""
    if tally.rejected or appended_us[0] < tally.from_us:
        return None
    last = int(appended_us[-1])
    begin = last - last % TALLY_US
    at = int(np.searchsorted(appended_us, begin))
    return Tally(begin, int(readings[at:].sum()), 0)


def _close(tally: Tally, rules: Rules, panel: Panel) -> None:
    if not tally.readings:
        return
    share = tally.rejected / tally.readings
    for bound in rules.share:
        _judge(bound, panel, share, tally.from_us + TALLY_US)


def _judge_gap(rules: Rules, panel: Panel, missing: int, at_us: int) -> None:
    for bound in rules.gap:
        _judge(bound, panel, missing, at_us)


def _judge(bound: Bound, panel: Panel, value: float, at_us: int) -> None:
    """Beyond the limit, back from it by the hysteresis, or in between."""
    limit = bound.limit or 0.0
    if value > limit:
        panel.condition(bound, True, at_us, value)
    elif value <= limit - bound.hysteresis:
        panel.condition(bound, False, at_us, value)
    else:
        panel.tick(bound, at_us)


def after_heartbeat(states: AlarmStates, plan: Plan, beat: Heartbeat, at_us: int, out: list[Alarm]) -> AlarmStates:
    """What an edge says of itself: its clock, its spool, its sources, and what its spool lost since it last spoke."""
    rules, lost = plan.rules, beat.dropped + beat.refused
    failing = [f"{source.name}: {source.detail}" for source in beat.sources if source.state == "failed"]
    speakers = _heard_from(states.speakers, beat.spool_id, lost, at_us)
    in_turns = [name for name, speaker in speakers.items() if abs(at_us - speaker.back_us) <= TURNS_US]
    told = {
        **_told(rules.damage, int(beat.recovered is not None), f": {beat.recovered}" if beat.recovered else ""),
        **_told(rules.sources, len(failing), f" ({'; '.join(failing)})" if failing else ""),
        **_told(rules.duplicates, len(in_turns), f" ({', '.join(in_turns)})"),
    }
    panel = Panel(plan.device, _saying(rules, told), states.live.entries, out)
    for bound, number in told.items():
        _judge(bound, panel, number, at_us)
    if beat.clock_offset_s is not None:
        for bound in rules.skew:
            _judge(bound, panel, abs(beat.clock_offset_s), at_us)
    if states.speakers:  # the first heartbeat ever tells of the past
        known = states.speakers.get(beat.spool_id, Speaker()).lost_readings
        for bound in rules.spool:
            _judge(bound, panel, max(0, lost - known), at_us)
    panel.settle()
    return _kept(replace(states, speakers=speakers), panel)


def _told(rules: Iterable[Bound], number: int, words: str) -> dict[Bound, int]:
    """What is judged of each of the rules, with these words in what it says."""
    return {replace(bound, figure=words): number for bound in rules}


def _heard_from(speakers: dict[str, Speaker], spool: str, lost: int, at_us: int) -> dict[str, Speaker]:
    """With this spool as the one that spoke last."""
    before = speakers.get(spool, Speaker())
    comes_back = spool in speakers and spool != next(reversed(speakers))
    others = [(name, speaker) for name, speaker in speakers.items() if name != spool]
    return dict([*others[1 - SPEAKERS_MAX :], (spool, Speaker(lost, at_us if comes_back else before.back_us))])


def frame_threw(states: AlarmStates, plan: Plan, what: str, at_us: int, out: list[Alarm]) -> AlarmStates:
    """Our code threw on a frame: one alarm per device, which says what it was the first time."""
    entry = Entry(FRAMES_THROW, device_source(plan.device))
    bound = replace(_panel(states, plan, out).bound(entry), figure=f": {what}")
    panel = Panel(plan.device, _saying(plan.rules, [bound]), states.live.entries, out)
    panel.condition(bound, True, at_us, 1.0)
    panel.settle()
    return _kept(states, panel)


def frame_passed(states: AlarmStates, plan: Plan, at_us: int, out: list[Alarm]) -> AlarmStates:
    """A frame went through: what made our code throw may be over."""
    entry = states.live.entries.get((FRAMES_THROW, device_source(plan.device)))
    if entry is None:
        return states
    panel = _panel(states, plan, out)
    panel.condition(panel.bound(entry), False, at_us, 0.0)
    panel.settle()
    return _kept(states, panel)


# -- silence --


def heard(states: AlarmStates, plan: Plan, at_us: int, out: list[Alarm]) -> AlarmStates:
    """The broker took something of the device."""
    panel = _panel(states, plan, out)
    back = False
    for entry in _silences(panel):
        if at_us > entry.onset_us:
            panel.condition(panel.bound(entry), False, at_us, round((at_us - entry.onset_us) / 1e6, 3))
            back = True
    if back and plan.rules.sensor_silence:  # its sensors are expected anew from now on
        states = sensors_heard(_kept(states, panel), plan, {b.channel for b in plan.rules.sensor_silence}, at_us, out)
        panel = _panel(states, plan, out)
    if back:
        panel.settle()
    return _kept(states, panel)


def sensors_heard(
    states: AlarmStates, plan: Plan, channels: Iterable[str], at_us: int, out: list[Alarm]
) -> AlarmStates:
    """Readings of these channels came."""
    panel = _panel(states, plan, out)
    times = dict(states.sensors_heard)
    for bound in plan.rules.sensor_silence:
        if bound.channel in channels and at_us > times.get(bound.channel, NEVER):
            since = times.get(bound.channel, at_us)
            panel.condition(bound, False, at_us, round((at_us - since) / 1e6, 3))
    for channel in channels:
        times[channel] = max(at_us, times.get(channel, NEVER))
    panel.settle()
    return _kept(replace(states, sensors_heard=times), panel)


def _silences(panel: Panel) -> list[Entry]:
    """Entries about the whole device's silence; also those whose rule is gone."""
    return [e for e in panel.entries.values() if e.condition and _kind(panel, e) is RuleKind.SILENCE]


def _kind(panel: Panel, entry: Entry) -> RuleKind | str:
    kind = panel.bound(entry).kind
    return RuleKind.SILENCE if kind == "device_silent" else kind


def look(
    states: AlarmStates,
    plan: Plan,
    *,
    heard_us: int,
    now_us: int,
    judge_silence: bool,
    station: StationView | None,
    out: list[Alarm],
) -> AlarmStates:
    """By the wall clock: silence, delays that have passed, shelves that are over, rules that are gone.

    `heard_us` is when the device was last heard, or since when it has been expected if it never was.
    """
    panel = _panel(states, plan, out)
    _look_for_silence(states, plan, panel, heard_us, now_us, judge_silence=judge_silence, station=station)
    tally = states.tally
    if now_us >= tally.from_us + TALLY_US and (tally.rejected or any(b.key in panel.entries for b in plan.rules.share)):
        _close(tally, plan.rules, panel)
        states = replace(states, tally=Tally())
    if panel.entries:
        _pass_time(states, plan, panel, now_us)
        panel.settle()
    return _kept(states, panel)


def _look_for_silence(
    states: AlarmStates,
    plan: Plan,
    panel: Panel,
    heard_us: int,
    now_us: int,
    *,
    judge_silence: bool,
    station: StationView | None,
) -> None:
    silent_us = now_us - heard_us
    for bound in plan.rules.silence:
        if bound.limit is None:
            continue
        entry = panel.entries.get(bound.key)
        held_us = max(HELD_US_MIN, min(round(bound.limit * 1e6) // 4, HELD_US_MAX))
        panel.station_cause = _station_cause(entry, station, now_us, held_us)
        if judge_silence and silent_us > bound.limit * 1e6:
            onset = entry.since_us if entry and entry.condition else heard_us
            panel.condition(bound, True, now_us, round(silent_us / 1e6, 3), onset_us=onset)
            after = panel.entries.get(bound.key)
            if after and after.phase is Phase.SUPPRESSED and (entry is None or entry.phase is not Phase.SUPPRESSED):
                panel.hold(after, now_us + held_us)
    if not judge_silence:
        return
    for bound in plan.rules.sensor_silence:
        since = max(states.sensors_heard.get(bound.channel, NEVER), plan.configured_us)
        if bound.limit is not None and now_us - since > bound.limit * 1e6:
            panel.condition(bound, True, now_us, round((now_us - since) / 1e6, 3), onset_us=since)


def _station_cause(entry: Entry | None, station: StationView | None, now_us: int, held_us: int) -> str | None:
    if station is None:
        return None
    if station.silent:
        return "station_silent"
    if entry is None or entry.inner not in TOLD:
        return "station_may_be_silent"
    if entry.phase is Phase.SUPPRESSED and now_us < max(entry.until_us, station.cleared_us + held_us):
        return "station_may_be_silent"
    return None


def _pass_time(states: AlarmStates, plan: Plan, panel: Panel, now_us: int) -> None:
    panel.shelves(now_us)
    judged_us = int(states.live.times.max()) if len(states.live.times) else NEVER
    for entry in list(panel.entries.values()):
        bound = panel.bound(entry)
        if entry.key not in plan.rules.bound and entry.rule not in OWN and _kind(panel, entry) is not RuleKind.SILENCE:
            panel.drop(entry, "rule_removed")
            continue
        if bound.wall:
            panel.tick(bound, now_us)
        after = panel.entries.get(entry.key, entry)
        time_us = now_us if bound.wall else judged_us
        if after.phase is Phase.NORMAL and not after.condition and time_us - after.raises_since_us > CHATTER_US:
            panel.forget(after)


def needs_look(states: AlarmStates, plan: Plan) -> bool:
    """Whether time alone can change anything but the device's silence."""
    return bool(states.live.entries or plan.rules.sensor_silence or states.tally.rejected)


def station(  # noqa: PLR0917
    states: AlarmStates, plan: Plan, source: str, silent_since_us: int | None, now_us: int, out: list[Alarm]
) -> AlarmStates:
    """The station's own silence, for the device whose partition decides; None: not all its devices are silent."""
    panel = _panel(states, plan, out)
    bound = panel.bound(Entry("station_silent", source))
    entry = panel.entries.get(bound.key)
    if silent_since_us is not None:
        since = entry.since_us if entry and entry.condition else silent_since_us
        panel.condition(bound, True, now_us, round((now_us - since) / 1e6, 3), onset_us=since)
    elif entry is not None:
        panel.condition(bound, False, now_us, round((now_us - entry.onset_us) / 1e6, 3))
    return _kept(states, panel)


# -- what was said before, by a state that is lost --


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


# -- what people do --


def apply_action(
    states: AlarmStates, plan: Plan, event: AlarmActionEvent, *, now_us: int, out: list[Alarm]
) -> tuple[AlarmStates, ActionAnswer]:
    """Take an action or say why not."""
    action = event.data
    panel = _panel(states, plan, out)
    entry = next((e for e in panel.entries.values() if e.alarm_id and e.alarm_id == action.alarm_id), None)
    until_us = round(action.until.timestamp() * 1e6) if action.until else NEVER

    if entry is None:
        text = f"alarm {action.alarm_id} does not stand at {plan.device.device_id}: it is over, or never was"
        return states, ActionAnswer.to(event, text, reason=Refusal.NOT_ACTIVE)
    refusal = _refusal(entry, action.action, until_us, now_us)
    if refusal:
        reason, text = refusal
        return states, ActionAnswer.to(event, text, reason=reason, state=shown(entry))
    if action.action is Action.ACKNOWLEDGE and _kind(panel, entry) is RuleKind.SEQUENCE_GAP:
        states = replace(states, frames_given_up=states.frames_missing)
    state = panel.act(entry, action, min(until_us, now_us + SHELF_US_MAX))
    done = {
        Action.ACKNOWLEDGE: "acknowledged",
        Action.SHELVE: "shelved",
        Action.UNSHELVE: "off the shelf",
        Action.COMMENT: "commented",
    }
    text = f"{entry.rule} of {entry.source}: {done[action.action]}, now {state}"
    return _kept(states, panel), ActionAnswer.to(event, text, state=state)


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
