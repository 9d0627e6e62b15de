"""Frames read and advanced many at once bring about what they do one by one, to the last bit."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from core_examples import (
    APPENDED_US,
    CHANNELS,
    LENGTHS_S,
    PLAN,
    SPIKED,
    advanced,
    assert_same_record,
    make_frame,
    one_by_one,
    refusals_of,
    steps_of,
    windows_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_examples import comparable

from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.frames import RawFrame
from streams.agents.batches import batches
from streams.pipeline import Outcome, advance
from streams.state import State, to_record
from streams.validation import Arrival, Batch

CODEC = Codec()


class Record(NamedTuple):
    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int
    signature: bytes | None = None
    oversized: bool = False


def in_records(frames: list[RawFrame], minutes: list[int]) -> list[Record]:
    """The log, `minutes` of the broker's clock between its records."""
    at_ms = APPENDED_US // 1000 + np.cumsum(np.resize([*minutes, 0], len(frames))) * 6_000
    return [
        Record("readings.raw", offset, frame.device_id.encode(), CODEC.encode(frame), int(ms))
        for offset, (frame, ms) in enumerate(zip(frames, at_ms, strict=True))
    ]


def piled(records: list[Record]) -> dict[str, list[Arrival] | Batch]:
    """As the stage sorts a pile out."""
    blocks, left = CODEC.decode_raw([record.value for record in records])
    together, others = batches(blocks, records)
    found: dict[str, Any] = {}
    for at in sorted(left + others):
        frame = CODEC.decode_frame(RawFrame, records[at].value)
        found.setdefault(frame.device_id, []).append(arrival_of(records[at], frame))
    assert not found.keys() & {key.decode() for key in together}
    return found | {key.decode(): batch for key, batch in together.items()}


def arrival_of(record: Record, frame: RawFrame | None = None) -> Arrival:
    frame = frame or CODEC.decode_frame(RawFrame, record.value)
    return Arrival(frame, record.offset, record.timestamp * 1000)


DEVICES = ("mast-7", "mast-8", "mâst-9")


