"""What alarms make of frames and heartbeats as they come, by the broker's time. Pure.

Gaps, rejected readings and our own bugs; what an edge says of its clock, its spool and its sources.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from schemas.alarms import Alarm
from schemas.columnar import Longs
from schemas.devices import RuleKind
from schemas.records import Heartbeat
from streams.alarms.memory import AlarmStates, Entry, Speaker, Tally
from streams.alarms.panel import Panel, panel_of
from streams.alarms.rules import FRAMES_THROW, Bound, Rules, device_source
from streams.plan import Plan

TALLY_US = 10_000_000
"""Rejected readings are counted over so long: within it somebody is to know, and one frame of many is not all."""

SPEAKERS_MAX = 8
"""Spools of a device whose heartbeats are remembered, as many as of its frames."""

TURNS_US = 600_000_000
"""A spool that has spoken again after another one within so long speaks beside it. One does when an old card is put
back, two only where two machines have one id. Ten minutes are twenty heartbeats."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One frame as it came."""

    appended_us: int
    readings: int
    rejected: int
    missing: int  # frames missing after it


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
    panel = panel_of(states, plan, out)
    missing, given_up = states.frames_missing, states.frames_given_up
    for frame in frames:
        at_us = frame.appended_us
        if at_us >= tally.from_us + TALLY_US:
            close_tally(tally, rules, panel)
            tally = Tally(at_us - at_us % TALLY_US)
        tally = Tally(tally.from_us, tally.readings + frame.readings, tally.rejected + frame.rejected)
        missing = frame.missing
        given_up = min(given_up, missing)
        _judge_gap(rules, panel, missing - given_up, at_us)
    panel.settle()
    return panel.kept(replace(states, tally=tally, frames_missing=missing, frames_given_up=given_up))


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


def close_tally(tally: Tally, rules: Rules, panel: Panel) -> None:
    """A period is over: the share of its readings that were rejected is judged."""
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
    panel = Panel(plan.device, rules.saying(told), states.live.entries, out)
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
    return panel.kept(replace(states, speakers=speakers))


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
    bound = replace(panel_of(states, plan, out).bound(entry), figure=f": {what}")
    panel = Panel(plan.device, plan.rules.saying([bound]), states.live.entries, out)
    panel.condition(bound, True, at_us, 1.0)
    panel.settle()
    return panel.kept(states)


def frame_passed(states: AlarmStates, plan: Plan, at_us: int, out: list[Alarm]) -> AlarmStates:
    """A frame went through: what made our code throw may be over."""
    entry = states.live.entries.get((FRAMES_THROW, device_source(plan.device)))
    if entry is None:
        return states
    panel = panel_of(states, plan, out)
    panel.condition(panel.bound(entry), False, at_us, 0.0)
    panel.settle()
    return panel.kept(states)
