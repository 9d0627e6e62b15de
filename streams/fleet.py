"""Devices of one kind, advanced as one array: what a pile of small frames of many devices costs least by. Pure.

The same as `advance`, device by device, to the last bit. Rows of all devices stand one device behind the other;
calibration, tests and windows are a few numpy calls for all of them, and only what is each device's own is made singly.
Whatever is not usual is left to `advance`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.columnar import Longs
from schemas.frames import CleanFrame, WindowFrame
from schemas.quality import Test
from streams import windows
from streams.calibration import calibrate_each
from streams.pipeline import Outcome, Usual, corrected, judge_rules, usual
from streams.plan import Plan, Selection, WindowPlan
from streams.quality.context import NEVER, Context, fitted
from streams.quality.cut import Cut, cut_of
from streams.quality.settled import Settled
from streams.quality.together import (
    contexts_after,
    correction,
    judge_together,
    memories_of,
    settled_together,
)
from streams.recent import Recent
from streams.state import State
from streams.validation import Batch, Facts, facts_of
from streams.windowing import WINDOWS_MAX

Bools = npt.NDArray[np.bool_]

FEW = 3  # devices of one kind below which one by one is as fast


@dataclass(frozen=True, slots=True)
class Member:
    """A device, and what came of it."""

    state: State
    batch: Batch
    plan: Plan


@dataclass(slots=True)
class _Due:
    """A member whose batch is usual."""

    at: int
    state: State
    batch: Batch
    plan: Plan
    facts: Facts
    usual: Usual
    selection: Selection
    segment: int
    context: Context


def advance_fleet(members: Sequence[Member], *, generation: int) -> list[tuple[State, Outcome] | None]:
    """`advance` for each of them; None: that one is to be advanced by itself, and nothing has been done."""
    done: list[tuple[State, Outcome] | None] = [None] * len(members)
    if len(members) < FEW:
        return done
    kinds: dict[object, list[_Due]] = {}
    for at, (member, facts) in enumerate(zip(members, facts_of([m.batch for m in members]), strict=True)):
        due = _due(at, member, facts, generation)
        if due is not None:
            kinds.setdefault(due.selection.kind, []).append(due)
    for some in kinds.values():
        if len(some) >= FEW:
            for due, advanced in zip(some, _advance(some), strict=True):
                done[due.at] = advanced
    return done


def _due(at: int, member: Member, facts: Facts, generation: int) -> _Due | None:
    state, batch, plan = member.state, member.batch, member.plan
    changes = usual(state, batch, facts, plan, generation)
    if changes is None or plan.rules.sensor_silence or (generation and state.watermark_us == NEVER):
        return None
    selection = plan.select(batch.channels)
    if selection.kind is None:
        return None
    segment = selection.segments.at(*facts.times_us)
    if segment is None:
        return None
    context = plan.course.begin() if state.quality is None else fitted(state.quality, plan.course.layout)
    if context.waiting and not selection.checks.looks_back:
        return None
    lengths = {window.length_s: window.channels for window in plan.windows}
    if any(lengths.get(group.length_s) != group.channels for group in state.open):
        return None
    return _Due(at, state, batch, plan, facts, changes, selection, segment, context)


def _advance(dues: list[_Due]) -> list[tuple[State, Outcome] | None]:
    """Devices of one kind."""
    selection, plan = dues[0].selection, dues[0].plan
    cut = cut_of([len(due.batch.times) for due in dues])
    times = np.concatenate([due.batch.times for due in dues])
    logged = np.asfortranarray(np.concatenate([due.batch.values for due in dues]))
    numbers = np.array([due.selection.numbers[due.segment] for due in dues])
    values, missing = calibrate_each(logged, numbers, cut.sizes)
    known = None if missing is None else np.where(missing, np.int64(Test.NOT_CALIBRATED), np.int64(0))
    checks, contexts = selection.checks, [due.context for due in dues]
    memories = memories_of(contexts) if checks.looks_back else None
    verdicts = judge_together(memories, cut, times, values, checks, known=known)
    watermarks = np.array([due.state.watermark_us for due in dues])
    alone = verdicts.alone if memories is None else verdicts.alone | (memories.times[:, 0] != watermarks)
    settled, cut_settled = settled_together(memories, cut, times, values, verdicts, checks)
    after = times[cut.lasts]
    lengths = []
    for number, (window, (of, _)) in enumerate(zip(plan.windows, selection.windows, strict=True)):
        rows = settled
        if len(of) < len(selection.channels):
            rows = Settled(settled.times, settled.values[:, of], settled.flags[:, of])
        lengths.append(_windows(dues, number, window, rows, cut_settled, after))
        alone |= lengths[-1].alone
    contexts = list(contexts_after(contexts, cut, times, values, logged, verdicts, checks))
    parts, parts_settled = cut.parts(), cut_settled.parts()
    longest_us = plan.windows[-1].length_s * windows.US if plan.windows else 0
    begins = after - 2 * plan.lateness_us - longest_us  # from here on windows may still change
    done: list[tuple[State, Outcome] | None] = []
    for at, (due, own, begin, is_alone) in enumerate(zip(dues, parts, begins.tolist(), alone.tolist(), strict=True)):
        if is_alone:
            done.append(None)
            continue
        state, outcome, facts = due.state, Outcome(), due.facts
        looked = verdicts.looked
        if looked is not None and looked.corrected[at]:
            again = correction(due.context, looked.last_flags[at], looked.last_tests[at])
            outcome.clean += corrected(state, selection.channels, [again])
        outcome.clean.append(
            CleanFrame(
                state.device_id,
                state.generation,
                times[own],
                due.batch.channels,
                logged[own],
                values[own],
                verdicts.flags[own],
                verdicts.tests[own],
            )
        )
        news = [frame for length in lengths for frame in length.closed[at]]
        outcome.windows += news
        recent = _recent(state.recent, due.batch.channels, times[own], begin) if plan.windows else state.recent
        state = State(
            device_id=state.device_id,
            generation=state.generation,
            readings_position=facts.offsets[1],
            heartbeats_position=state.heartbeats_position,
            actions_position=state.actions_position,
            heard_us=max(state.heard_us, facts.appended_us[1]),
            watermark_us=facts.times_us[1],
            partial_until_us=state.partial_until_us,
            received=due.usual.received,
            open=tuple([length.open[at] for length in lengths]),
            recent=recent,
            holes=state.holes,
            quality=contexts[at],
            alarms=replace(state.alarms, tally=due.usual.tally),
        )
        if due.selection.thresholds is not None or (news and due.plan.rules.figures):
            mine = parts_settled[at]
            fresh = None if settled.fresh is None else settled.fresh[mine]
            rows = Settled(settled.times[mine], settled.values[mine], settled.flags[mine], 0, fresh)
            state = judge_rules(state, rows, due.selection, due.plan, outcome, news)
        done.append((state, outcome))
    return done


def _recent(before: Recent, channels: tuple[str, ...], times: Longs, begin_us: int) -> Recent:
    """`Recent.add` and `Recent.keep` of the newest rows."""
    return before.add(channels, times, newest=True).keep([(begin_us, FOREVER)])


FOREVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class _Length:
    """What became of the windows of one length."""

    open: list[windows.Open]  # of each device
    closed: list[list[WindowFrame]]
    alone: Bools  # (d,) devices whose windows are not usual


def _windows(  # noqa: PLR0917
    dues: list[_Due], number: int, plan: WindowPlan, rows: Settled, cut: Cut, after: Longs
) -> _Length:
    """Put the settled rows into their windows, and send those that the devices' watermarks have passed.

    A window is known by its device and its place in time, as one number: `windows.Open` has it for its start.
    """
    length_us, channels = plan.length_s * windows.US, plan.channels
    lateness_us = dues[0].plan.lateness_us
    groups = [_under_way(due.state, plan.length_s) for due in dues]
    some = [(at, group) for at, group in enumerate(groups) if group is not None and len(group.starts)]
    starts = rows.times - np.mod(rows.times, length_us)
    lows = [int(starts.min()), *(int(group.starts[0]) for _, group in some)]
    base = min(lows)
    span = (max([int(starts.max()), *(int(group.starts[-1]) for _, group in some)]) - base) // length_us + 1
    keys = cut.of * span + (starts - base) // length_us
    both = windows.gathered(plan.length_s, channels, keys, rows.values, rows.flags, plan.circular)
    if some:
        at = np.array([at for at, _ in some])
        sizes = [len(group.starts) for _, group in some]
        old = np.concatenate([group.starts for _, group in some])
        old = np.repeat(at, sizes) * span + (old - base) // length_us
        longs = np.concatenate([group.longs for _, group in some], axis=1)
        doubles = np.concatenate([group.doubles for _, group in some], axis=1)
        both = windows.merge(windows.Open(plan.length_s, channels, old, longs, doubles), both, plan.circular)
    of = both.starts // span
    both = replace(both, starts=base + both.starts % span * length_us)
    passed = both.starts + length_us + lateness_us <= after[of]
    closed: list[list[WindowFrame]] = [[] for _ in dues]
    alone = np.zeros(len(dues), bool)
    if passed.any():
        partial = np.array([due.state.partial_until_us for due in dues])[of]
        cells = (both.told == windows.OPEN) & (both.seen() > 0) & passed[:, None]
        said = cells & (both.starts >= partial)[:, None]
        _say(dues, both, of, said, plan, closed)
        both.told[cells] = windows.SENT
        over = both.starts + length_us + 2 * lateness_us <= after[of]
        alone[of[over & (both.told > windows.SENT).any(axis=1)]] = True
        alone |= np.bincount(of, said.sum(axis=1), len(dues)) > WINDOWS_MAX
        both, of = both.pick(~over), of[~over]
    ends = np.searchsorted(of, np.arange(1, len(dues) + 1)).tolist()
    begins = [0, *ends[:-1]]
    starts, longs, doubles = both.starts, both.longs, both.doubles
    # Copies: a device that falls silent is not to hold the windows of the others.
    still_open = [
        windows.Open(
            plan.length_s,
            channels,
            starts[begin:end].copy(),
            longs[:, begin:end].copy(),
            doubles[:, begin:end].copy(),
        )
        for begin, end in zip(begins, ends, strict=True)
    ]
    return _Length(still_open, closed, alone)


def _under_way(state: State, length_s: int) -> windows.Open | None:
    for group in state.open:
        if group.length_s == length_s:
            return group
    return None


def _say(  # noqa: PLR0917
    dues: list[_Due], both: windows.Open, of: Longs, said: Bools, plan: WindowPlan, closed: list[list[WindowFrame]]
) -> None:
    """A record of each device's windows `said` (w, c); by start, then channel."""
    row, column = np.nonzero(said)
    if not len(row):
        return
    numbers = windows.statistics(both, plan.circular)
    columns = [
        both.starts[row],
        np.full(len(row), plan.length_s, np.int64),
        np.zeros(len(row), np.int64),
        both.counts[row, column],
        np.full(len(row), plan.expected, np.int64),
        *(getattr(both, name)[row, column] for name in ("suspect", "failed", "missing")),
        *(getattr(numbers, name)[row, column] for name in ("means", "sds", "minima", "maxima")),
    ]
    names = [plan.channels[at] for at in column.tolist()]
    devices, begins = np.unique(of[row], return_index=True)
    ends = [*begins[1:].tolist(), len(row)]
    for at, begin, end in zip(devices.tolist(), begins.tolist(), ends, strict=True):
        state = dues[at].state
        part = [array[begin:end] for array in columns]
        closed[at].append(WindowFrame(state.device_id, state.generation, tuple(names[begin:end]), *part))
