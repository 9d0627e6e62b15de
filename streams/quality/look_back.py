"""The tests that look back in time, over the cut between two frames. Pure.

Rows are put behind what is remembered of the rows before them, judged as one series, and what the next ones need is
remembered in turn. A `Part` of a frame are its channels whose last rows are of the same time, and the rows that are
later; almost always that is the frame.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs
from schemas.quality import Flag, Test
from streams.quality.checks import Checks, Sequence
from streams.quality.context import FLAG, NEVER, SETTLED, Bytes, Context, put
from streams.quality.flat_line import Records
from streams.quality.found import Bools, Found, Index
from streams.quality.gap import gaps
from streams.quality.glance import Glance, steps, with_those_before
from streams.quality.rate_of_change import rates
from streams.quality.sheet import Sheet
from streams.quality.spike import Spikes, perhaps_spikes, spikes
from streams.quality.tracks import stood_still, watched_by


@dataclass(frozen=True, slots=True)
class Part:
    """Channels of a frame with one last row, and the rows that come after it in order of time."""

    sequence: Sequence
    rows: Index | None  # None: all
    last_us: int  # NEVER: there is no row before


def parts_of(context: Context, times: Longs, checks: Checks) -> list[Part]:
    """The parts of a frame that have rows in order."""
    lasts = context.times[checks.whole.places.at]
    increasing = len(times) == 1 or bool((times[1:] > times[:-1]).all())
    last = int(lasts[0])
    if increasing and last < times[0] and (lasts == last).all():
        return [Part(checks.whole, None, last)]
    parts = []
    for last in np.unique(lasts).tolist():
        newest = np.maximum.accumulate(np.append(last, times))[:-1]
        rows = np.flatnonzero(times > newest)
        if len(rows):
            sequence = checks.part(np.flatnonzero(lasts == last))
            parts.append(Part(sequence, None if len(rows) == len(times) else rows, last))
    return parts


@dataclass(frozen=True, slots=True)
class Seen:
    """What looking back at a part of a frame brought. Arrays are of the part's k channels."""

    last_flags: Bytes  # of the row before these, after the verdict
    last_tests: Longs
    changed: bool  # the verdict may have changed them
    previous: Doubles  # the value before these rows' last
    row: int  # which row of the frame is the last
    time_us: int
    first: bool  # it is the first of the series
    records: Records

    def remembered(self, context: Context, part: Part, values: Doubles, logged: Doubles, sheet: Sheet) -> Context:
        """The memory after these rows."""
        sequence = part.sequence
        of, to = sequence.columns, sequence.places
        row, whole = self.row, to.whole and of.whole
        records, waits = self.records, sequence.waits_first if self.first else sequence.waits
        flags = sheet.flags[row] if whole else sheet.flags[row, of.at]
        if sequence.tracks.keys and not sequence.track_places.whole:
            records = put(context.records, sequence.track_places.at, records)

        def there(old: npt.NDArray[Any], new: Any) -> npt.NDArray[Any]:
            array = old.copy()
            array[to.at] = new
            return array

        return Context(
            layout=context.layout,
            times=np.full(len(to.at), self.time_us) if whole else there(context.times, self.time_us),
            values=values[row].copy() if whole else there(context.values, values[row, of.at]),
            logged=logged[row].copy() if whole else there(context.logged, logged[row, of.at]),
            previous=self.previous if whole else there(context.previous, self.previous),
            flags=_with(flags, waits) if whole else there(context.flags, _with(flags, waits)),
            tests=sheet.tests[row].copy() if whole else there(context.tests, sheet.tests[row, of.at]),
            first=np.full(len(to.at), self.first) if whole else there(context.first, self.first),
            records=records,
            waiting=waits is not None or (context.waiting and not whole),
        )


def _with(flags: Bytes, waits: Bytes | None) -> Bytes:
    return flags.copy() if waits is None else flags | waits


