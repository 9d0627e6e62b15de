"""A device's windows while readings come: rows go in, and windows go out as the watermark passes them. Pure.

`windows.py` knows what is in a window; here is when it begins, closes, waits for frames that are missing, and is sent
once more because of what came late.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.columnar import Longs
from schemas.frames import WindowFrame
from streams import windows
from streams.alarms.memory import NEVER
from streams.holes import Holes, passed
from streams.plan import Plan, Selection, WindowPlan
from streams.quality.settled import Settled, held
from streams.state import State
from streams.validation import Run

Bools = npt.NDArray[np.bool_]


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


class Windowed(NamedTuple):
    """What rows have done to a device's windows."""

    state: State
    sent: list[WindowFrame]
    news: list[WindowFrame]  # of those sent, the ones that the device's newest readings have closed
    late: int  # readings behind a closed window


def advance_windows(  # noqa: PLR0917 - state, input and policy, as on the stage's page
    state: State, run: Run, settled: Settled, selection: Selection, plan: Plan, holes: Holes
) -> Windowed:
    """Put the settled rows into their windows, send those that the watermark has passed and those that changed since.

    Args:
        holes: those after the run.
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
    still_open: list[windows.Open] = []
    said: list[WindowFrame] = []
    news: list[WindowFrame] = []
    behind = 0
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
            behind += int(over[carried:].sum()) * len(of)
            kept = np.ones(len(settled.times), bool)
            kept[: len(sent)] = ~sent
            in_time = rows.pick(kept)
        new = windows.gather(window.length_s, names, in_time, circular)
        both = windows.merge(both, windows.realign(new, window.channels), window.circular)
        if overtakes:
            both = windows.merge(both, _overtaken(state, window, then, now), window.circular)
        both, closed = _close(state, both, now, then, window, partial_until)
        news += closed[0]
        said += closed[0] + closed[1]
        if plan.lateness_us and sent.any():
            late = np.zeros(len(settled.times), bool)
            late[carried : len(sent)] = (sent & ~over)[carried:]
            new = windows.gather(window.length_s, names, rows.pick(late), circular)
            both = windows.merge_late(both, windows.realign(new, window.channels), window.circular)
        gone = now.over(both.starts, length_us)
        if gone.any():
            said += _changed(state, both, gone & (both.starts >= partial_until), window)
            both = both.pick(~gone)
        still_open.append(both)
    recent = state.recent.keep(now.spans(plan)) if plan.windows else state.recent
    state = replace(
        state, watermark_us=watermark, partial_until_us=partial_until, open=tuple(still_open), recent=recent
    )
    return Windowed(state, said, news, behind)


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
