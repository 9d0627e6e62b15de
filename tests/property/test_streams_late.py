"""Rows that come late, twice, or from below live data: the windows say in the end what the whole series says."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from core_examples import (
    START_US,
    US,
    advanced,
    as_known_now,
    assert_same_record,
    in_batches,
    in_log,
    make_frame,
    make_plan,
    make_sensor,
    one_by_one,
    windows_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.frames import DeviceState, RawFrame
from streams.pipeline import Outcome
from streams.recent import Recent, from_columns, to_columns
from streams.state import State, from_record, to_record

CHANNELS = ("a", "b")
sizes = st.lists(st.integers(1, 40), max_size=40)


def plan_of_lateness(lateness_s: float) -> Any:
    return make_plan(make_sensor("a", windows_s=(60, 600)), make_sensor("b", windows_s=[600]), lateness_s=lateness_s)


def values_at(seconds: Any) -> Any:
    number = np.asarray(seconds, np.float64)
    return np.stack([10 + np.sin(number), 5 + np.cos(number * 7)], axis=1)


def frame_of(seconds: Any, sequence: int) -> RawFrame:
    return make_frame(seconds, values_at(seconds), channels=CHANNELS, sequence=sequence)


def by_numpy(seconds: Any, length_s: int, until_s: float) -> Iterator[tuple[Any, ...]]:
    """(start, channel, count, mean, min, max) of every window that ends before, each row once."""
    seconds = np.unique(np.asarray(seconds))
    values, starts = values_at(seconds), seconds // length_s * length_s
    for start in np.unique(starts).tolist():
        for column, channel in enumerate(CHANNELS):
            if start + length_s <= until_s and (channel, length_s) != ("b", 60):
                v = values[starts == start, column]
                yield (start, channel, len(v), v.mean(), v.min(), v.max())


def assert_windows(outcome: Outcome, seconds: Any, until_s: float) -> None:
    for length_s in (60, 600):
        found = [
            (row[0], row[2], row[3], row[8], row[10], row[11])
            for row in as_known_now(outcome, length_s)
            if row[0] + length_s <= until_s
        ]
        expected = list(by_numpy(seconds, length_s, until_s))
        assert [row[:3] for row in found] == [row[:3] for row in expected]
        for mine, theirs in zip(found, expected, strict=True):
            assert mine[3:] == pytest.approx(theirs[3:], rel=1e-9)


def revisions(outcome: Outcome) -> list[tuple[int, int, str, int]]:
    """(length, start, channel, revision) of every window sent."""
    return [
        (length, (start - START_US) // US, channel, revision)
        for frame in outcome.windows
        for length, start, channel, revision in zip(
            frame.lengths_s.tolist(), frame.starts.tolist(), frame.channels, frame.revisions.tolist(), strict=True
        )
    ]


@st.composite
def outages(draw: st.DrawFn) -> tuple[list[RawFrame], float]:
    """A device's frames as the broker got them: its backlogs overtaken by live data, frames sent again."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    number = draw(st.integers(2, 60))
    frames, at = [], 0
    for sequence in range(number):
        rows = int(random.integers(1, 20))
        at += int(random.choice([0, 0, 0, 300, 1500])) if sequence else 0
        frames.append(frame_of(at + np.arange(rows), sequence))
        at += rows
    sent: list[RawFrame] = []
    rest = frames
    while rest:
        cut = int(random.integers(0, len(rest) + 1))
        begin = min(int(random.integers(0, 6)), cut)
        ahead, backlog, live = rest[:begin], rest[begin:cut], rest[cut:]
        sent += ahead
        share = int(random.integers(1, 6))
        fresh, rest = live[: max(1, len(backlog) // share)], live[max(1, len(backlog) // share) :]
        sent += fresh[:1]
        fresh = fresh[1:]
        while backlog or fresh:  # live first, then a share of the backlog, in order
            taken, backlog = backlog[:share], backlog[share:]
            sent += fresh[:1] + taken
            fresh = fresh[1:]
        if not (backlog or live):
            break
    again = [int(each) for each in random.integers(0, len(sent), draw(st.integers(0, 3)))]
    for each in again:
        sent.insert(int(random.integers(each, len(sent))) + 1, sent[each])
    return sent, float(at)


@settings(deadline=None, max_examples=40)
@given(sent=outages(), batches=sizes, lateness_s=st.sampled_from([0, 30]))
def test_a_backlog_that_live_data_overtakes_is_windowed_right(
    sent: tuple[list[RawFrame], float], batches: list[int], lateness_s: int
) -> None:
    frames, end_s = sent
    plan = plan_of_lateness(lateness_s)
    last = frame_of([end_s + 5000.0], max(frame.sequence for frame in frames) + 1)
    log = in_log([*frames, last])
    _, outcome = advanced(State("mast-7"), in_batches(log, batches), plan)
    assert outcome.late == 0
    assert_windows(outcome, np.concatenate([(f.times - START_US) // US for f in frames]), end_s + 1000)
    assert all(revision == 0 for *_, revision in revisions(outcome))
    assert len(set(revisions(outcome))) == len(revisions(outcome))


@settings(deadline=None, max_examples=30)
@given(sent=outages(), batches=sizes, cut=st.integers(0, 60))
def test_batches_and_restarts_do_not_matter_to_a_backlog(
    sent: tuple[list[RawFrame], float], batches: list[int], cut: int
) -> None:
    plan = plan_of_lateness(30)
    log = in_log(sent[0])
    alone, singly = advanced(State("mast-7"), one_by_one(log), plan)
    state, outcome = advanced(State("mast-7"), in_batches(log[:cut], batches), plan)
    codec = Codec()
    state = from_record(codec.decode_frame(DeviceState, codec.encode(to_record(state))))
    state, rest = advanced(state, in_batches(log[cut:], batches), plan)
    assert sorted(revisions(outcome) + revisions(rest)) == sorted(revisions(singly))
    assert_same_record(to_record(state), to_record(alone))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 300), cuts=sizes, batches=sizes)
def test_late_rows_are_told_once_more_and_rows_sent_again_count_once(
    seed: int, rows: int, cuts: list[int], batches: list[int]
) -> None:
    """Rows later than the lateness, but not by more than as long again, and some of them twice."""
    random = np.random.default_rng(seed)
    lateness_s = 90
    seconds = np.cumsum(random.choice([1, 7, 40], rows, p=[0.6, 0.35, 0.05]))
    sent = np.concatenate([seconds, random.choice(seconds, rows // 4)])
    sent = sent[np.argsort(sent + random.integers(0, 2 * lateness_s, len(sent)), kind="stable")]
    frames, at = [], 0
    for size in [*cuts, len(sent)]:
        part = sent[at : at + size]
        for some in [part] if len(np.unique(part)) == len(part) else [part[i : i + 1] for i in range(len(part))]:
            if len(some):
                frames.append(frame_of(some, len(frames)))
        at += size
    last = frame_of([int(seconds[-1]) + 5000], len(frames))
    log = in_log([*frames, last])
    plan = plan_of_lateness(lateness_s)
    alone, singly = advanced(State("mast-7"), one_by_one(log), plan)
    state, outcome = advanced(State("mast-7"), in_batches(log, batches), plan)
    assert outcome.late == singly.late == 0
    assert_windows(outcome, sent, float(seconds[-1]) + 1000)
    assert sorted(revisions(outcome)) == sorted(revisions(singly))
    sent_windows = revisions(outcome)
    assert len(set(sent_windows)) == len(sent_windows)
    assert {row[:3] for row in sent_windows if row[3] == 1} <= {row[:3] for row in sent_windows if row[3] == 0}
    assert_same_record(to_record(state), to_record(alone))


@given(st.lists(st.tuples(st.sampled_from([("a",), ("a", "b"), ("c",)]), st.sets(st.integers(-50, 50), min_size=1))))
def test_recent_rows_come_back_from_storage(rows: list[tuple[tuple[str, ...], set[int]]]) -> None:
    recent = Recent()
    for channels, times in rows:
        recent = recent.add(channels, np.array(sorted(times), np.int64), newest=False)
    again = from_columns(to_columns(recent))
    assert list(again.times) == list(recent.times)
    assert all(np.array_equal(again.times[channels], times) for channels, times in recent.times.items())


def test_a_late_reading_corrects_its_window_once() -> None:
    plan = plan_of_lateness(60)
    frames = [frame_of(some, n) for n, some in enumerate([[1, 2], [130], [3], [4], [181], [5], [400]])]
    _, outcome = advanced(State("mast-7"), one_by_one(in_log(frames)), plan)
    first = [(r[3], rev[3]) for r, rev in zip(windows_of(outcome), revisions(outcome), strict=True) if r[:2] == (0, 60)]
    assert first == [(2, 0), (4, 1)]  # sent at 130 s, changed by two, sent once more at 181 s
    assert outcome.late == 1  # the one at 5 s came after that


def test_a_lost_frame_holds_windows_for_an_hour_of_the_devices_time() -> None:
    plan = plan_of_lateness(0)
    frames = [frame_of([10], 0), frame_of([130], 2), *(frame_of([130 + 600 * n], 2 + n) for n in range(1, 8))]
    state, outcome = advanced(State("mast-7"), one_by_one(in_log(frames[:8])), plan)
    assert (state.holes[0].first, state.holes[0].last) == (1, 1)
    assert 0 not in {row[0] for row in windows_of(outcome)}
    state, outcome = advanced(state, one_by_one(in_log(frames[8:], first=8)), plan)
    assert not state.holes
    assert {0, 120} <= {row[0] for row in windows_of(outcome, 60)}


def test_windows_of_live_data_do_not_wait_for_the_backlog() -> None:
    plan = plan_of_lateness(0)
    frames = [frame_of([10], 0), frame_of([9000], 40), frame_of([9100], 41), frame_of([9200], 42)]
    _, outcome = advanced(State("mast-7"), one_by_one(in_log(frames)), plan)
    assert [row[0] for row in windows_of(outcome, 60)] == [9060]  # that of 9000 may yet get rows of the backlog
