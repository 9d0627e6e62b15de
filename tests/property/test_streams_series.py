"""However a series is cut into frames and batches, what comes out is what the whole series says."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from core_examples import (
    CHANNELS,
    LATENESS_S,
    LENGTHS_S,
    PLAN,
    SPIKED,
    START_US,
    US,
    advanced,
    as_known_now,
    assert_same_record,
    in_batches,
    in_log,
    make_frame,
    one_by_one,
    refusals_of,
    rows_of,
    steps_of,
    windows_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.frames import RawFrame
from schemas.quality import Flag
from streams.pipeline import Outcome, look
from streams.plan import plan_of
from streams.state import State, to_record
from streams.windows import Open, Rows, gather, merge, statistics

seeds = st.integers(0, 2**32 - 1)
sizes = st.lists(st.integers(1, 40), max_size=40)


@dataclass
class Series:
    times: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


def series_of(seed: int, rows: int) -> Series:
    """Rows that come late by less than the lateness, with gaps, holes and readings out of range."""
    random = np.random.default_rng(seed)
    times = START_US + np.cumsum(random.choice([US // 2, US, 7 * US, 250 * US], rows, p=[0.3, 0.5, 0.18, 0.02]))
    order = np.argsort(times + random.integers(0, LATENESS_S * US, rows), kind="stable")
    values = random.normal([0, 180, 10], [20, 60, 3], (rows, 3))
    values[random.random((rows, 3)) < 0.05] = np.nan
    return Series(times[order], values[order])


def frames_of(series: Series, cuts: list[int]) -> list[RawFrame]:
    frames, at = [], 0
    for size in [*cuts, len(series.times)]:
        part = slice(at, at + size)
        if len(series.times[part]):
            frame = make_frame(np.zeros(len(series.times[part])), series.values[part], channels=CHANNELS)
            frame.times, frame.sequence = series.times[part], len(frames)
            frames.append(frame)
        at += size
    return frames


def by_numpy(outcome: Outcome, length_s: int, watermark_us: int) -> Iterator[tuple[Any, ...]]:
    """Windows of all that was stored, each computed from its readings at once."""
    times = np.concatenate([frame.times for frame in outcome.clean])
    values = np.concatenate([frame.values for frame in outcome.clean])
    flags = np.concatenate([frame.quality for frame in outcome.clean])
    starts = times // (length_s * US) * (length_s * US)
    for start in np.unique(starts).tolist():
        if start + (length_s + LATENESS_S) * US > watermark_us:
            continue
        for column, channel in enumerate(CHANNELS):
            if channel == "gust" and length_s == 60:
                continue
            v, f = values[starts == start, column], flags[starts == start, column]
            good = v[(f == Flag.GOOD) | (f == Flag.NOT_EVALUATED)]
            counts = [int((f == flag).sum()) for flag in (Flag.SUSPECT, Flag.FAIL, Flag.MISSING)]
            yield ((start - START_US) // US, length_s, channel, len(good), length_s, *counts, *said(good, channel))


def said(good: npt.NDArray[np.float64], channel: str) -> tuple[float, ...]:
    nan = float("nan")
    if channel == "vane":
        resultant = np.exp(1j * np.radians(good)).sum() if len(good) else nan
        return (np.degrees(np.angle(resultant)) % 360, nan, nan, nan)
    mean, low, high = (good.mean(), good.min(), good.max()) if len(good) else (nan, nan, nan)
    return (mean, good.std(ddof=1) if len(good) > 1 else nan, low, high)


def assert_same_window(ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
    assert ours[:8] == theirs[:8]
    if ours[2] == "vane":
        apart = (ours[8] - theirs[8] + 180) % 360 - 180
        assert np.isnan([ours[8], theirs[8]]).all() or apart == pytest.approx(0, abs=1e-6)
    else:
        assert ours[8:] == pytest.approx(theirs[8:], rel=1e-9, abs=1e-9, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(seed=seeds, rows=st.integers(1, 400), cuts=sizes, batches=sizes)
def test_windows_equal_numpys_on_the_whole_series(seed: int, rows: int, cuts: list[int], batches: list[int]) -> None:
    series = series_of(seed, rows)
    log = in_log(frames_of(series, cuts))
    state, outcome = advanced(State("mast-7"), in_batches(log, batches), PLAN)
    assert outcome.late == 0
    assert state.watermark_us == series.times.max()
    for length_s in LENGTHS_S:
        ours, theirs = windows_of(outcome, length_s), list(by_numpy(outcome, length_s, state.watermark_us))
        assert len(ours) == len(theirs)
        for mine, theirs_ in zip(ours, theirs, strict=True):
            assert_same_window(mine, theirs_)


@settings(deadline=None, max_examples=60)
@given(seed=seeds, rows=st.integers(1, 300), cuts=sizes, batches=sizes)
def test_windows_are_made_of_verdicts_however_the_series_is_cut(
    seed: int, rows: int, cuts: list[int], batches: list[int]
) -> None:
    series = series_of(seed, rows)
    _, whole = advanced(State("mast-7"), one_by_one(in_log(frames_of(series, []))), SPIKED)
    log = in_log(frames_of(series, cuts))
    for some in (in_batches(log, batches), one_by_one(log)):
        state, outcome = advanced(State("mast-7"), some, SPIKED)
        assert steps_of(outcome) == steps_of(whole)
        assert outcome.late == 0
        for length_s in LENGTHS_S:
            ours, theirs = windows_of(outcome, length_s), list(by_numpy(whole, length_s, state.watermark_us))
            assert len(ours) == len(theirs)
            for mine, theirs_ in zip(ours, theirs, strict=True):
                assert_same_window(mine, theirs_)


@settings(deadline=None, max_examples=60)
@given(seed=seeds, rows=st.integers(1, 300), cuts=sizes)
def test_any_cut_of_a_series_is_calibrated_to_the_same_bits(seed: int, rows: int, cuts: list[int]) -> None:
    series = series_of(seed, rows)
    _, whole = advanced(State("mast-7"), one_by_one(in_log(frames_of(series, []))), PLAN)
    _, cut = advanced(State("mast-7"), one_by_one(in_log(frames_of(series, cuts))), PLAN)
    for name in ("times", "logged", "values", "quality", "tests"):
        joined = np.concatenate([getattr(frame, name) for frame in cut.clean])
        assert joined.tobytes() == getattr(whole.clean[0], name).tobytes()


@st.composite
def awkward_frames(draw: st.DrawFn) -> list[RawFrame]:
    """A log of a careless device: frames sent again, rows too early, too late, twice; channels that come and go."""
    frames = []
    for number in range(draw(st.integers(1, 12))):
        channels = draw(
            st.sampled_from([CHANNELS, ("speed",), ("vane", "speed"), ("speed", "what"), ("gust", "gust"), ()])
        )
        seconds = [3 * s + 60 * number for s in draw(st.lists(st.integers(-40, 900), max_size=8))]
        seconds += draw(st.sampled_from([[], [], [], [1e12], [-1e10]]))
        frame = make_frame(
            seconds, np.random.default_rng(number).normal(10, 20, (len(seconds), len(channels))), channels=channels
        )
        frame.sequence = draw(st.sampled_from([number, number, number, 0, 100 + number]))
        frame.spool_id = draw(st.sampled_from(["old", "new"]))
        frames.append(frame)
    return frames


@settings(deadline=None, max_examples=150)
@given(frames=awkward_frames(), batches=sizes, steps_back=st.lists(st.integers(0, 5), min_size=12, max_size=12))
@pytest.mark.parametrize("generation", [0, 1])
def test_results_do_not_depend_on_batching(
    frames: list[RawFrame], batches: list[int], steps_back: list[int], generation: int
) -> None:
    plan = plan_of(PLAN.device.model_copy(update={"silence_limit_s": 60.0}))
    log = in_log(frames)
    log = [type(a)(a.frame, a.offset, a.appended_us - back * US) for a, back in zip(log, steps_back, strict=False)]
    before, _ = look(State("mast-7"), plan, expected_us=0, now_us=START_US)
    assert before.alarms.standing
    alone, singly = advanced(before, one_by_one(log), plan, generation=generation)
    for cut in (batches, []):
        together, outcome = advanced(before, in_batches(log, cut), plan, generation=generation)
        assert rows_of(outcome) == rows_of(singly)
        assert refusals_of(outcome) == refusals_of(singly)
        assert (outcome.late, outcome.repeated) == (singly.late, singly.repeated)
        assert steps_of(outcome) == steps_of(singly)
        for length_s in LENGTHS_S:
            ours, theirs = windows_of(outcome, length_s), windows_of(singly, length_s)
            assert len(ours) == len(theirs)
            for mine, theirs_ in zip(ours, theirs, strict=True):
                assert mine[:8] == theirs_[:8]
                assert mine[8:] == pytest.approx(theirs_[8:], rel=1e-7, abs=1e-6, nan_ok=True)
        assert_same_record(to_record(together), to_record(alone))


@settings(deadline=None, max_examples=150)
@given(frames=awkward_frames(), batches=sizes)
def test_windows_and_alarms_of_waiting_readings_do_not_depend_on_batching(
    frames: list[RawFrame], batches: list[int]
) -> None:
    log = in_log(frames)
    _, singly = advanced(State("mast-7"), one_by_one(log), SPIKED)
    for cut in (batches, []):
        _, outcome = advanced(State("mast-7"), in_batches(log, cut), SPIKED)
        assert outcome.late == singly.late
        assert steps_of(outcome) == steps_of(singly)
        for length_s in LENGTHS_S:
            ours, theirs = windows_of(outcome, length_s), windows_of(singly, length_s)
            assert len(ours) == len(theirs)
            for mine, theirs_ in zip(ours, theirs, strict=True):
                assert mine[:8] == theirs_[:8]
                assert mine[8:] == pytest.approx(theirs_[8:], rel=1e-7, abs=1e-6, nan_ok=True)


@settings(deadline=None, max_examples=80)
@given(frames=awkward_frames())
def test_no_reading_is_lost_to_windows_while_it_waits(frames: list[RawFrame]) -> None:
    """Long after, a frame of another channel closes every window: each reading is in one of them, or was late."""
    frames = [frame for frame in frames if frame.channels == CHANNELS]
    for sequence, frame in enumerate(frames):
        frame.sequence, frame.spool_id = sequence, "one"
        frame.times = frame.times + 1000 * sequence  # none is sent again
    last = make_frame([1e6], [[10.0]], channels=("gust",), sequence=len(frames), spool="one")
    _, outcome = advanced(State("mast-7"), one_by_one(in_log([*frames, last])), SPIKED)
    rejected = sum(part.arrival.frame.values.size for part in outcome.refused)
    received = sum(frame.values.size for frame in frames)
    cells = sum(sum(row[3:4] + row[5:8]) for row in as_known_now(outcome, 600))
    by_minute = sum(sum(row[3:4] + row[5:8]) for row in as_known_now(outcome, 60))
    assert cells + by_minute + outcome.late == (received - rejected) // 3 * 5


@settings(deadline=None, max_examples=80)
@given(frames=awkward_frames())
def test_every_reading_received_is_stored_or_refused_once(frames: list[RawFrame]) -> None:
    _, outcome = advanced(State("mast-7"), [in_log(frames)], PLAN)
    seen: set[tuple[str, int]] = set()
    received = 0
    for frame in frames:
        identity = (frame.spool_id, frame.sequence)
        received += 0 if identity in seen else frame.values.size
        seen.add(identity)
    stored = sum(frame.values.size for frame in outcome.clean)
    refused = sum(part.arrival.frame.values.size for part in outcome.refused)
    assert stored + refused == received
    assert outcome.repeated == len(frames) - len(seen)


CIRCULAR = np.array([False, True])


def opened(seed: int) -> Open:
    random = np.random.default_rng(seed)
    rows = int(random.integers(0, 12))
    times = START_US + random.integers(0, 1800, rows) * US
    flags = random.choice([1, 2, 3, 4, 9], (rows, 2))
    return gather(600, ("a", "b"), Rows(times, random.normal(100, 30, (rows, 2)), flags), CIRCULAR)


def assert_same_windows(a: Open, b: Open) -> None:
    for name in ("starts", "counts", "suspect", "failed", "missing", "minima", "maxima"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    for name in ("means", "m2s"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9, abs=1e-9), name
    plain = ~CIRCULAR
    assert statistics(a, plain).sds == pytest.approx(statistics(b, plain).sds, rel=1e-9, abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(a=seeds.map(opened), b=seeds.map(opened), c=seeds.map(opened))
def test_merging_is_associative_and_commutative(a: Open, b: Open, c: Open) -> None:
    assert_same_windows(merge(a, b, CIRCULAR), merge(b, a, CIRCULAR))
    left = merge(merge(a, b, CIRCULAR), c, CIRCULAR)
    assert_same_windows(left, merge(a, merge(b, c, CIRCULAR), CIRCULAR))