def look_back(  # noqa: PLR0917 - what is remembered, the rows, and what is known of them
    context: Context, part: Part, times: Longs, values: Doubles, look: Glance, sheet: Sheet, *, late: bool
) -> Seen:
    """Judge the rows of a part, and the row before them that waited for its verdict.

    Args:
        context: what is remembered.
        part: which rows and channels.
        times: (n,) of the frame.
        values: (n, c) of the frame, infinite ones taken out.
        look: at these values.
        sheet: takes the findings.
        late: whether some rows of the frame are, so that the sheet does not take tests that look back for granted.
    """
    sequence, rows = part.sequence, part.rows
    places, at = sequence.places, sequence.columns.at
    frame = values if rows is None else values[rows]
    times = times if rows is None else times[rows]
    here = sequence.columns.of(frame)
    begun = part.last_us != NEVER
    last = places.among(context.values)
    last = np.where(np.isfinite(last), last, np.nan)
    wait = _Waiting(places.among(context.flags), places.among(context.tests))
    if late:
        sheet.evaluated(np.broadcast_to(sequence.good, here.shape), at, rows)
    if sequence.spikes or sequence.rates:
        moved = steps(here, last)
        if sequence.spikes:
            before = places.among(context.previous), last
            widest = with_those_before(moved, look, at, *before)
            for spike in sequence.spikes:
                _spikes(spike, before, here, widest, look, sheet, wait, at=at, rows=rows)
    if sequence.rates or sequence.gaps:
        steps_s = np.empty(len(times))
        steps_s[0] = times[0] - part.last_us if begun else 0
        steps_s[1:] = times[1:] - times[:-1]
        steps_s /= 1e6
        if sequence.rates:
            since_s = steps_s if begun else np.append(1.0, steps_s[1:])
            for rate in sequence.rates:  # the first of the series has a missing value before it, and is good
                too_fast = rates(moved, since_s, rate)
                if too_fast is not None:
                    sheet.mark(Test.RATE_OF_CHANGE, too_fast[1], at[too_fast[0]], rows=rows)
        if sequence.gaps:
            first = places.among(context.first) if begun else None
            _gaps(sequence, steps_s, sheet, rows=rows, wait=wait, first=first, look=look)
    records = context.records
    if sequence.tracks.keys:
        records = _still(context, sequence, sheet, here=here, frame=frame, times=times, rows=rows, look=look)
    return Seen(
        last_flags=wait.flags,
        last_tests=wait.tests,
        changed=wait.changed,
        previous=here[-2] if len(here) > 1 else last,
        row=len(values) - 1 if rows is None else int(rows[-1]),
        time_us=int(times[-1]),
        first=not begun and len(here) == 1,
        records=records,
    )


class _Waiting:
    """The last row before a frame, as it was sent, and what becomes of it."""

    def __init__(self, flags: Bytes, tests: Longs) -> None:
        self.flags, self.tests = flags & np.uint8(FLAG), tests.copy()
        self.unsaid = bool((self.flags == Flag.NOT_EVALUATED).any())
        self.changed = False

    def mark(self, test: Test, found: Found, columns: Index) -> None:
        """What a test says in its first row of some of the channels."""
        if found.seen is not None and self.unsaid:
            self.good(columns[~np.isnan(found.seen[0])])
        for flag, mask in ((Flag.SUSPECT, found.suspect), (Flag.FAIL, found.fail)):
            if mask is not None and mask[0].any():
                at = columns[mask[0]]
                at = at[self.flags[at] != Flag.MISSING]
                self.changed = True
                self.flags[at] = np.maximum(self.flags[at], np.uint8(flag))
                self.tests[at] |= np.int64(test)

    def good(self, columns: Index) -> None:
        """These were evaluated."""
        self.flags[columns[self.flags[columns] == Flag.NOT_EVALUATED]] = Flag.GOOD
        self.changed = True


def _from_second(found: Found) -> Found:
    suspect, fail = (None if mask is None else mask[1:] for mask in found[:2])
    return Found(suspect, fail, None if found.seen is None else found.seen[1:])


