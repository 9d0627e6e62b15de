"""Stored readings as blocks of rows, times by columns, in order of time. SQL on a given connection.

A block is one slice of time: the server packs each sensor's readings, which numpy reads in place (`packed`). Slices are
cut so that a block holds about `READINGS_A_SLICE` readings, and never more than `READINGS_MAX`: memory is bounded,
however long the period. All slices are of one snapshot; the next one is fetched while the last one is written.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import psycopg

from dashboard.exports.bins import Bins, binned, joined
from dashboard.exports.choice import Choice, Flagged
from dashboard.exports.clock import micros
from dashboard.exports.request import STEP_S, Figure, Interval
from dashboard.packed import TIME, packed, unpacked
from schemas.columnar import Doubles, Longs
from schemas.quality import Flag

READINGS_A_SLICE = 250_000
"""Some 20 MB of a block with all its copies. Below some 100,000 the statements' own time begins to show."""
READINGS_MAX = 4 * READINGS_A_SLICE
"""A slice that turns out to hold more is halved and asked again."""
CELLS_MAX = 2_000_000
"""Of a block, holes included: loggers whose clocks differ share no row. 16 MB, and as text more."""
FIRST_SLICE_S = 3_600.0  # where nobody knows how dense the readings lie
GROWTH_MAX = 4.0
SPAN_MIN = timedelta(milliseconds=1)
Fetched = tuple[list[tuple[Any, ...]], datetime]
"""Arrays by sensor, and up to where."""

LOGGED = """
SELECT sensor_id, {columns}
FROM (SELECT sensor_id, time, {value}, quality FROM readings
      WHERE sensor_id = ANY (%(ids)s) AND time >= %(begin)s AND time < %(end)s LIMIT %(most)s) r
GROUP BY sensor_id"""

# Continuous aggregates, already without what flags leave out. `time` is the beginning of the interval.
STATISTICS = """
SELECT sensor_id, {columns}
FROM {view} WHERE sensor_id = ANY (%(ids)s) AND time >= %(begin)s AND time < %(end)s
GROUP BY sensor_id"""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one slice, by time. `values[i]` is the i-th column of the choice, NaN where there is nothing."""

    times_us: Longs  # (n,) UTC, ascending, unique
    values: tuple[Doubles, ...]  # (n,) each
    until_us: int  # all before it has been read


@dataclass(slots=True)
class Tally:
    """What was read and what was left out of it, by cause. Counts readings of logged rows, values of longer ones."""

    rows: int = 0
    readings: int = 0
    first_us: int | None = None
    last_us: int | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, cause: str, count: int) -> None:
        if count:
            self.left_out[cause] = self.left_out.get(cause, 0) + count

    def note(self, times_us: Longs) -> None:
        """Rows that are written."""
        if len(times_us):
            self.rows += len(times_us)
            self.first_us = int(times_us[0]) if self.first_us is None else self.first_us
            self.last_us = int(times_us[-1])


@contextmanager
def snapshot(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """All that is read within is of one moment, and nothing can be written."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def blocks(
    connection: psycopg.Connection[Any], choice: Choice, tally: Tally, *, stopped: Callable[[], bool] = lambda: False
) -> Generator[Block, None, None]:
    """All rows of the choice, slice by slice. Ends early where `stopped` says so between slices."""
    if choice.view is not None:
        reader: _Slices = _Statistics(choice, tally)
    elif choice.request.interval is Interval.AS_LOGGED:
        reader = _Logged(choice, tally)
    else:
        reader = _Binned(choice, tally)
    with ThreadPoolExecutor(1, thread_name_prefix="export") as ahead:
        coming: Future[Fetched] | None = None
        try:
            begin = choice.begin
            coming = ahead.submit(reader.fetch, connection, begin)
            while coming is not None:
                found, end = _result(coming, connection)
                coming = ahead.submit(reader.fetch, connection, end) if end < choice.end and not stopped() else None
                yield from reader.blocks(found, end)
        finally:
            if coming is not None and not coming.done():
                with suppress(psycopg.Error):
                    connection.cancel()
                coming.exception()


def _result(coming: "Future[Any]", connection: psycopg.Connection[Any]) -> Any:
    """What was fetched. Ctrl-C ends the statement first, or leaving would wait for it."""
    try:
        return coming.result()
    except KeyboardInterrupt:
        with suppress(psycopg.Error):
            connection.cancel()
        raise


class _Slices(Protocol):
    """Fetches what begins at a time, and up to where; makes blocks of it."""

    def fetch(self, connection: psycopg.Connection[Any], begin: datetime) -> Fetched: ...
    def blocks(self, found: list[tuple[Any, ...]], until: datetime) -> Iterator[Block]: ...


