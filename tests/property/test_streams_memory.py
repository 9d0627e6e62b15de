"""What the stage remembers: frames received against a plain set, and state through its record and its bytes."""

from itertools import pairwise

import numpy as np
from core_examples import advanced, in_batches, in_log, limited, make_frame, make_plan, make_sensor, make_vane
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.frames import DeviceState
from streams.alarms.lifecycle import Phase
from streams.alarms.memory import AlarmStates, Entry, Judging, Speaker, Tally
from streams.sequences import Received
from streams.state import NEVER, State, from_record, to_record
from streams.windows import DOUBLES, LONGS, Open

CODEC = Codec()
LENGTHS_S = [60, 600]
PLAN = make_plan(
    make_sensor("a", windows_s=LENGTHS_S, limits=limited(suspect=(0, 9))),
    make_vane("b", windows_s=LENGTHS_S),
    make_sensor("c", windows_s=[600]),
    lateness_s=600,
)

identities = st.lists(st.tuples(st.sampled_from("stuv"), st.integers(0, 60)), max_size=200)


@given(frames=identities, batches=st.lists(st.integers(1, 20), max_size=20))
def test_received_is_a_set(frames: list[tuple[str, int]], batches: list[int]) -> None:
    received, seen = Received(), set[tuple[str, int]]()
    for at, size in zip(np.cumsum([0, *batches]).tolist(), [*batches, len(frames)], strict=True):
        batch = frames[at : at + size]
        expected = []
        for frame in batch:
            expected.append(frame not in seen)
            seen.add(frame)
        received, fresh = received.add(batch)
        assert fresh == expected
    ranges = received.spools
    assert {(s, n) for s, rs in ranges.items() for first, last in rs for n in range(first, last + 1)} == seen
    for runs in ranges.values():  # ascending and apart
        assert all(first <= last for first, last in runs)
        assert all(later[0] > former[1] + 1 for former, later in pairwise(runs))


@given(frames=identities, cut=st.integers(0, 200))
def test_holes_are_the_frames_that_did_not_come(frames: list[tuple[str, int]], cut: int) -> None:
    received, _ = Received().add(frames[:cut])
    spools: dict[str, set[int]] = {}
    for spool, sequence in frames[:cut]:
        spools.setdefault(spool, set()).add(sequence)
    assert received.holes() == sum(max(s) - min(s) + 1 - len(s) for s in spools.values())


longs = st.integers(-(2**63), 2**63 - 1)
entries = st.builds(
    Entry,
    rule=st.text(max_size=9),
    source=st.text(max_size=12),
    phase=st.sampled_from(Phase),
    below=st.sampled_from(Phase),
    condition=st.booleans(),
    since_us=longs,
    alarm_id=st.text("0123456789abcdef", max_size=16),
    onset_us=longs,
    value=st.floats(allow_nan=False),
    step=st.integers(0, 2**40),
    until_us=longs,
    raises=st.integers(0, 99),
    raises_since_us=longs,
)


@st.composite
def judgings(draw: st.DrawFn) -> Judging:
    channels = draw(st.lists(st.text(max_size=3), max_size=3, unique=True))
    times = [draw(longs) for _ in channels]
    values = [draw(st.floats()) for _ in channels]
    found = draw(st.lists(entries, max_size=3))
    return Judging(
        {entry.key: entry for entry in found}, tuple(channels), np.array(times, np.int64), np.array(values, np.float64)
    )


alarms = st.builds(
    AlarmStates,
    live=judgings(),
    reread=judgings(),
    reread_until_us=longs,
    sensors_heard=st.dictionaries(st.text(max_size=3), longs, max_size=3),
    frames_missing=longs,
    frames_given_up=longs,
    speakers=st.one_of(
        st.dictionaries(st.text(min_size=1, max_size=3), st.builds(Speaker, longs), max_size=1),
        st.dictionaries(st.text(min_size=1, max_size=3), st.builds(Speaker, longs, longs), min_size=2, max_size=3),
    ),
    tally=st.builds(Tally, longs, longs, longs),
)


