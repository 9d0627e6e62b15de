"""Rows of many devices of one kind, judged as one array. Pure.

The same as `judge`, device by device, to the last bit, for what is usual: each device's rows are newer than its last
one, which all its channels share. Devices of which that is not so are pointed out, to be judged alone.
"""

from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.quality import Flag, Test
from streams.quality.checks import Checks, Sequence
from streams.quality.context import FLAG, NEVER, SETTLED, WAITS, Bytes, Context
from streams.quality.cut import Cut, cut_of
from streams.quality.flat_line import Records
from streams.quality.found import Bools, Found, Index
from streams.quality.gap import gaps
from streams.quality.glance import Glance, Steps, glance, largest_of, with_those_before
from streams.quality.gross_range import gross_range
from streams.quality.judge import Correction
from streams.quality.look_back import evaluated_by
from streams.quality.rate_of_change import rates
from streams.quality.settled import Settled
from streams.quality.sheet import Sheet
from streams.quality.spike import perhaps_spikes, spikes
from streams.quality.still_together import perhaps_still, remember_together, wide
from streams.quality.tracks import watched_by


@dataclass(frozen=True, slots=True)
class Memories:
    """What is remembered of d devices' c channels and t tracks: `Context`."""

    times: Longs  # (d, c)
    values: Doubles
    previous: Doubles
    flags: Bytes
    tests: Longs
    first: Bools
    records: list[Records]  # of each device


def memories_of(contexts: Several[Context]) -> Memories:
    """Of devices of one layout."""

    def column(name: str) -> Any:
        return np.array([getattr(each, name) for each in contexts])

    return Memories(
        column("times"),
        column("values"),
        column("previous"),
        column("flags"),
        column("tests"),
        column("first"),
        [each.records for each in contexts],
    )


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of the rows."""

    flags: Bytes  # (n, c)
    tests: Longs  # (n, c)
    alone: Bools  # (d,) devices to be judged alone: what stands here of them is not so
    looked: "Looked | None"  # None: nothing looks back


@dataclass(frozen=True, slots=True)
class Looked:
    """What looking back brought."""

    alone: Bools  # (d,)
    previous: Doubles  # (d, c) the value before each device's last row
    last_flags: Bytes  # (d, c) of the row before these, after the verdict
    last_tests: Longs
    corrected: Bools  # (d,) whose row before these has another flag now
    records: list[Records]  # of each device, after these rows


def judge_together(
    before: Memories | None, cut: Cut, times: Longs, values: Doubles, checks: Checks, *, known: Longs | None
) -> Verdicts:
    """Flags and test bits of calibrated values (n, c); the arguments are those of `judge`.

    `before` may be None if nothing looks back.
    """
    none = np.zeros(len(cut.sizes), bool)
    looked: Looked | None = None
    with np.errstate(all="ignore"):  # across the cuts numbers meet that have nothing to do with each other
        clean, look = values, glance(values, checks.doubt)
        sheet = Sheet(values, look.missing, checks.base, known)
        ranged = gross_range(values, look, checks.spans)
        if ranged:
            sheet.mark(Test.GROSS_RANGE, ranged[1], ranged[0])
            if look.infinite():
                clean = np.where(np.isinf(values), np.nan, values)
                look = glance(clean, checks.doubt)
        for test, pointwise in checks.pointwise:
            doubtful = look.doubtful(pointwise.columns.at)
            sheet.mark(test, pointwise.find(clean, times, look), pointwise.columns.at, doubtful=doubtful)
        if checks.looks_back and before is not None:
            looked = _look_back(before, cut, times, clean, look, checks, sheet)
    sheet.finish()
    return Verdicts(sheet.flags, sheet.tests, none if looked is None else looked.alone, looked)


def _unusual(before: Memories, sequence: Sequence) -> Bools:
    """Devices without a row yet, or whose channels' last rows differ in time or in what they wait for."""
    last = before.times[:, :1]
    waits = np.zeros(before.flags.shape[1], np.uint8) if sequence.waits is None else sequence.waits
    apart = (before.times != last) | before.first | (before.flags & WAITS != waits)
    unusual: Bools = apart.any(axis=1) | (last[:, 0] == NEVER)
    return unusual


class _Waiting:
    """The devices' last rows, as they were sent, and what becomes of them."""

    def __init__(self, before: Memories) -> None:
        self.flags, self.tests = before.flags & np.uint8(FLAG), before.tests.copy()

    def mark(self, test: Test, found: Found, columns: Index) -> None:
        """What a test says of some of the channels."""
        flags = self.flags[:, columns]
        if found.seen is not None:
            flags[(flags == Flag.NOT_EVALUATED) & ~np.isnan(found.seen)] = Flag.GOOD
        there = flags != Flag.MISSING
        for flag, mask in ((Flag.SUSPECT, found.suspect), (Flag.FAIL, found.fail)):
            if mask is not None and mask.any():
                row, column = np.nonzero(mask & there)
                flags[row, column] = np.maximum(flags[row, column], np.uint8(flag))
                self.tests[row, columns[column]] |= np.int64(test)
        self.flags[:, columns] = flags