class _Readings:
    """Slices of the table itself, each with about as many readings as the one before."""

    KINDS = (TIME, ">f8", ">i2")

    def __init__(self, choice: Choice, tally: Tally) -> None:
        self._choice, self._tally = choice, tally
        value = "logged" if choice.request.values == "logged" else "value"
        self._query = LOGGED.format(columns=_columns("time", value, "quality", kinds=self.KINDS), value=value)
        ids = choice.ids
        is_logged = choice.request.interval is Interval.AS_LOGGED
        step_s = choice.step_s if is_logged and choice.step_s else FIRST_SLICE_S * len(ids) / READINGS_A_SLICE
        self._span = timedelta(seconds=max(1.0, min(step_s * READINGS_A_SLICE / len(ids), 3650 * 86_400)))
        self._keeps = np.zeros(max(Flag) + 1, bool)
        self._keeps[list(choice.request.quality)] = True
        self._flagged: dict[int, list[Flagged]] = {}
        for each in choice.flagged:
            if each.category in choice.excluded:
                self._flagged.setdefault(each.sensor_id, []).append(each)

    def fetch(self, connection: psycopg.Connection[Any], begin: datetime) -> Fetched:
        """Arrays by sensor from `begin` on, and up to where."""
        while True:
            end = min(begin + self._span, self._choice.end)
            arguments = {"ids": self._choice.ids, "begin": begin, "end": end, "most": READINGS_MAX}
            found = _arrays(connection, self._query, arguments, self.KINDS)
            count = sum(len(each[1]) for each in found)
            if count >= READINGS_MAX and self._span > SPAN_MIN:
                self._span = max(SPAN_MIN, self._span / 8)
                continue
            if end < self._choice.end:
                self._span *= min(GROWTH_MAX, max(0.25, READINGS_A_SLICE / max(count, 1)))
            return found, end

    def _kept(self, sensor_id: int, at: Longs, values: Doubles, quality: Longs) -> npt.NDArray[np.bool_]:
        """Which readings stay in; the others are counted, each by its first cause."""
        self._tally.readings += len(at)
        kept = self._keeps[np.minimum(quality, len(self._keeps) - 1)]
        if not kept.all():
            for number, count in zip(*np.unique(quality[~kept], return_counts=True), strict=True):
                name = Flag(int(number)).name.lower() if int(number) in set(Flag) else str(number)
                self._tally.leave_out(f"quality {name}", int(count))
        for each in self._flagged.get(sensor_id, ()):
            first, last = np.searchsorted(at, (micros(each.begin), micros(each.end)))
            self._tally.leave_out(f"flag {each.category}", int(kept[first:last].sum()))
            kept[first:last] = False
        finite = np.isfinite(values)
        if not finite.all():
            self._tally.leave_out("no value", int((kept & ~finite).sum()))
            kept &= finite
        return kept