@st.composite
def states(draw: st.DrawFn) -> State:
    """As frames have left it, and beyond."""
    frames = []
    for number in range(draw(st.integers(0, 5))):
        channels = draw(st.sampled_from([("a", "b", "c"), ("b",), ("c", "a"), ()]))
        seconds = draw(st.lists(st.integers(0, 1500), min_size=1, max_size=6))
        values = draw(st.lists(st.sampled_from([float("nan"), 3.0, 4.5, 99.0]), min_size=1, max_size=6))
        grid = np.resize(values, (len(seconds), len(channels)))
        spool = draw(st.sampled_from("stu"))
        frames.append(make_frame(seconds, grid, channels=channels, sequence=2 * number, spool=spool))
    state, _ = advanced(State("mast-7"), [in_log(frames)], PLAN)
    return State(
        device_id=draw(st.text(max_size=5)),
        generation=draw(st.integers(0, 2**40)),
        readings_position=draw(longs),
        heartbeats_position=draw(longs),
        actions_position=draw(longs),
        heard_us=draw(longs),
        watermark_us=draw(st.sampled_from([NEVER, state.watermark_us])),
        partial_until_us=draw(longs),
        received=state.received,
        open=state.open,
        alarms=draw(alarms),
    )


def cells(windows: tuple[Open, ...]) -> dict[tuple[int, int, str], tuple[float, ...]]:
    """What the windows hold, whatever their shape."""
    return {
        (part.length_s, start, channel): tuple(getattr(part, name)[row, column].item() for name in (*LONGS, *DOUBLES))
        for part in windows
        for row, start in enumerate(part.starts.tolist())
        for column, channel in enumerate(part.channels)
        if part.seen()[row, column]
    }


@settings(deadline=None)
@given(state=states())
def test_a_state_comes_back_from_its_record_and_from_its_bytes(state: State) -> None:
    record = to_record(state)
    decoded = CODEC.decode_frame(DeviceState, CODEC.encode(record))
    for again in (from_record(record), from_record(decoded)):
        assert cells(again.open) == cells(state.open)
        for name in ("device_id", "generation", "heard_us", "watermark_us", "partial_until_us", "received", "alarms"):
            assert getattr(again, name) == getattr(state, name), name
        for name in ("readings_position", "heartbeats_position", "actions_position"):
            assert getattr(again, name) == getattr(state, name), name
        assert list(again.received.spools) == list(state.received.spools)  # the order in which they are forgotten
    assert CODEC.encode(to_record(from_record(decoded))) == CODEC.encode(to_record(from_record(record)))


@settings(deadline=None, max_examples=60)
@given(cut=st.integers(1, 9), seed=st.integers(0, 2**32 - 1), lateness_s=st.sampled_from([0, 100, 10_000]))
def test_a_restart_between_any_two_batches_changes_nothing(cut: int, seed: int, lateness_s: int) -> None:
    random = np.random.default_rng(seed)
    plan = make_plan(*PLAN.device.sensors, lateness_s=lateness_s)
    choices: list[tuple[str, ...]] = [("a", "b", "c"), ("b", "a"), ("c",)]
    frames = []
    for number in range(10):
        channels = choices[random.integers(3)]
        seconds = np.unique(200 * number + random.integers(0, 400, 5))
        values = random.normal(5, 3, (len(seconds), len(channels)))
        frames.append(make_frame(seconds, values, channels=channels, sequence=number))
    log = in_log(frames)
    through, expected = advanced(State("mast-7"), in_batches(log, [cut]), plan)
    state, first = advanced(State("mast-7"), [log[:cut]], plan)
    restarted = from_record(CODEC.decode_frame(DeviceState, CODEC.encode(to_record(state))))
    state, second = advanced(restarted, [log[cut:]], plan)
    emitted = [CODEC.encode(frame) for frame in first.windows + second.windows]
    assert emitted == [CODEC.encode(frame) for frame in expected.windows]
    assert CODEC.encode(to_record(state)) == CODEC.encode(to_record(through))
