"""The stage on one page: admit, validate, calibrate, judge, window, alarm.

Pure: `(state, input, plan) -> (state, outcome)`.

Called once per device and batch with all its frames in log order. Frames of the same channels become one array, so
that a thousand single readings cost a few numpy calls; results do not depend on how the log was cut into batches.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.alarms import ActionAnswer, Alarm, AlarmActionEvent
from schemas.columnar import Longs
from schemas.frames import CleanFrame, WindowFrame
from schemas.quality import Test
from schemas.records import Heartbeat
from streams import windows
from streams.alarms import watch
from streams.alarms.memory import NEVER, Tally
from streams.alarms.values import Rows
from streams.alarms.watch import TALLY_US, StationView, Taken
from streams.calibration import calibrate
from streams.holes import Holes, after_frame, in_line, passed
from streams.plan import Plan, Selection, WindowPlan
from streams.quality.judge import Correction, judge
from streams.quality.settled import Settled, held
from streams.sequences import Received
from streams.state import State, restarted
from streams.validation import Arrival, Batch, Facts, Refused, Run, as_run, facts_of, is_sound, runs

Bools = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Outcome:
    """What a step has produced, in order."""

    clean: list[CleanFrame] = field(default_factory=list)
    windows: list[WindowFrame] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)
    answers: list[ActionAnswer] = field(default_factory=list)  # to operators' actions
    repeated: int = 0  # frames that had been received before
    late: int = 0  # readings behind a closed window: stored, in no window


def advance(state: State, arrivals: Sequence[Arrival] | Batch, plan: Plan, *, generation: int) -> tuple[State, Outcome]:
    """Everything that the frames of one device bring about.

    Args:
        arrivals: in log order; those at or below the state's position are skipped.
        generation: of the partition; a higher one than the state's restarts the device's data state.
    """
    outcome = Outcome()
    if isinstance(arrivals, Batch):
        usual = _advance_usual(state, arrivals, plan, generation, outcome)
        if usual is not None:
            return usual, outcome
        arrivals = arrivals.arrivals()
    if generation > state.generation:
        state = restarted(state, generation)
    arrivals = [arrival for arrival in arrivals if arrival.offset > state.readings_position]
    if not arrivals:
        return state, outcome
    before = state.received
    received, new = before.add(_identities(arrivals))
    fresh = [arrival for arrival, is_new in zip(arrivals, new, strict=True) if is_new]
    outcome.repeated = len(arrivals) - len(fresh)
    appended_us = max(arrival.appended_us for arrival in arrivals)
    tidy = not state.holes and in_line(state.received, _identities(fresh), from_start=generation == 0)
    for some in [fresh] if tidy else [[each] for each in fresh]:
        state = _advance_some(state, some, plan, outcome, appended_us=appended_us, tidy=tidy)
    state = _count(state, before, received, fresh, outcome, plan)
    state = replace(state, received=received, readings_position=arrivals[-1].offset)
    for arrival in fresh if state.alarms.live.entries else ():
        states = watch.frame_passed(state.alarms, plan, arrival.appended_us, outcome.alarms)
        state = replace(state, alarms=states)
    heard = [arrival.appended_us for arrival in arrivals]
    # Only where there is an alarm to clear does it matter which of them was first; the broker's clock may step back.
    for appended_us in heard if state.alarms.live.entries else [max(heard)]:
        state = hear(state, appended_us, plan, outcome)
    return state, outcome


def _identities(arrivals: Iterable[Arrival]) -> list[tuple[str, int]]:
    return [(arrival.frame.spool_id, arrival.frame.sequence) for arrival in arrivals]


def _advance_some(
    state: State, arrivals: list[Arrival], plan: Plan, outcome: Outcome, *, appended_us: int, tidy: bool
) -> State:
    """New frames that come one behind the other (`tidy`), or one frame."""
    holes = state.holes
    taken = list(runs(arrivals, plan))
    if not tidy:
        run = taken[0][0]
        span = (int(run.times.min()), int(run.times.max())) if run else None
        frame = _identities(arrivals)[0]
        holes = after_frame(
            holes,
            state.received,
            frame,
            span_us=span,
            watermark_us=(state.watermark_us, max(state.watermark_us, span[1]) if span else state.watermark_us),
            lateness_us=plan.lateness_us,
            from_start=state.generation == 0,
        )
        state = replace(state, received=state.received.add([frame])[0])
    for run, refused in taken:
        outcome.refused += refused
        if run:
            state = _advance_run(state, run, plan, outcome, holes)
            if plan.rules.sensor_silence:
                state = _hear_sensors(state, run, appended_us, plan, outcome)
    return replace(state, holes=holes) if holes is not state.holes else state


class Usual(NamedTuple):
    """What a batch changes of a state beside what its readings do."""

    received: Received
    tally: Tally


def usual(state: State, batch: Batch, facts: Facts, plan: Plan, generation: int) -> Usual | None:
    """What almost always comes: the next frames in sequence and time, and nothing wrong with them. None: it is not."""
    alarms = state.alarms
    if generation != state.generation or facts.offsets[0] <= state.readings_position or not facts.in_line:
        return None
    if alarms.reread_until_us != NEVER or alarms.frames_missing or state.holes or not facts.clock_ahead:
        return None
    if alarms.live.entries and not watch.of_readings_only(alarms, plan):
        return None
    first, last = facts.sequences
    if first and generation == 0 and batch.spool_id not in state.received.spools:
        return None  # frames before it are to come
    received = state.received.follow(batch.spool_id, first, last)
    if received is None or received.holes() or not is_sound(batch.channels, facts, plan, state.watermark_us):
        return None
    tally = watch.tallied(alarms.tally, facts.appended_us, facts.readings)
    if tally is None:
        tally = watch.tallied_anew(alarms.tally, batch.appended_us, batch.rows * len(batch.channels))
    return None if tally is None else Usual(received, tally)


def _advance_usual(state: State, batch: Batch, plan: Plan, generation: int, outcome: Outcome) -> State | None:
    """The short way for what is usual; None: it is not, and nothing has been done."""
    facts = facts_of([batch])[0]
    changes = usual(state, batch, facts, plan, generation)
    if changes is None:
        return None
    run = as_run(batch)
    state = _advance_run(state, run, plan, outcome, ())
    appended_us = facts.appended_us[1]
    if plan.rules.sensor_silence:
        state = _hear_sensors(state, run, appended_us, plan, outcome)
    return replace(
        state,
        received=changes.received,
        readings_position=facts.offsets[1],
        heard_us=max(state.heard_us, appended_us),
        alarms=replace(state.alarms, tally=changes.tally),
    )


def hear(state: State, appended_us: int, plan: Plan, outcome: Outcome) -> State:
    """The broker took something of the device at `appended_us`."""
    if appended_us <= state.heard_us:
        return state
    states = watch.heard(state.alarms, plan, appended_us, outcome.alarms) if state.alarms.live.entries else state.alarms
    return replace(state, heard_us=appended_us, alarms=states)


def threw(  # noqa: PLR0917 - state, input, policy and outcome, as everywhere on this page
    state: State, arrival: Arrival, what: str, plan: Plan, outcome: Outcome, generation: int
) -> State:
    """`advance` threw on a frame: it is set aside, and somebody is told, unless it is read again."""
    if generation > state.generation:
        state = restarted(state, generation)
    state = hear(state, arrival.appended_us, plan, outcome)
    if state.watermark_us <= state.alarms.reread_until_us != NEVER:
        return state
    return replace(state, alarms=watch.frame_threw(state.alarms, plan, what, arrival.appended_us, outcome.alarms))


def hear_heartbeat(  # noqa: PLR0917 - state, input, policy and outcome, as everywhere on this page
    state: State, beat: Heartbeat, offset: int, appended_us: int, plan: Plan, outcome: Outcome
) -> State:
    """An edge told of itself; one at or below the state's position is skipped."""
    if offset <= state.heartbeats_position:
        return state
    states = watch.after_heartbeat(state.alarms, plan, beat, appended_us, outcome.alarms)
    return hear(replace(state, alarms=states, heartbeats_position=offset), appended_us, plan, outcome)


