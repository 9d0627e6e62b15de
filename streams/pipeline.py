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
from schemas.frames import CleanFrame, WindowFrame
from schemas.quality import Test
from schemas.records import Heartbeat
from streams.alarms import actions, silence
from streams.alarms.arrivals import (
    TALLY_US,
    Taken,
    after_frames,
    after_heartbeat,
    frame_passed,
    frame_threw,
    of_readings_only,
    tallied,
    tallied_anew,
)
from streams.alarms.memory import NEVER, Tally
from streams.alarms.readings import after_readings
from streams.alarms.silence import StationView
from streams.alarms.values import Rows
from streams.calibration import calibrate
from streams.holes import Holes, after_frame, in_line
from streams.plan import Plan, Selection
from streams.quality.judge import Correction, judge
from streams.quality.settled import Settled
from streams.sequences import Received
from streams.state import State, restarted
from streams.validation import Arrival, Batch, Facts, Refused, Run, as_run, facts_of, is_sound, runs
from streams.windowing import advance_windows

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
        states = frame_passed(state.alarms, plan, arrival.appended_us, outcome.alarms)
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
    if alarms.live.entries and not of_readings_only(alarms, plan):
        return None
    first, last = facts.sequences
    if first and generation == 0 and batch.spool_id not in state.received.spools:
        return None  # frames before it are to come
    received = state.received.follow(batch.spool_id, first, last)
    if received is None or received.holes() or not is_sound(batch.channels, facts, plan, state.watermark_us):
        return None
    tally = tallied(alarms.tally, facts.appended_us, facts.readings)
    if tally is None:
        tally = tallied_anew(alarms.tally, batch.appended_us, batch.rows * len(batch.channels))
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
    states = state.alarms
    if states.live.entries:
        states = silence.heard(states, plan, appended_us, outcome.alarms)
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
    return replace(state, alarms=frame_threw(state.alarms, plan, what, arrival.appended_us, outcome.alarms))


def hear_heartbeat(  # noqa: PLR0917 - state, input, policy and outcome, as everywhere on this page
    state: State, beat: Heartbeat, offset: int, appended_us: int, plan: Plan, outcome: Outcome
) -> State:
    """An edge told of itself; one at or below the state's position is skipped."""
    if offset <= state.heartbeats_position:
        return state
    states = after_heartbeat(state.alarms, plan, beat, appended_us, outcome.alarms)
    return hear(replace(state, alarms=states, heartbeats_position=offset), appended_us, plan, outcome)


def apply_action(  # noqa: PLR0917
    state: State, event: AlarmActionEvent, offset: int, appended_us: int, plan: Plan, outcome: Outcome
) -> State:
    """Somebody did something about an alarm; what is at or below the state's position was answered before."""
    if offset <= state.actions_position:
        return state
    states, answer = actions.apply_action(state.alarms, plan, event, now_us=appended_us, out=outcome.alarms)
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
    states = silence.look(
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
    return replace(state, alarms=silence.sensors_heard(state.alarms, plan, channels, appended_us, outcome.alarms))


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
    return replace(state, alarms=after_frames(states, plan, taken, outcome.alarms))


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
    windowed = advance_windows(state, run, settled, selection, plan, holes)
    outcome.windows += windowed.sent
    outcome.late += windowed.late
    return judge_rules(windowed.state, settled, selection, plan, outcome, windowed.news)


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
    states = after_readings(state.alarms, plan, rows, selection.thresholds, frames, outcome.alarms)
    return replace(state, alarms=states)


def corrected(state: State, channels: tuple[str, ...], corrections: Sequence[Correction]) -> Iterator[CleanFrame]:
    """Earlier rows whose flags have changed since they were sent: they are sent again."""
    for each in corrections:
        names = channels if len(each.columns) == len(channels) else tuple(channels[at] for at in each.columns.tolist())
        time = np.array([each.time], np.int64)
        yield CleanFrame(
            state.device_id, state.generation, time, names, each.logged, each.values, each.flags, each.tests
        )
