"""Series that grow with time, read slice by slice: readings, statistics, windows.

A slice is one short statement on one sensor: the database packs its rows into one value, so that no row becomes a
Python object. Between slices no connection and no turn is held; a client that reads slowly costs memory for one slice.
What is stored while a client reads may or may not be in its answer; no row is in it twice.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import numpy.typing as npt
import orjson
import pyarrow as pa

from dashboard.api.params import EARLIEST, LATEST
from dashboard.packed import TIME, packed, unpacked
from dashboard.web.access import Principal
from dashboard.web.pools import Database
from dashboard.web.state import Web

SLICE_ROWS = 16_384
"""Some 20 ms of the database's time and half a megabyte: so long a person may have to wait for a turn that has begun.
Four times as many make a download no faster."""
PERSONS_SLICE_ROWS = 8 * SLICE_ROWS
"""Of a plot for people, who wait for nobody: six years of ten minutes are three statements."""
GIVE_WAY_S_MAX = 0.25
"""So long a slice waits for people's questions to be answered; without a bound, busy pages would stop all downloads."""
MICROSECOND = timedelta(microseconds=1)
WITHOUT_BOUND = EARLIEST, LATEST


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, how it is packed, what it becomes."""

    name: str
    dtype: str
    arrow: pa.DataType

    @property
    def packed(self) -> str:
        """Its SQL as an aggregate of bytes."""
        return packed(f"coalesce({self.name}, 'NaN')" if self.dtype == ">f8" else self.name, self.dtype)

    @property
    def plain(self) -> str:
        """Its SQL as text: what no number can say in JSON is null."""
        if self.dtype == ">f8":
            return f"nullif(nullif(nullif({self.name}, 'NaN'), 'Infinity'), '-Infinity')"
        return self.name


def _double(name: str) -> Column:
    return Column(name, ">f8", pa.float64())


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What is read from where. `span`: how much time a slice covers; None: SLICE_ROWS rows, found by index."""

    name: str
    source: str
    columns: tuple[Column, ...]
    time: str = "time"
    where: str = ""
    span: timedelta | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def _rows(self) -> str:
        names = "".join(f", {each.name}" for each in self.columns)
        return (
            f"SELECT {self.time} AS time{names} FROM {self.source} WHERE sensor_id = %(sensor)s "  # noqa: S608 - our own words
            f"AND {self.time} >= %(begin)s AND {self.time} < %(end)s{self.where} ORDER BY 1 LIMIT %(rows)s"
        )

    def packed(self) -> str:
        """Count, last time, and the bytes of each column: aggregated in the order of the subquery, which sorting again
        would take two thirds longer for."""
        columns = ", ".join([packed("time", TIME), *(each.packed for each in self.columns)])
        return f"SELECT count(*), max(time), {columns} FROM ({self._rows()}) AS r"  # noqa: S608

    def ndjson(self) -> str:
        """Count, last time, and a line of JSON for each row."""
        names = "".join(f", {each.plain} AS {each.name}" for each in self.columns)
        return (
            "SELECT count(*), max(time), string_agg(row_to_json(line)::text, E'\\n') FROM ("  # noqa: S608
            f"SELECT %(name)s::text AS sensor, time{names} FROM ({self._rows()}) AS r) AS line"
        )

    def csv(self) -> str:
        """Count, last time, and a line of comma-separated values for each row."""
        parts = " || ',' || ".join(
            ["%(quoted)s::text", "replace(time::text, ' ', 'T') || ':00'"]  # +00 alone is not in RFC 3339
            + [f"coalesce(({each.plain})::text, '')" for each in self.columns]
        )
        return f"SELECT count(*), max(time), string_agg({parts}, E'\\n') FROM ({self._rows()}) AS r"  # noqa: S608


_READING = (
    _double("logged"),
    _double("value"),
    Column("quality", ">i2", pa.int16()),
    Column("tests", ">i4", pa.int32()),
)
_STATISTICS = (Column("count", ">i8", pa.int64()), *map(_double, ("mean", "sd", "min", "max")))
_COUNTS = ("count", "expected", "suspect", "failed", "missing")


