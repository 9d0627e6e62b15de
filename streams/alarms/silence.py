"""What alarms make of time alone: silence first of all, delays, shelves that are over. Pure: `now` is an argument.

Judged by the wall clock; what is heard ends it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from schemas.alarms import Alarm
from schemas.devices import RuleKind
from streams.alarms.arrivals import TALLY_US, close_tally
from streams.alarms.lifecycle import Phase
from streams.alarms.memory import NEVER, AlarmStates, Entry, Tally
from streams.alarms.messages import STATION_CHANGED
from streams.alarms.panel import CHATTER_US, OWN, TOLD, Panel, panel_of
from streams.alarms.rules import STATION_SILENT
from streams.plan import Plan, micros_at_most

HELD_US_MIN, HELD_US_MAX = 5_000_000, 60_000_000
"""A silent device's alarm is held back a quarter of its limit for its station's to be found. Silence is looked for each
second, and the word goes through a topic: less than some seconds would tell devices first. Nobody waits a minute."""


@dataclass(frozen=True, slots=True)
class StationView:
    """What is known of a device's station, if it has several devices and all of them have a silence limit."""

    silent: bool  # its alarm stands
    cleared_us: int = NEVER  # when it last ended


def heard(states: AlarmStates, plan: Plan, at_us: int, out: list[Alarm]) -> AlarmStates:
    """The broker took something of the device."""
    panel = panel_of(states, plan, out)
    back = False
    for entry in _silences(panel):
        if at_us > entry.onset_us:
            panel.condition(panel.bound(entry), False, at_us, round((at_us - entry.onset_us) / 1e6, 3))
            back = True
    if back and plan.rules.sensor_silence:  # its sensors are expected anew from now on
        states = sensors_heard(panel.kept(states), plan, {b.channel for b in plan.rules.sensor_silence}, at_us, out)
        panel = panel_of(states, plan, out)
    if back:
        panel.settle()
    return panel.kept(states)


def sensors_heard(
    states: AlarmStates, plan: Plan, channels: Iterable[str], at_us: int, out: list[Alarm]
) -> AlarmStates:
    """Readings of these channels came."""
    panel = panel_of(states, plan, out)
    times = dict(states.sensors_heard)
    for bound in plan.rules.sensor_silence:
        if bound.channel in channels and at_us > times.get(bound.channel, NEVER):
            since = times.get(bound.channel, at_us)
            panel.condition(bound, False, at_us, round((at_us - since) / 1e6, 3))
    for channel in channels:
        times[channel] = max(at_us, times.get(channel, NEVER))
    panel.settle()
    return panel.kept(replace(states, sensors_heard=times))


def _silences(panel: Panel) -> list[Entry]:
    """Entries about the whole device's silence; also those whose rule is gone."""
    return [e for e in panel.entries.values() if e.condition and panel.kind(e) is RuleKind.SILENCE]


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
    panel = panel_of(states, plan, out)
    _look_for_silence(states, plan, panel, heard_us, now_us, judge_silence=judge_silence, station=station)
    tally = states.tally
    if now_us >= tally.from_us + TALLY_US and (tally.rejected or any(b.key in panel.entries for b in plan.rules.share)):
        close_tally(tally, plan.rules, panel)
        states = replace(states, tally=Tally())
    if panel.entries:
        _pass_time(states, plan, panel, now_us)
        panel.settle()
    return panel.kept(states)


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
        held_us = max(HELD_US_MIN, min(micros_at_most(bound.limit) // 4, HELD_US_MAX))
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
        if entry.key not in plan.rules.bound and entry.rule not in OWN and panel.kind(entry) is not RuleKind.SILENCE:
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
    panel = panel_of(states, plan, out)
    bound = panel.bound(Entry(STATION_SILENT, source))
    entry = panel.entries.get(bound.key)
    if silent_since_us is not None:
        since = entry.since_us if entry and entry.condition else silent_since_us
        panel.condition(bound, True, now_us, round((now_us - since) / 1e6, 3), onset_us=since)
    elif entry is not None:
        panel.condition(bound, False, now_us, round((now_us - entry.onset_us) / 1e6, 3))
    return panel.kept(states)


def no_longer_leads(states: AlarmStates, plan: Plan, source: str, out: list[Alarm]) -> AlarmStates:
    """The station's alarm ends here: another device's partition decides now, or there is none to decide."""
    panel = panel_of(states, plan, out)
    panel.drop(panel.entries[STATION_SILENT, source], STATION_CHANGED)
    return panel.kept(states)