def _spikes(  # noqa: PLR0917
    spike: Spikes,
    before: tuple[Doubles, Doubles],
    here: Doubles,
    widest: tuple[Doubles, Doubles],
    look: Glance,
    sheet: Sheet,
    wait: _Waiting,
    *,
    at: Index,
    rows: Index | None,
) -> None:
    """Rows that have a neighbour on both sides now; `before` are the two before these, `at` the frame's columns."""
    columns = spike.columns.at
    doubtful = wait.unsaid or look.doubtful(at[columns])
    if not doubtful:
        columns = perhaps_spikes(*widest, spike)
        if not len(columns):
            return
        spike = spike.of(np.searchsorted(spike.columns.at, columns))
    some = np.concatenate((before[0][None, columns], before[1][None, columns], here[:, columns]))
    found = spikes(some[:-2], some[1:-1], some[2:], spike)
    wait.mark(Test.SPIKE, found, columns)
    which = np.arange(len(here) - 1) if rows is None else rows[:-1]
    sheet.mark(Test.SPIKE, _from_second(found), at[columns], rows=which, doubtful=doubtful)


def _gaps(
    sequence: Sequence,
    steps_s: Doubles,
    sheet: Sheet,
    *,
    rows: Index | None,
    wait: _Waiting,
    first: Bools | None,
    look: Glance,
) -> None:
    """`first`: which of the channels have had one row (k,); None: none has had any."""
    test = sequence.gaps
    if test is None:
        return
    if first is None:
        if len(steps_s) == 1:  # nothing to compare with: not evaluated until the next row comes
            return
        steps_s[0] = steps_s[1]
    suspect, fail = gaps(steps_s, test)
    at = sequence.columns.at[test.columns.at]
    sheet.mark(Test.GAP, Found(suspect, fail, None), at, rows=rows, doubtful=look.doubtful(at))
    if first is not None and first.any():
        waits = first[test.columns.at]
        gone = [None if mask is None else mask[:1] & waits for mask in (suspect, fail)]
        wait.mark(Test.GAP, Found(gone[0], gone[1], np.where(waits, 0.0, np.nan)[None]), test.columns.at)


def _still(
    context: Context,
    sequence: Sequence,
    sheet: Sheet,
    *,
    here: Doubles,
    frame: Doubles,
    times: Longs,
    rows: Index | None,
    look: Glance,
) -> Records:
    """Flat lines, ice and cups at their offset; what the tracks remember then."""
    tracks, at = sequence.tracks, sequence.columns.at
    before = context.records
    if not sequence.track_places.whole:
        before = before.of(sequence.track_places.at)
    records, stood = stood_still(before, here, frame, times, tracks)
    for found in stood:
        row = found.rows if rows is None else rows[found.rows]
        sheet.flag(row, at[found.columns], found.flag, found.bits)
    evaluated_by(sequence, here, frame, times, look, sheet, rows)
    return records


def evaluated_by(  # noqa: PLR0917
    sequence: Sequence, here: Doubles, frame: Doubles, times: Longs, look: Glance, sheet: Sheet, rows: Index | None
) -> None:
    """Where a cup's offset, or the temperature that ice needs, was known."""
    tracks, at = sequence.tracks, sequence.columns.at
    stalled, icing = at[tracks.columns.at[tracks.stalled]], at[tracks.columns.at[tracks.icing]]
    if look.doubtful(stalled):
        watched = watched_by(tracks, here, times)
        sheet.evaluated(~np.isnan(watched[:, tracks.stalled]), stalled, rows)
    if look.doubtful(icing):
        sheet.evaluated(~np.isnan(tracks.cold.temperature.of(frame)), icing, rows)


def replaced(context: Context, times: Longs, parts: list[Part], checks: Checks) -> Context:
    """Late rows of the very time of a channel's last row replace it: it is to be corrected no more."""
    lasts = context.times[checks.whole.places.at]
    late = np.isin(lasts, times)
    for part in parts:  # those whose last row came in its order just now, and once only
        columns = part.sequence.columns.at
        late[columns] &= (times == lasts[columns[0]]).sum() > 1
    if not late.any():
        return context
    flags = context.flags.copy()
    flags[checks.whole.places.at[late]] |= np.uint8(SETTLED)
    return replace(context, flags=flags)