def readings(*, quality: tuple[int, ...] | None, good: bool) -> Series:
    """Stored readings. `good`: without those that failed or that people flagged, as statistics are made of."""
    return Series(
        name="readings",
        source="readings_good" if good else "readings",
        columns=_READING,
        where=" AND quality = ANY (%(quality)s)" if quality else "",
        arguments={"quality": list(quality)} if quality else {},
    )


def line(*, good: bool) -> Series:
    """Only the calibrated value, for a plot."""
    return Series(name="line", source="readings_good" if good else "readings", columns=(_double("value"),))


def envelope(interval: str) -> Series:
    """Least, largest and mean of statistics, for a plot."""
    columns = tuple(map(_double, ("min", "max", "mean")))
    return Series(name="line", source=f"statistics_{interval}", columns=columns, span=SPANS[interval])


SPANS = {"10min": timedelta(days=92), "hourly": timedelta(days=366), "daily": timedelta(days=3660)}
"""On plain PostgreSQL statistics are made when they are asked for: a slice must be a matter of a second or two."""
STEPS = {"10min": timedelta(minutes=10), "hourly": timedelta(hours=1), "daily": timedelta(days=1)}


def statistics(interval: str) -> Series:
    """Of good readings; `interval` is 10min, hourly or daily."""
    return Series(name="statistics", source=f"statistics_{interval}", columns=_STATISTICS, span=SPANS[interval])


def windows(length_s: int) -> Series:
    """As the stage closed them: what was known at the time."""
    return Series(
        name="windows",
        source="windows",
        time="start",
        columns=(
            *(Column(name, ">i4", pa.int32()) for name in _COUNTS),
            *map(_double, ("mean", "sd", "min", "max")),
        ),
        where=" AND length_s = %(length_s)s",
        arguments={"length_s": length_s},
    )


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of one sensor: `place` is its place in the request. `data`: a column's bytes each, or lines of text."""

    place: int
    rows: int
    last: datetime
    data: tuple[Any, ...]

    @property
    def text(self) -> str:
        """Its lines."""
        return cast("str", self.data[0])


# The first and last reading of a sensor, so that a series by spans knows where to begin and to end.
SPAN = """
SELECT (SELECT time FROM readings WHERE sensor_id = %(sensor)s ORDER BY time LIMIT 1),
       (SELECT time FROM readings WHERE sensor_id = %(sensor)s ORDER BY time DESC LIMIT 1),
       (SELECT dropped FROM retention WHERE series = 'readings')"""
AGGREGATES_SINCE = "SELECT min(time) FROM aggregate_daily WHERE sensor_id = %(sensor)s"
# How many rows the database expects: quick, and near enough for a bound.
ESTIMATE = (
    "EXPLAIN (FORMAT JSON) SELECT FROM {} WHERE sensor_id = ANY (%(sensors)s) AND {} >= %(begin)s AND {} < %(end)s"
)