def apply_action(  # noqa: PLR0917
    state: State, event: AlarmActionEvent, offset: int, appended_us: int, plan: Plan, outcome: Outcome
) -> State:
    """Somebody did something about an alarm; what is at or below the state's position was answered before."""
    if offset <= state.actions_position:
        return state
    states, answer = watch.apply_action(state.alarms, plan, event, now_us=appended_us, out=outcome.alarms)
    outcome.answers.append(answer)
    return replace(state, alarms=states, actions_position=offset)


def look(
    state: State,
    plan: Plan,
    *,
    expected_us: int,
    now_us: int,
    judge_silence: bool = True,
    station: StationView | None = None,
) -> tuple[State, Outcome]:
    """Judge by wall clock what time alone brings about, the device's silence first of all.

    `expected_us` is since when it has been expected, for a device that was never heard.
    """
    outcome = Outcome()
    states = watch.look(
        state.alarms,
        plan,
        heard_us=state.heard_us or expected_us,
        now_us=now_us,
        judge_silence=judge_silence,
        station=station,
        out=outcome.alarms,
    )
    return (state if states is state.alarms else replace(state, alarms=states)), outcome


def _hear_sensors(state: State, run: Run, appended_us: int, plan: Plan, outcome: Outcome) -> State:
    """Sensors with a rule on silence, of which a reading came that is not missing."""
    wanted = {bound.channel for bound in plan.rules.sensor_silence}.intersection(run.channels)
    there: npt.NDArray[np.bool_] = np.logical_or.reduce(~np.isnan(run.values), axis=0)
    channels = [name for name, came in zip(run.channels, there.tolist(), strict=True) if came and name in wanted]
    if not channels:
        return state
    return replace(state, alarms=watch.sensors_heard(state.alarms, plan, channels, appended_us, outcome.alarms))


