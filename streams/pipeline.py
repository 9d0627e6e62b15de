"""The stage on one page: admit, validate, calibrate, judge, window, alarm.

Pure: `(state, input, plan) -> (state, outcome)`.

Called once per device and batch with all its frames in log order. Frames of the same channels become one array, so
that a thousand single readings cost a few numpy calls; results do not depend on how the log was cut into batches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from schemas.alarms import Alarm
from schemas.columnar import Longs
from schemas.frames import CleanFrame, WindowFrame
from schemas.quality import Test
from streams import alarms, windows
from streams.calibration import calibrate
from streams.plan import Plan, Selection, WindowPlan
from streams.quality.judge import judge
from streams.state import NEVER, State, restarted
from streams.validation import Arrival, Refused, Run, runs


@dataclass(slots=True)
class Outcome:
    """What a step has produced, in order."""

    clean: list[CleanFrame] = field(default_factory=list)
    windows: list[WindowFrame] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    repeated: int = 0  # frames that had been received before
    late: int = 0  # readings behind a closed window: stored, in no window


def advance(state: State, arrivals: Sequence[Arrival], plan: Plan, *, generation: int) -> tuple[State, Outcome]:
    """Everything that the frames of one device bring about.

    Args:
        arrivals: in log order; those at or below the state's position are skipped.
        generation: of the partition; a higher one than the state's restarts the device's data state.
    """
    outcome = Outcome()
    if generation > state.generation:
        state = restarted(state, generation)
    arrivals = [arrival for arrival in arrivals if arrival.offset > state.readings_position]
    if not arrivals:
        return state, outcome
    identities = [(arrival.frame.spool_id, arrival.frame.sequence) for arrival in arrivals]
    received, new = state.received.add(identities)
    fresh = [arrival for arrival, is_new in zip(arrivals, new, strict=True) if is_new]
    outcome.repeated = len(arrivals) - len(fresh)
    for run, refused in runs(fresh, plan):
        outcome.refused += refused
        if run:
            state = _advance_run(state, run, plan, outcome)
    state = replace(state, received=received, readings_position=arrivals[-1].offset)
    heard = [arrival.appended_us for arrival in arrivals]
    # Only where there is an alarm to clear does it matter which of them was first; the broker's clock may step back.
    for appended_us in heard if state.alarms else [max(heard)]:
        state = hear(state, appended_us, plan, outcome)
    return state, outcome


def hear(state: State, appended_us: int, plan: Plan, outcome: Outcome) -> State:
    """The broker took something of the device at `appended_us`."""
    if appended_us <= state.heard_us:
        return state
    active, alarm = alarms.heard(state.alarms, plan.device, heard_us=appended_us)
    if alarm:
        outcome.alarms.append(alarm)
    return replace(state, heard_us=appended_us, alarms=active)


def look_for_silence(state: State, plan: Plan, *, expected_us: int, now_us: int) -> tuple[State, Outcome]:
    """Judge by wall clock whether the device is silent.

    `expected_us` is since when it has been expected, for a device that was never heard.
    """
    outcome = Outcome()
    since = state.heard_us or expected_us
    active, alarm = alarms.silence(state.alarms, plan.device, heard_us=since, now_us=now_us)
    if alarm:
        outcome.alarms.append(alarm)
        state = replace(state, alarms=active)
    return state, outcome


def _advance_run(state: State, run: Run, plan: Plan, outcome: Outcome) -> State:
    """Frames of the same channels, as one array."""
    selection = plan.select(run.channels)
    values, missing = calibrate(run.values, run.times, selection.segments)
    flags, tests = judge(values, selection.spans)
    if missing.any():
        tests = tests | np.where(missing, np.int64(Test.NOT_CALIBRATED), np.int64(0))
    clean = CleanFrame(state.device_id, state.generation, run.times, run.channels, run.values, values, flags, tests)
    outcome.clean.append(clean)
    return _advance_windows(state, run, clean, selection, plan, outcome)


def _watermarks(before_us: int, run: Run) -> tuple[Longs | int, int]:
    """For each row the device's watermark before its frame came, so that batching changes nothing; and after all."""
    if len(run.rows) == 1:
        return before_us, max(before_us, int(run.times.max()))
    starts = np.cumsum([0, *run.rows[:-1]])
    latest = np.maximum.accumulate(np.append(before_us, np.maximum.reduceat(run.times, starts)))
    return np.repeat(latest[:-1], run.rows), int(latest[-1])