@st.composite
def fleets(draw: st.DrawFn) -> list[RawFrame]:
    """Logs of devices that mostly do as they should: rows in order of time, frames in order of sequence."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    at = dict.fromkeys(DEVICES, 0)
    sequence = {name: draw(st.sampled_from([0, 0, 60, 8190])) for name in DEVICES}
    careless = draw(st.sampled_from([0.0, 0.0, 0.03, 0.2]))
    rows_max = draw(st.sampled_from([1, 1, 3, 12]))
    frames = []
    for _ in range(draw(st.integers(1, 120))):
        name = DEVICES[int(random.integers(len(DEVICES)))]
        wrong = random.random(6) < careless
        rows = int(random.integers(1, rows_max + 1)) if random.random() < 0.5 else rows_max
        channels = CHANNELS[::-1] if wrong[0] else CHANNELS
        seconds = at[name] + np.arange(rows) * 20 - (300 if wrong[1] else 0)
        at[name] += 20 * rows + (900 if wrong[2] else 0)
        values = random.normal([0, 180, 10], [20, 60, 3], (rows, 3))
        values[random.random((rows, 3)) < 0.05] = np.nan
        frame = make_frame(seconds, values, channels=channels, sequence=sequence[name])
        frame.device_id, frame.spool_id = name, "another" if wrong[3] else "spool"
        frame.status = np.zeros(rows, np.int64) if wrong[4] else None
        sequence[name] += int(random.integers(0, 3)) if wrong[5] else 1
        frames.append(frame)
    return frames


@settings(deadline=None, max_examples=40)
@given(frames=fleets())
def test_a_block_holds_what_the_codec_reads(frames: list[RawFrame]) -> None:
    records = in_records(frames, [])
    blocks, left = CODEC.decode_raw([record.value for record in records])
    assert sorted(left + [at for block in blocks for at in block.at.tolist()]) == list(range(len(frames)))
    for block in blocks:
        for number, at in enumerate(block.at.tolist()):
            assert comparable(block.frame(number)) == comparable(CODEC.decode_frame(RawFrame, records[at].value))


@settings(deadline=None, max_examples=40)
@given(frames=fleets(), data=st.data())
def test_damaged_bytes_are_never_in_a_block_unless_the_codec_reads_them(
    frames: list[RawFrame], data: st.DataObject
) -> None:
    values = [bytearray(record.value or b"") for record in in_records(frames, [])]
    for _ in range(data.draw(st.integers(1, 12))):
        value = values[data.draw(st.integers(0, len(values) - 1))]
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    blocks, _ = CODEC.decode_raw([bytes(value) for value in values])
    for block in blocks:
        for number, at in enumerate(block.at.tolist()):
            try:
                expected = CODEC.decode_frame(RawFrame, bytes(values[at]))
            except Unreadable as error:
                pytest.fail(f"the codec refuses it: {error}")
            assert comparable(block.frame(number)) == comparable(expected)


@settings(deadline=None, max_examples=40)
@given(
    frames=fleets(),
    minutes=st.lists(st.sampled_from([0, 0, 0, 1, 3]), max_size=20),
    cuts=st.lists(st.integers(1, 60), max_size=6),
)
@pytest.mark.parametrize("tests", ["plain", "spiked"])
def test_a_pile_brings_about_what_its_frames_do_one_by_one(
    tests: str, frames: list[RawFrame], minutes: list[int], cuts: list[int]
) -> None:
    plan = {"plain": PLAN, "spiked": SPIKED}[tests]
    records = in_records(frames, minutes)
    singly = {
        name: advanced(State(name), one_by_one([arrival_of(r) for r in records if r.key == name.encode()]), plan)
        for name in DEVICES
    }
    together = {name: (State(name), Outcome()) for name in DEVICES}
    at = 0
    for size in [*cuts, len(records)]:
        for name, arrivals in piled(records[at : at + size]).items():
            state, whole = together[name]
            state, outcome = advance(state, arrivals, plan, generation=0)
            for part in ("clean", "windows", "refused", "alarms"):
                getattr(whole, part).extend(getattr(outcome, part))
            whole.repeated += outcome.repeated
            whole.late += outcome.late
            together[name] = state, whole
        at += size
    for name in DEVICES:
        (alone, expected), (state, outcome) = singly[name], together[name]
        assert stored(outcome) == stored(expected)
        assert refusals_of(outcome) == refusals_of(expected)
        assert (outcome.late, outcome.repeated) == (expected.late, expected.repeated)
        assert steps_of(outcome) == steps_of(expected)
        for length_s in LENGTHS_S:
            # One by one, a window that a hole held may close some frames sooner: which comes first means nothing.
            ours, theirs = (
                sorted(windows_of(each, length_s), key=lambda row: (row[0], row[2])) for each in (outcome, expected)
            )
            assert [row[:8] for row in ours] == [row[:8] for row in theirs]
            for mine, other in zip(ours, theirs, strict=True):
                assert mine[8:] == pytest.approx(other[8:], rel=1e-7, abs=1e-6, nan_ok=True)
        assert_same_record(to_record(state), to_record(alone))


def stored(outcome: Outcome) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What a table holds afterwards: of each reading the last that was sent, as bits."""
    return {
        (time, channel): tuple(
            getattr(frame, name)[row, column].tobytes() for name in ("logged", "values", "quality", "tests")
        )
        for frame in outcome.clean
        for row, time in enumerate(frame.times.tolist())
        for column, channel in enumerate(frame.channels)
    }


def test_most_of_a_tidy_fleet_goes_the_short_way() -> None:
    """What the others prove of batches would be worth nothing if there were none."""
    frames = []
    for number in range(130):  # over the width of a sequence number, too
        for name in DEVICES:
            frame = make_frame([20 * number], [[1.0, 2.0, 3.0]], channels=CHANNELS, sequence=number)
            frame.device_id = name
            frames.append(frame)
    found = piled(in_records(frames, []))
    assert all(isinstance(found[name], Batch) and len(found[name]) == 130 for name in DEVICES[:2])
