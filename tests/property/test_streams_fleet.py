"""Devices of one kind advanced as one array bring about what they do one by one, to the last bit."""

from typing import Any

import numpy as np
import pytest
from core_examples import (
    APPENDED_US,
    EDGE,
    LENGTHS_S,
    START_US,
    US,
    limited,
    make_device,
    make_frame,
    make_sensor,
    make_vane,
    numbers,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.devices import AlarmRule, Device, RuleKind
from schemas.frames import DeviceState
from schemas.limits import DeadBand, FlatLine, Gap, GrossRange, Icing, Limits, RateOfChange, Spike
from streams.fleet import Member, advance_fleet
from streams.pipeline import Outcome, advance
from streams.plan import Plan, plan_of
from streams.state import State, to_record
from streams.stored import side_by_side
from streams.validation import Batch

CODEC = Codec()
CHANNELS = ("speed", "vane", "temp")
DEVICES = tuple(f"mast-{number}" for number in range(6))
RANGE = GrossRange(fail=(-40, 40), suspect=(-30, 30))


def device(name: str, number: int, kind: str) -> Device:
    """Devices of one kind differ in what their certificates say."""
    own = numbers(slope=0.046 + number / 1000, offset=number / 10)
    dated = [numbers(valid_to=EDGE), numbers(valid_from=EDGE, slope=0.5)]
    orientation = 33.0 if kind == "banded" else 33.0 * number
    calibrations = [dated] * 3 if number == 3 else [[own], [numbers(dead_band_orientation_deg=orientation)], []]
    limits: dict[str, list[Limits]] = {
        "plain": [limited(fail=(-40, 40), suspect=(-30, 30)), Limits(), Limits()],
        "steps": [
            Limits(gross_range=RANGE, rate_of_change=RateOfChange(suspect_per_s=1.5, fail_per_s=2.5)),
            Limits(gap=Gap(suspect_s=25, fail_s=200)),
            Limits(rate_of_change=RateOfChange(suspect_per_s=0.2)),
        ],
        "spiked": [
            Limits(gross_range=RANGE, spike=Spike(suspect=20, fail=40)),
            Limits(spike=Spike(method="differential", suspect=60, fail=100), gap=Gap(suspect_s=25, fail_s=200)),
            Limits(gap=Gap(suspect_s=25)),
        ],
        "still": [
            Limits(gross_range=RANGE, flat_line=FlatLine(tolerance=0.5, suspect_s=40, fail_s=400)),
            Limits(flat_line=FlatLine(tolerance=20, suspect_s=100)),
            Limits(icing=Icing(temperature="temp", below=10, tolerance=0.5, suspect_s=60), spike=Spike(suspect=4)),
        ],
        "banded": [Limits(), Limits(dead_band=DeadBand(suspect_width_deg=20, fail_width_deg=8)), Limits()],
    }
    limits["late"], limits["alarmed"] = limits["spiked"], limits["spiked"]
    rules = [AlarmRule(name="fast", kind=RuleKind.ABOVE, limit=25, hysteresis=10)] if kind == "alarmed" else []
    speed, vane, temp = limits[kind]
    return make_device(
        make_sensor("speed", limits=speed, calibrations=calibrations[0], windows_s=LENGTHS_S, alarm_rules=rules),
        make_vane("vane", limits=vane, calibrations=calibrations[1], windows_s=LENGTHS_S),
        make_sensor("temp", limits=temp, calibrations=calibrations[2], windows_s=[600], statistic="sum"),
        device_id=name,
        lateness_s=90 if kind == "late" else 0,
    )


PLANS = {
    kind: {name: plan_of(device(name, number, kind)) for number, name in enumerate(DEVICES)}
    for kind in ("plain", "steps", "spiked", "banded", "still", "late", "alarmed")
}


@st.composite
def piles(draw: st.DrawFn) -> list[dict[str, Batch]]:
    """Pile after pile, of each device some frames, which mostly are as they should be."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    careless = draw(st.sampled_from([0.0, 0.0, 0.02, 0.1]))
    rows_max = draw(st.sampled_from([1, 2, 9, 40]))
    at, sequence = dict.fromkeys(DEVICES, 0), dict.fromkeys(DEVICES, 0)
    found = []
    for number in range(draw(st.integers(1, 9))):
        pile = {}
        for name in DEVICES:
            if random.random() < 0.15:
                continue
            wrong = random.random(5) < careless
            count = int(random.integers(1, 4))
            rows = random.integers(1, rows_max + 1, count)
            n = int(rows.sum())
            seconds = at[name] + np.arange(n) * 20 - (70 if wrong[0] else 0)
            at[name] += 20 * n + (900 if wrong[1] else 0)
            values = random.normal([0, 180, 10], [20, 60, 3], (n, 3))
            values[random.random((n, 3)) < 0.05] = np.nan
            if random.random() < 0.3:
                values = np.repeat(values, 1 + random.integers(0, 9), axis=0)[:n]  # some stand still
            values[random.random((n, 3)) < careless / 9] = np.inf
            frame = make_frame(seconds, values, channels=CHANNELS)
            channels = CHANNELS[::-1] if wrong[2] else CHANNELS
            first = sequence[name] + (1 if wrong[3] else 0)
            sequence[name] = first + count
            offsets = number * 1000 + np.arange(count)
            appended = np.full(count, APPENDED_US + number * (11 * US if wrong[4] else US))
            spool = "spool"
            sequences = first + np.arange(count)
            pile[name] = Batch(name, spool, sequences, offsets, appended, rows, channels, frame.times, frame.values)
        found.append(pile)
    return found


@settings(deadline=None, max_examples=8)
@given(piles=piles(), generation=st.sampled_from([0, 0, 1]))
@pytest.mark.parametrize("kind", list(PLANS))
def test_a_fleet_brings_about_what_its_devices_do(kind: str, piles: list[dict[str, Batch]], generation: int) -> None:
    plans = PLANS[kind]
    alone = {name: State(name, generation=generation) for name in DEVICES}
    together = dict(alone)
    for pile in piles:
        members = [Member(together[name], batch, plans[name]) for name, batch in pile.items()]
        for (name, batch), done in zip(pile.items(), advance_fleet(members, generation=generation), strict=True):
            expected, wanted = advance(alone[name], batch, plans[name], generation=generation)
            state, outcome = done or advance(together[name], batch, plans[name], generation=generation)
            assert said(outcome) == said(wanted)
            assert CODEC.encode(to_record(state)) == CODEC.encode(to_record(expected))
            alone[name], together[name] = expected, state
        states = list(together.values())
        found, left = side_by_side(states)
        stored = {at: CODEC.encode(to_record(states[at])) for at in left}
        for some, columns in found:
            stored |= zip(some, CODEC.encode_columns(DeviceState, columns), strict=True)
        assert [stored[at] for at in range(len(states))] == [CODEC.encode(to_record(state)) for state in states]


def said(outcome: Outcome) -> tuple[Any, ...]:
    """All that leaves the stage, as bytes."""
    clean, windows = ([CODEC.encode(frame) for frame in some] for some in (outcome.clean, outcome.windows))
    assert CODEC.encode_each(outcome.clean * 4) == clean * 4
    assert CODEC.encode_each(outcome.windows * 4) == windows * 4
    return (
        clean,
        windows,
        outcome.alarms,
        len(outcome.refused),
        outcome.late,
        outcome.repeated,
    )


def tidy(number: int, plans: dict[str, Plan]) -> list[Member]:
    values = np.add.outer(np.arange(5) % 2 * 40.0, [7.0, 7.0, 7.0])
    frame = make_frame(20 * (number * 5 + np.arange(5)), values, channels=CHANNELS)
    appended, rows = np.full(5, APPENDED_US + number), np.ones(5, np.intp)
    one = 5 * number + np.arange(5)
    return [
        Member(State(name), Batch(name, "spool", one, one, appended, rows, CHANNELS, frame.times, frame.values), plan)
        for name, plan in plans.items()
    ]


@pytest.mark.parametrize("kind", list(PLANS))
def test_what_is_usual_is_advanced_together(kind: str) -> None:
    """What the other test proves of a fleet would be worth nothing if all were left to themselves."""
    plans = {name: plan for name, plan in PLANS[kind].items() if name != DEVICES[3]}  # its certificate changes
    states = {name: State(name) for name in plans}
    for number in range(4):
        members = [Member(states[m.batch.device_id], m.batch, m.plan) for m in tidy(number, plans)]
        done = advance_fleet(members, generation=0)
        if number or kind in ("plain", "banded"):
            assert all(each is not None for each in done)
        for member, each in zip(members, done, strict=True):
            state, _ = each or advance(member.state, member.batch, member.plan, generation=0)
            states[member.batch.device_id] = state
    assert {state.watermark_us for state in states.values()} == {START_US + 20 * 19 * US}


def test_devices_that_are_judged_otherwise_are_of_another_kind() -> None:
    one = PLANS["plain"][DEVICES[0]]
    kinds = {one.select(CHANNELS).kind}
    for changes in ({"lateness_s": 1}, {"interval_s": 2.0}, {"sensors": [make_sensor(name) for name in CHANNELS]}):
        other = plan_of(make_device(**{"sensors": one.device.sensors, **changes}))  # type: ignore[arg-type]
        kinds.add(other.select(CHANNELS).kind)
    assert len(kinds) == 4
    assert PLANS["plain"][DEVICES[1]].select(CHANNELS).kind is one.select(CHANNELS).kind