def _count(  # noqa: PLR0917 - state, input, policy and outcome, as everywhere on this page
    state: State, before: Received, received: Received, fresh: Sequence[Arrival], outcome: Outcome, plan: Plan
) -> State:
    """Missing frames and rejected readings, as the alarms want them: frame by frame, in log order."""
    states, tally = state.alarms, state.alarms.tally
    if not fresh or state.watermark_us <= states.reread_until_us != NEVER:
        return state
    holes = received.holes()
    appended = [arrival.appended_us for arrival in fresh]
    in_period = min(appended) >= tally.from_us and max(appended) < tally.from_us + TALLY_US
    if in_period and not (holes or states.frames_missing or outcome.refused):
        readings = tally.readings + sum(arrival.frame.values.size for arrival in fresh)
        return replace(state, alarms=replace(states, tally=Tally(tally.from_us, readings, tally.rejected)))
    refused: dict[int, int] = {}
    for part in outcome.refused:
        offset = part.arrival.offset
        refused[offset] = refused.get(offset, 0) + part.arrival.frame.values.size
    missing = [holes] * len(fresh)
    if holes != states.frames_missing:
        so_far = before
        for at, arrival in enumerate(fresh):
            so_far, _ = so_far.add([(arrival.frame.spool_id, arrival.frame.sequence)])
            missing[at] = so_far.holes()
    taken = [
        Taken(arrival.appended_us, arrival.frame.values.size, refused.get(arrival.offset, 0), lacking)
        for arrival, lacking in zip(fresh, missing, strict=True)
    ]
    return replace(state, alarms=watch.after_frames(states, plan, taken, outcome.alarms))


def _advance_run(state: State, run: Run, plan: Plan, outcome: Outcome, holes: Holes) -> State:
    """Frames of the same channels, as one array; `holes` are those after it."""
    selection = plan.select(run.channels)
    # Channel by channel in memory: what is done to a channel at a time is twice to ten times as fast that way.
    values, missing = calibrate(np.asfortranarray(run.values), run.times, selection.segments)
    known = None if missing is None else np.where(missing, np.int64(Test.NOT_CALIBRATED), np.int64(0))
    judged = judge(state.quality or plan.course.begin(), run.times, values, run.values, selection.checks, known=known)
    outcome.clean += corrected(state, run.channels, judged.corrections)
    clean = CleanFrame(
        state.device_id,
        state.generation,
        run.times,
        run.channels,
        run.values,
        values,
        judged.flags,
        judged.tests,
    )
    outcome.clean.append(clean)
    settled, recent = judged.settled, state.recent
    if plan.windows:
        newest = run.newest or (int(run.times[0]) > state.watermark_us and bool((run.times[1:] > run.times[:-1]).all()))
        repeated = None if newest else recent.repeated(run.channels, run.times)
        if repeated is not None:
            settled = _without(settled, repeated)
        recent = recent.add(run.channels, run.times, newest=newest)
    state = replace(state, quality=judged.context, recent=recent)
    after, news = _advance_windows(state, run, settled, selection, plan, outcome, holes)
    return judge_rules(after, settled, selection, plan, outcome, news)


def _without(settled: Settled, repeated: Bools) -> Settled:
    """Readings that were sent again are in their windows already."""
    flags = settled.flags.copy()
    flags[settled.carried :][repeated] = 0
    return replace(settled, flags=flags)