def _partial_until(state: State, run: Run) -> int:
    """After a replay from the middle of the data, the windows before its first reading's are partial."""
    if state.generation == 0 or state.watermark_us != NEVER or run.first_sequence == 0:
        return state.partial_until_us
    return int(run.times[: run.rows[0]].min())


def _advance_windows(  # noqa: PLR0917 - state, input, policy and outcome, as everywhere on this page
    state: State, run: Run, clean: CleanFrame, selection: Selection, plan: Plan, outcome: Outcome
) -> State:
    """Put the rows into their windows and close those that the watermark has passed."""
    before, watermark = _watermarks(state.watermark_us, run)
    partial_until = _partial_until(state, run)
    under_way = {group.length_s: group for group in state.open}
    still_open = []
    for window, (of, to) in zip(plan.windows, selection.windows, strict=True):
        length_us = window.length_s * windows.US
        ends = clean.times - np.mod(clean.times, length_us) + length_us
        late = ends + plan.lateness_us <= before
        values, flags = clean.values[:, of], clean.quality[:, of]
        times = clean.times
        if late.any():
            outcome.late += int(late.sum()) * len(of)
            values, flags, times = values[~late], flags[~late], times[~late]
        names = tuple(window.channels[at] for at in to)
        new = windows.gather(window.length_s, names, windows.Rows(times, values, flags), window.circular[to])
        old = under_way.get(window.length_s) or windows.empty(window.length_s, window.channels)
        both = windows.merge(
            windows.realign(old, window.channels), windows.realign(new, window.channels), window.circular
        )
        closed = both.starts + length_us + plan.lateness_us <= watermark
        if closed.any():
            full = both.pick(closed & (both.starts >= partial_until))
            outcome.windows += _window_frames(state, full, window)
            both = both.pick(~closed)
        still_open.append(both)
    return replace(state, watermark_us=watermark, partial_until_us=partial_until, open=tuple(still_open))


WINDOWS_MAX = 16_384
"""Windows in one record: 1 MB with common channel names, 5 MB with the longest; `windows` takes 16 MB. An upload of
10-minute data closes a window with each row: a year of one mast is two million."""


def _window_frames(state: State, closed: windows.Open, plan: WindowPlan) -> Iterator[WindowFrame]:
    """Closed windows that hold a reading, as records of bounded size; by start, then channel."""
    seen = closed.seen() > 0
    rows, columns = np.nonzero(seen)
    if not len(rows):
        return
    said = windows.statistics(closed, plan.circular)
    for at in range(0, len(rows), WINDOWS_MAX):
        row, column = rows[at : at + WINDOWS_MAX], columns[at : at + WINDOWS_MAX]
        whole = len(row) == seen.size
        yield WindowFrame(
            device_id=state.device_id,
            generation=state.generation,
            channels=plan.channels * len(seen) if whole else tuple(plan.channels[c] for c in column.tolist()),
            starts=closed.starts[row],
            lengths_s=np.full(len(row), plan.length_s, np.int64),
            revisions=np.zeros(len(row), np.int64),
            counts=closed.counts[row, column],
            expected=np.full(len(row), plan.expected, np.int64),
            suspect=closed.suspect[row, column],
            failed=closed.failed[row, column],
            missing=closed.missing[row, column],
            means=said.means[row, column],
            sds=said.sds[row, column],
            minima=said.minima[row, column],
            maxima=said.maxima[row, column],
        )
