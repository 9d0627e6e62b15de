"""Alarms under any values, any cut, any restarts of the worker and any actions."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from core_examples import START_US, US, in_batches, in_log, instant, make_device, make_frame, make_sensor
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.alarms import Action, Alarm, AlarmAction, AlarmActionEvent, AlarmState
from schemas.devices import AlarmRule
from streams.alarms.memory import Entry
from streams.pipeline import Outcome, advance, apply_action, look
from streams.plan import plan_of
from streams.state import State

RULES = [
    {"name": "hot", "kind": "above", "limit": 2.5},
    {"name": "warm", "kind": "above", "limit": 1.5, "hysteresis": 1.0, "on_delay_s": 3, "off_delay_s": 4},
    {"name": "cold", "kind": "below", "limit": 0.5, "latched": True},
    {"name": "jump", "kind": "rate", "limit": 2.0},
    {"name": "window", "kind": "window_above", "limit": 1.8, "window_s": 10, "figure": "mean"},
]
RULED = make_sensor("a", windows_s=(10,), alarm_rules=[AlarmRule.model_validate(facts) for facts in RULES])
PLAN = plan_of(make_device(RULED, silence_limit_s=30))

values = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, float("nan")]), min_size=1, max_size=120)
cuts = st.lists(st.integers(1, 7), max_size=60)


def frames_of(series: list[float], cut: list[int]) -> list[Any]:
    ends = [*np.cumsum(cut).tolist(), len(series)]
    starts = [0, *ends]
    found = []
    for number, (first, end) in enumerate(zip(starts, ends, strict=False)):
        seconds = list(range(first, min(end, len(series))))
        if seconds:
            found.append(make_frame(seconds, series[first:end], sequence=number))
    return found


def steps_of(alarms: list[Alarm]) -> dict[tuple[str, str], list[tuple[str, str, int]]]:
    found: dict[tuple[str, str], list[tuple[str, str, int]]] = {}
    for alarm in alarms:
        found.setdefault((alarm.rule, alarm.source), []).append((alarm.alarm_id, alarm.state, alarm.step))
    return found


def entries_of(state: State) -> list[Entry]:
    """A window's mean is the same up to rounding."""
    return [replace(entry, value=round(entry.value, 9)) for _, entry in sorted(state.alarms.live.entries.items())]


def assert_lives(alarms: list[Alarm]) -> None:
    """One alarm at a time per rule and source; each begins, goes on and ends once."""
    for steps in steps_of(alarms).values():
        for (former, state, step), (later, after, next_step) in pairwise(steps):
            if former == later:
                assert state != AlarmState.CLEARED
                assert next_step == step + 1
            else:
                assert state == AlarmState.CLEARED
                assert (after, next_step) == (AlarmState.RAISED, 0) or after == AlarmState.SUPPRESSED
        assert len({name for name, state, _ in steps if state == AlarmState.CLEARED}) == sum(
            state == AlarmState.CLEARED for _, state, _ in steps
        )


@settings(deadline=None)
@given(series=values, cut=cuts, batches=cuts)
def test_how_a_series_is_cut_changes_no_alarm(series: list[float], cut: list[int], batches: list[int]) -> None:
    def told(frames: list[Any], sizes: list[int]) -> tuple[State, list[Alarm]]:
        state, alarms = State("mast-7"), []
        for batch in in_batches(in_log(frames), sizes):
            state, outcome = advance(state, batch, PLAN, generation=0)
            alarms += outcome.alarms
        return state, alarms

    whole, alarms = told(frames_of(series, []), [])
    assert_lives(alarms)
    for frames, sizes in ((frames_of(series, cut), batches), (frames_of(series, [1] * len(series)), [])):
        state, found = told(frames, sizes)
        assert steps_of(found) == steps_of(alarms)
        assert entries_of(state) == entries_of(whole)


@settings(deadline=None)
@given(
    series=values,
    cut=cuts,
    deeds=st.lists(st.tuples(st.integers(0, 130), st.sampled_from(Action), st.integers(0, 3)), max_size=12),
    looks=st.lists(st.integers(0, 200), max_size=12),
    replay_at=st.integers(0, 200),
)
def test_alarms_begin_and_end_once_whatever_people_do(
    series: list[float], cut: list[int], deeds: list[tuple[int, Action, int]], looks: list[int], replay_at: int
) -> None:
    frames = frames_of(series, cut)
    state, told, offset = State("mast-7"), list[Alarm](), 0

    def shelve_or_so(at: int, deed: Action, which: int) -> list[Alarm]:
        nonlocal state, offset
        ids = [entry.alarm_id for entry in state.alarms.standing] or ["none"]
        action = AlarmAction(
            alarm_id=ids[which % len(ids)],
            device_id="mast-7",
            action=deed,
            who="anna",
            until=instant(START_US + (at + 9) * US),
        )
        event = AlarmActionEvent(id="x", source="t", subject="s", time=instant(START_US), data=action)
        outcome, offset = Outcome(), offset + 1
        state = apply_action(state, event, offset, START_US + at * US, PLAN, outcome)
        assert len(outcome.answers) == 1
        return outcome.alarms

    def pass_by(generation: int, first: int) -> list[Alarm]:
        nonlocal state
        alarms = []
        for number, frame in enumerate(frames):
            at = int((frame.times[-1] - START_US) // US)
            log = in_log([frame], first=first + number, appended_us=int(frame.times[-1]))
            state, outcome = advance(state, log, PLAN, generation=generation)
            alarms += outcome.alarms
            for when, deed, which in deeds:
                if when % (number + 1) == number:
                    alarms += shelve_or_so(at, deed, which)
            for when in looks:
                if when % (number + 1) == number:
                    state, outcome = look(state, PLAN, expected_us=START_US, now_us=START_US + (at + when) * US)
                    alarms += outcome.alarms
        return alarms

    told = pass_by(0, 0)
    assert_lives(told)
    looks, deeds = [], []
    again = pass_by(1, replay_at % 3)
    assert all(alarm.replayed for alarm in again if alarm.rule != "device_silent")
    ids = [entry.key for entry in state.alarms.standing]
    assert len(ids) == len(set(ids))