def judge_rules(  # noqa: PLR0917
    state: State, settled: Settled, selection: Selection, plan: Plan, outcome: Outcome, news: list[WindowFrame]
) -> State:
    """Alarm rules on the rows and on the windows that they closed."""
    frames = news if plan.rules.figures else []
    if selection.thresholds is None and not frames:
        return state
    rows = Rows(settled.times, settled.values, settled.flags, settled.fresh)
    states = watch.after_readings(state.alarms, plan, rows, selection.thresholds, frames, outcome.alarms)
    return replace(state, alarms=states)


def corrected(state: State, channels: tuple[str, ...], corrections: Sequence[Correction]) -> Iterator[CleanFrame]:
    """Earlier rows whose flags have changed since they were sent: they are sent again."""
    for each in corrections:
        names = channels if len(each.columns) == len(channels) else tuple(channels[at] for at in each.columns.tolist())
        time = np.array([each.time], np.int64)
        yield CleanFrame(
            state.device_id, state.generation, time, names, each.logged, each.values, each.flags, each.tests
        )


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
    state: State, run: Run, settled: Settled, selection: Selection, plan: Plan, outcome: Outcome, holes: Holes
) -> tuple[State, list[WindowFrame]]:
    """Put the settled rows into their windows, send those that the watermark has passed and those that changed since.

    Also returns which of the windows sent are news: closed by the device's newest readings.
    """
    before: Longs | int
    if run.newest:
        before, watermark = state.watermark_us, int(run.times[-1])
    else:
        before, watermark = _watermarks(state.watermark_us, run)
    carried = settled.carried  # in time when they came: behind the watermark now, they have been in their windows
    if carried and not isinstance(before, int):
        before = np.concatenate((np.full(carried, state.watermark_us), before))
    partial_until = _partial_until(state, run)
    all_in_order = selection.checks.looks_back and selection.checks.whole.places.whole  # no other channel can wait
    overtakes = state.quality is not None and state.quality.waiting and not all_in_order
    then, now = _Clock(state.watermark_us, plan, state.holes), _Clock(watermark, plan, holes)
    under_way = {group.length_s: group for group in state.open}
    still_open, news = [], []
    for window, (of, to) in zip(plan.windows, selection.windows, strict=True):
        length_us = window.length_s * windows.US
        rows, names, circular = _rows_of(settled, window, of, to)
        both = windows.realign(
            under_way.get(window.length_s) or windows.empty(window.length_s, window.channels), window.channels
        )
        # Of rows that are newer than all before them only those that waited can be in a window that is closed.
        asked = settled.times if not run.newest else settled.times[:carried]
        starts = asked - np.mod(asked, length_us)
        over = then.over(starts, length_us, before)
        sent = over if not plan.lateness_us else then.sent(starts, length_us, before)
        in_time = rows
        if sent.any():
            outcome.late += int(over[carried:].sum()) * len(of)
            kept = np.ones(len(settled.times), bool)
            kept[: len(sent)] = ~sent
            in_time = rows.pick(kept)
        new = windows.gather(window.length_s, names, in_time, circular)
        both = windows.merge(both, windows.realign(new, window.channels), window.circular)
        if overtakes:
            both = windows.merge(both, _overtaken(state, window, then, now), window.circular)
        both, closed = _close(state, both, now, then, window, partial_until)
        news += closed[0]
        outcome.windows += closed[0] + closed[1]
        if plan.lateness_us and sent.any():
            late = np.zeros(len(settled.times), bool)
            late[carried : len(sent)] = (sent & ~over)[carried:]
            new = windows.gather(window.length_s, names, rows.pick(late), circular)
            both = windows.merge_late(both, windows.realign(new, window.channels), window.circular)
        gone = now.over(both.starts, length_us)
        if gone.any():
            outcome.windows += _changed(state, both, gone & (both.starts >= partial_until), window)
            both = both.pick(~gone)
        still_open.append(both)
    recent = state.recent.keep(now.spans(plan)) if plan.windows else state.recent
    state = replace(
        state, watermark_us=watermark, partial_until_us=partial_until, open=tuple(still_open), recent=recent
    )
    return state, news


def _rows_of(
    settled: Settled, window: WindowPlan, of: npt.NDArray[np.intp], to: npt.NDArray[np.intp]
) -> tuple[windows.Rows, tuple[str, ...], Bools]:
    """The columns that have such windows, with their names, and which are directions."""
    if len(of) == settled.values.shape[1] == len(window.channels) and bool((of == to).all()):
        return windows.Rows(settled.times, settled.values, settled.flags), window.channels, window.circular
    rows = windows.Rows(settled.times, settled.values[:, of], settled.flags[:, of])
    return rows, tuple(window.channels[at] for at in to), window.circular[to]