class _Logged(_Readings):
    """Readings as they were logged: a row for each time at which any column has a reading."""

    def blocks(self, found: list[tuple[Any, ...]], until: datetime) -> Iterator[Block]:
        ordered = [_in_order(*each) for each in found]
        every = _union([each[1] for each in ordered])
        series = []
        for sensor_id, at, values, quality in ordered:
            kept = self._kept(sensor_id, at, values, quality)
            series.append((sensor_id, at, np.where(kept, values, np.nan)))
        height = max(1, CELLS_MAX // len(self._choice.columns))
        for first in range(0, max(1, len(every)), height):
            times = every[first : first + height]
            is_last = first + height >= len(every)
            yield self._block(times, series, micros(until) if is_last else int(times[-1]) + 1)

    def _block(self, times: Longs, series: list[tuple[int, Longs, Doubles]], until_us: int) -> Block:
        nothing = np.full(len(times), np.nan)
        columns = dict.fromkeys((column.sensor_id for column in self._choice.columns), nothing)
        for sensor_id, at, values in series:
            first, last = np.searchsorted(at, (times[0], times[-1] + 1))
            if last - first == len(times):
                columns[sensor_id] = values[first:last]
            elif last > first:
                columns[sensor_id] = nothing.copy()
                columns[sensor_id][np.searchsorted(times, at[first:last])] = values[first:last]
        return Block(times, tuple(columns.values()), until_us)


class _Binned(_Readings):
    """Statistics of longer intervals, made here of the readings that stay in."""

    def __init__(self, choice: Choice, tally: Tally) -> None:
        super().__init__(choice, tally)
        self._angles = {column.sensor_id for column in choice.columns if column.is_angle}
        self._held: dict[int, Bins] = {}

    def blocks(self, found: list[tuple[Any, ...]], until: datetime) -> Iterator[Block]:
        choice, until_us = self._choice, micros(until)
        interval, is_last = choice.request.interval, until >= choice.end
        cut_us = until_us if is_last else micros(choice.clock.floor(until, interval))
        for each in found:
            sensor_id, at, values, quality = _in_order(*each)
            kept = self._kept(sensor_id, at, values, quality)
            begins = choice.clock.floors_us(at[kept], interval)
            fresh = binned(begins, values[kept], is_angle=sensor_id in self._angles)
            held = self._held.get(sensor_id)
            self._held[sensor_id] = fresh if held is None else joined(held, fresh)
        whole: list[tuple[int, Bins]] = []
        for sensor_id, bins in self._held.items():
            done = int(np.searchsorted(bins.begins_us, cut_us))
            whole.append((sensor_id, bins.part(slice(0, done))))
            self._held[sensor_id] = bins.part(slice(done, None))
        figures = [(n, bins.begins_us, bins.figures(is_angle=n in self._angles)) for n, bins in whole]
        yield _spread(choice, figures, until_us)


class _Statistics:
    """Statistics of longer intervals, as a view of continuous aggregates has them."""

    FIGURES = (Figure.MEAN, Figure.SD, Figure.MIN, Figure.MAX, Figure.COUNT)
    KINDS = (TIME, *[">f8"] * len(FIGURES))

    def __init__(self, choice: Choice, tally: Tally) -> None:
        self._choice, self._tally = choice, tally
        figures = (f"coalesce({each}::float8, 'NaN')" for each in self.FIGURES)
        self._query = STATISTICS.format(columns=_columns("time", *figures, kinds=self.KINDS), view=choice.view)
        values = len(self.FIGURES) * len(choice.ids)
        self._span = timedelta(seconds=STEP_S[choice.request.interval] * max(1, READINGS_A_SLICE // values))

    def fetch(self, connection: psycopg.Connection[Any], begin: datetime) -> Fetched:
        end = min(begin + self._span, self._choice.end)
        arguments = {"ids": self._choice.ids, "begin": begin, "end": end}
        return _arrays(connection, self._query, arguments, self.KINDS), end

    def blocks(self, found: list[tuple[Any, ...]], until: datetime) -> Iterator[Block]:
        figures = []
        for sensor_id, at, *values in (_in_order(*each) for each in found):
            by_figure = dict(zip(self.FIGURES, values, strict=True))
            by_figure[Figure.SUM] = by_figure[Figure.MEAN] * by_figure[Figure.COUNT]
            self._tally.readings += int(by_figure[Figure.COUNT].sum())
            figures.append((sensor_id, at, by_figure))
        yield _spread(self._choice, figures, micros(until))


def _spread(choice: Choice, figures: list[tuple[int, Longs, dict[Figure, Doubles]]], until_us: int) -> Block:
    """Figures of sensors into their columns."""
    times = _union([at for _, at, _ in figures])
    values = [np.full(len(times), np.nan) for _ in choice.columns]
    columns: dict[int, list[int]] = {}
    for place, column in enumerate(choice.columns):
        columns.setdefault(column.sensor_id, []).append(place)
    for sensor_id, at, by_figure in figures:
        rows = slice(None) if len(at) == len(times) else np.searchsorted(times, at)
        for place in columns[sensor_id]:
            values[place][rows] = by_figure[choice.columns[place].figure or Figure.MEAN]
    return Block(times, tuple(values), until_us)


def _columns(*expressions: str, kinds: tuple[str, ...]) -> str:
    return ", ".join(map(packed, expressions, kinds))


def _arrays(
    connection: psycopg.Connection[Any], query: str, arguments: dict[str, Any], kinds: tuple[str, ...]
) -> list[tuple[Any, ...]]:
    """Rows of (sensor_id, arrays)."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(query.encode(), arguments)
        return [(row[0], *map(unpacked, row[1:], kinds)) for row in cursor]


def _in_order(sensor_id: int, times: Longs, *others: npt.NDArray[Any]) -> tuple[Any, ...]:
    """A sensor's arrays by time; an aggregate promises no order."""
    if len(times) < 2 or bool((times[1:] > times[:-1]).all()):
        return (sensor_id, times, *others)
    order = np.argsort(times, kind="stable")
    return (sensor_id, times[order], *(each[order] for each in others))


def _union(all_times: list[Longs]) -> Longs:
    """Every time that occurs, once, ascending. Sensors of one logger share their times, which costs a comparison."""
    distinct: list[Longs] = []
    for times in all_times:
        if not any(len(times) == len(each) and bool((times == each).all()) for each in distinct[:4]):
            distinct.append(times)
    if not distinct:
        return np.empty(0, np.int64)
    return distinct[0] if len(distinct) == 1 else np.unique(np.concatenate(distinct))