def _look_back(  # noqa: PLR0917 - as `look_back`
    before: Memories, cut: Cut, times: Longs, here: Doubles, look: Glance, checks: Checks, sheet: Sheet
) -> Looked:
    """The tests that look back in time."""
    wait = _Waiting(before)
    sequence, at = checks.whole, checks.whole.columns.at
    last = np.where(np.isfinite(before.values), before.values, np.nan)
    former = np.empty_like(here)  # the value before each
    former[1:], former[cut.begins] = here[:-1], last
    if sequence.spikes or sequence.rates:
        change = here - former
        moved = Steps(change, largest_of(change))
    if sequence.spikes:
        is_last = np.zeros(len(here), bool)
        is_last[cut.lasts] = True
        inner = np.flatnonzero(~is_last)
        unsaid = bool((wait.flags == Flag.NOT_EVALUATED).any())
        widest = with_those_before(moved, look, at, before.previous, last)
        for spike in sequence.spikes:
            columns = spike.columns.at
            doubtful = unsaid or look.doubtful(at[columns])
            if not doubtful:
                columns = perhaps_spikes(*widest, spike)
                spike = spike.of(np.searchsorted(spike.columns.at, columns))  # noqa: PLW2901 - for some of its channels
            if not len(columns):
                continue
            found = spikes(before.previous[:, columns], last[:, columns], here[cut.begins][:, columns], spike)
            wait.mark(Test.SPIKE, found, columns)
            if len(inner):
                some = here[:, columns]
                found = spikes(former[:-1, columns], some[:-1], some[1:], spike)
                sheet.mark(Test.SPIKE, _rows(found, inner), at[columns], rows=inner, doubtful=doubtful)
    if sequence.rates or sequence.gaps:
        steps_s = np.empty(len(times))
        steps_s[1:] = times[1:] - times[:-1]
        steps_s[cut.begins] = times[cut.begins] - before.times[:, 0]
        steps_s /= 1e6
        for rate in sequence.rates:
            too_fast = rates(moved, steps_s, rate)
            if too_fast is not None:
                sheet.mark(Test.RATE_OF_CHANGE, too_fast[1], at[too_fast[0]])
        if sequence.gaps:
            suspect, fail = gaps(steps_s, sequence.gaps)
            columns = at[sequence.gaps.columns.at]
            sheet.mark(Test.GAP, Found(suspect, fail, None), columns, doubtful=look.doubtful(columns))
    alone, records = _unusual(before, sequence), before.records
    if sequence.tracks.keys:
        watched = watched_by(sequence.tracks, here, times)
        beside = wide(records)
        alone |= perhaps_still(beside, watched, cut, sequence.tracks)
        records = remember_together(records, beside, watched, cut, sequence.tracks)
        evaluated_by(sequence, here, here, times, look, sheet, None)
    open_ = (before.flags & SETTLED) == 0
    changed = ((wait.flags != before.flags & FLAG) | (wait.tests != before.tests)) & open_
    return Looked(alone, former[cut.lasts], wait.flags, wait.tests, changed.any(axis=1), records)


def _rows(found: Found, which: Index) -> Found:
    suspect, fail = (None if mask is None else mask[which] for mask in found[:2])
    return Found(suspect, fail, None if found.seen is None else found.seen[which])


def correction(context: Context, flags: Bytes, tests: Longs) -> Correction:
    """Of a device's last row, whose flags (c,) are these now."""
    at = np.flatnonzero((context.flags & SETTLED) == 0)
    return Correction(int(context.times[0]), at, context.logged[at], context.values[at], flags[at], tests[at])


def contexts_after(  # noqa: PLR0917 - the memory's parts
    contexts: Several[Context],
    cut: Cut,
    times: Longs,
    values: Doubles,
    logged: Doubles,
    verdicts: Verdicts,
    checks: Checks,
) -> Several[Context]:
    """What is to be remembered of each device."""
    looked, waits = verdicts.looked, checks.whole.waits
    if looked is None:
        return contexts
    at = cut.lasts
    flags, tests = verdicts.flags[at], verdicts.tests[at]
    if waits is not None:
        flags |= waits
    c = values.shape[1]
    no_first = np.zeros(c, bool)
    # Copies: a device that falls silent is not to hold the memory of the others.
    return [
        Context(
            context.layout,
            np.full(c, last_us),
            value.copy(),
            as_logged.copy(),
            before.copy(),
            flag.copy(),
            bits.copy(),
            no_first,
            records,
            waits is not None,
        )
        for context, last_us, value, as_logged, before, flag, bits, records in zip(
            contexts,
            times[at].tolist(),
            values[at],
            logged[at],
            looked.previous,
            flags,
            tests,
            looked.records,
            strict=True,
        )
    ]


def settled_together(  # noqa: PLR0917 - the rows' parts
    before: Memories | None, cut: Cut, times: Longs, values: Doubles, verdicts: Verdicts, checks: Checks
) -> tuple[Settled, Cut]:
    """The readings whose flags change no more, and which are whose; a device's carried row comes first: `settled`."""
    waits, looked = checks.whole.waits, verdicts.looked
    if waits is None or looked is None or before is None:
        return Settled(times, values, verdicts.flags), cut
    held = waits != 0
    n, (d, c) = len(times), before.values.shape
    rows, carried = np.arange(n) + cut.of + 1, cut.begins + np.arange(d)
    out_times, out_values = np.empty(n + d, np.int64), np.empty((n + d, c), order="F")
    flags, fresh = np.empty((n + d, c), np.uint8, "F"), np.ones((n + d, c), bool, "F")
    out_times[rows], out_times[carried] = times, before.times[:, 0]
    out_values[rows], out_values[carried] = values, np.where(held, before.values, np.nan)
    flags[rows], flags[carried] = verdicts.flags, np.where(held, looked.last_flags, 0)
    last = rows[cut.lasts]
    flags[np.ix_(last, held)] = 0
    fresh[np.ix_(last, held)] = False
    fresh[carried] = flags[carried] != 0
    return Settled(out_times, out_values, flags, 0, fresh), cut_of((cut.sizes + 1).tolist())