@dataclass(frozen=True, slots=True)
class _Clock:
    """How far a device's time has come for its windows."""

    watermark_us: int
    plan: Plan
    holes: Holes

    def sent(self, starts: Longs, length_us: int, watermark_us: Longs | int | None = None) -> Bools:
        """Which windows are closed, and sent."""
        mark = self.watermark_us if watermark_us is None else watermark_us
        return passed(starts, length_us, watermark_us=mark, lag_us=self.plan.lateness_us, more_us=0, holes=self.holes)

    def over(self, starts: Longs, length_us: int, watermark_us: Longs | int | None = None) -> Bools:
        """Which windows take no late reading any more."""
        mark, late = self.watermark_us if watermark_us is None else watermark_us, self.plan.lateness_us
        return passed(starts, length_us, watermark_us=mark, lag_us=2 * late, more_us=late, holes=self.holes)

    def spans(self, plan: Plan) -> list[tuple[int, int]]:
        """Times whose windows may still change: [from, to)."""
        longest_us = plan.windows[-1].length_s * windows.US

        def begin(time_us: int) -> int:
            return max(time_us - 2 * plan.lateness_us - longest_us, NEVER)

        waiting = ((begin(hole.low_us), hole.high_us + longest_us) for hole in self.holes)
        return [(begin(self.watermark_us), FOREVER), *waiting]


FOREVER = int(np.iinfo(np.int64).max)


def _close(  # noqa: PLR0917
    state: State, both: windows.Open, now: _Clock, then: _Clock, window: WindowPlan, partial_until: int
) -> tuple[windows.Open, tuple[list[WindowFrame], list[WindowFrame]]]:
    """Send the windows that are closed now; which are news comes first, then those that had waited for a hole."""
    length_us = window.length_s * windows.US
    closed = now.sent(both.starts, length_us)
    if not closed.any():
        return both, ([], [])
    cells = closed[:, None] & (both.told == windows.OPEN)
    old = both.starts + length_us + now.plan.lateness_us <= then.watermark_us
    whole = both.starts >= partial_until
    said: tuple[list[WindowFrame], list[WindowFrame]] = (
        list(_window_frames(state, both, closed & whole & ~old, window, windows.OPEN, 0)),
        list(_window_frames(state, both, closed & whole & old, window, windows.OPEN, 0)),
    )
    return windows.with_told(both, np.where(cells & (both.seen() > 0), windows.SENT, both.told)), said


def _changed(state: State, both: windows.Open, gone: Bools, window: WindowPlan) -> list[WindowFrame]:
    """What late readings have made of windows that take no more of them."""
    if not (both.told > windows.SENT).any():
        return []
    return [
        *_window_frames(state, both, gone, window, windows.CHANGED, 1),
        *_window_frames(state, both, gone, window, windows.LATE, 0),
    ]


def _overtaken(state: State, window: WindowPlan, then: _Clock, now: _Clock) -> windows.Open:
    """Readings that wait for their successors while other channels close their windows: with the flags they have."""
    if state.quality is None:
        return windows.empty(window.length_s, window.channels)
    waiting = held(state.quality)
    length_us = window.length_s * windows.US
    starts = waiting.times - np.mod(waiting.times, length_us)
    has_window = np.array([name in window.channels for name in waiting.channels], bool)
    waiting = waiting.pick(now.sent(starts, length_us) & ~then.sent(starts, length_us) & has_window)
    row = np.arange(len(waiting.times))
    column = np.array([window.channels.index(name) for name in waiting.channels], np.intp)
    values, flags = np.zeros((2, len(row), len(window.channels)))
    values[row, column], flags[row, column] = waiting.values, waiting.flags
    order = np.argsort(waiting.times, kind="stable")
    rows = windows.Rows(waiting.times[order], values[order], flags[order].astype(np.uint8))
    return windows.gather(window.length_s, window.channels, rows, window.circular)


WINDOWS_MAX = 16_384
"""Windows in one record: 1 MB with common channel names, 5 MB with the longest; `windows` takes 16 MB. An upload of
10-minute data closes a window with each row: a year of one mast is two million."""


def _window_frames(  # noqa: PLR0917 - the state, which windows, and what is said of them
    state: State, both: windows.Open, which: Bools, plan: WindowPlan, told: int, revision: int
) -> Iterator[WindowFrame]:
    """Windows that hold a reading and are so far told, as records of bounded size; by start, then channel."""
    if not which.any():
        return
    closed = both.pick(which)
    seen = (closed.seen() > 0) & (closed.told == told)
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
            revisions=np.full(len(row), revision, np.int64),
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