class Reader:
    """Reads slices for one request: people at once, tokens in turn."""

    def __init__(self, web: Web, db: Database, principal: Principal) -> None:
        self._web, self._db, self._principal = web, db, principal

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """People go first; tokens read in turn, a slice each, and give way to people for a moment."""
        if self._principal.way == "session":
            yield
            return
        async with self._web.reading:
            await self._web.pools.pages.quiet(GIVE_WAY_S_MAX)
            yield

    async def row(self, statement: str, arguments: Mapping[str, Any], *, binary: bool = False) -> tuple[Any, ...]:
        """The one row of a statement."""
        async with self._turn(), self._db.connection() as connection, connection.cursor(binary=binary) as cursor:
            await cursor.execute(statement, arguments)
            row = await cursor.fetchone()
        assert row is not None  # noqa: S101 - aggregates
        return cast("tuple[Any, ...]", row)

    async def bounds(self, sensor: int, begin: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
        """The period asked for; where it has no bound, the sensor's first reading and behind its last one."""
        if begin and end:
            return begin, end
        first, last = await self._narrowed(sensor, *WITHOUT_BOUND)
        begin, end = begin or first, end or last
        return (begin, end) if begin < end else (begin, begin + MICROSECOND)

    async def estimate(self, series: Series, sensors: list[int], begin: datetime | None, end: datetime | None) -> int:
        """About how many rows there are."""
        source = "readings" if series.source == "readings_good" else series.source
        statement = ESTIMATE.format(source, series.time, series.time)
        first, last = begin or WITHOUT_BOUND[0], end or WITHOUT_BOUND[1]
        (plan,) = await self.row(statement, {"sensors": sensors, "begin": first, "end": last})
        return int(plan[0]["Plan"]["Plan Rows"])

    async def slices(
        self,
        series: Series,
        sensors: list[dict[str, Any]],
        *,
        kind: str,
        begin: datetime | None,
        end: datetime | None,
        since: tuple[int, datetime] | None = None,
        rows: int = SLICE_ROWS,
    ) -> AsyncIterator[Slice]:
        """All slices in order of sensor and time. `kind`: packed, ndjson, csv; `since`: behind this row."""
        statement = {"packed": series.packed, "ndjson": series.ndjson, "csv": series.csv}[kind]()
        for place, sensor in enumerate(sensors):
            stands = begin
            if since and sensor["sensor_id"] < since[0]:
                continue
            if since and sensor["sensor_id"] == since[0]:
                stands = max(since[1] + MICROSECOND, begin or since[1])
            bounds = stands or WITHOUT_BOUND[0], end or WITHOUT_BOUND[1]
            async for found in self._of(series, statement, sensor, place, bounds, rows=rows, binary=kind == "packed"):
                yield found

    async def _of(
        self,
        series: Series,
        statement: str,
        sensor: dict[str, Any],
        place: int,
        bounds: tuple[datetime, datetime],
        *,
        rows: int,
        binary: bool,
    ) -> AsyncIterator[Slice]:
        number = sensor["sensor_id"]
        stands, stops = bounds
        if series.span is not None:
            stands, stops = await self._narrowed(number, stands, stops)
        arguments = {"sensor": number, "rows": rows, **names(sensor["sensor"]), **series.arguments}
        while stands < stops:
            until = stops if series.span is None else min(stops, stands + series.span)
            count, last, *data = await self.row(statement, {**arguments, "begin": stands, "end": until}, binary=binary)
            if count:
                yield Slice(place, count, last, tuple(data))
            stands = last + MICROSECOND if count == rows else until

    async def _narrowed(self, sensor: int, begin: datetime, end: datetime) -> tuple[datetime, datetime]:
        first, last, dropped = await self.row(SPAN, {"sensor": sensor})
        if dropped is not None:  # aggregates outlive the readings
            (since,) = await self.row(AGGREGATES_SINCE, {"sensor": sensor})
            first = min(filter(None, (first, since)), default=None)
            last = last or dropped
        if first is None or last is None:
            return begin, begin
        day = timedelta(days=1)  # a statistic's time is the beginning of what it is made of
        return max(begin, first - day), min(end, last + day)


def names(sensor: str) -> dict[str, str]:
    """How a sensor is called in lines of text."""
    needs_quotes = any(each in sensor for each in ',"\r\n')
    return {"name": sensor, "quoted": '"' + sensor.replace('"', '""') + '"' if needs_quotes else sensor}


def columns_of(series: Series, data: tuple[bytes, ...]) -> dict[str, npt.NDArray[Any]]:
    """Packed columns by name; times are UTC microseconds since 1970."""
    kinds = {"time": TIME, **{each.name: each.dtype for each in series.columns}}
    return {name: unpacked(one, kind) for (name, kind), one in zip(kinds.items(), data, strict=True)}


def arrow_schema(series: Series, sensors: list[dict[str, Any]]) -> pa.Schema:
    """With what is known of each sensor in its metadata, as JSON."""
    known = ("sensor_id", "sensor", "quantity", "unit", "statistic", "height_m")
    about = orjson.dumps([{name: each[name] for name in known} for each in sensors])
    units = {each["unit"] for each in sensors}
    unit = {"unit": units.pop() or ""} if len(units) == 1 else None
    measured = {"logged", "value", "mean", "sd", "min", "max"}
    return pa.schema(
        [
            pa.field("sensor", pa.dictionary(pa.int32(), pa.string())),
            pa.field("time", pa.timestamp("us", tz="UTC")),
            *(
                pa.field(each.name, each.arrow, metadata=unit if each.name in measured else None)
                for each in series.columns
            ),
        ],
        metadata={"telltale.series": series.name, "telltale.sensors": about.decode()},
    )
