"""Readings, statistics and windows as series; a sensor's line for a plot; the newest values."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import orjson
import pyarrow as pa
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from dashboard.api import series as reading
from dashboard.api.decimation import m4
from dashboard.api.formats import MEDIA_TYPES, Asked, Format, Writer, batch, chosen
from dashboard.api.paging import After, Entry, Limit, Listing, Page, answer, packed, page_of, unpacked
from dashboard.api.params import Device, During, Period, Station, Time, flags_of
from dashboard.api.selection import Sensors, sensors_of
from dashboard.api.series import Reader, Series, arrow_schema, columns_of
from dashboard.web.access import Principal, Scope, database, need
from dashboard.web.pools import Database
from dashboard.web.problems import Problem, documented
from dashboard.web.state import web_of

Db = Annotated[Database, Depends(database)]
MayRead = Annotated[Principal, Depends(need(Scope.READ))]
PAGE_ROWS, PAGE_ROWS_MAX = 1_000, 10_000
RowLimit = Annotated[
    int, Query(ge=1, le=PAGE_ROWS_MAX, description="Rows on a JSON page; other formats have all rows.")
]
POINTS_MAX = 4_000_000
"""Readings that one plot may be made of while it waits; above it statistics are drawn."""

router = APIRouter(tags=["data"])


class Interval(StrEnum):
    """Of statistics."""

    TEN_MINUTES = "10min"
    HOURLY = "hourly"
    DAILY = "daily"


class Reading(Entry):
    """One reading. What is missing is null."""

    sensor: str = Field(description="DEVICE/CHANNEL")
    time: Time
    logged: float | None = Field(description="As the logger wrote it.")
    value: float | None = Field(description="Calibrated.")
    quality: int = Field(description="QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing.")
    tests: int = Field(description="Bits of the tests that gave the flag; see schemas/quality.py.")


class Statistic(Entry):
    """Of one sensor's good readings in the span that begins at `time`."""

    sensor: str
    time: Time
    count: int
    mean: float | None
    sd: float | None
    min: float | None
    max: float | None


class Window(Entry):
    """A window as the stream stage closed it."""

    sensor: str
    time: Time = Field(description="Its beginning.")
    count: int
    expected: int
    suspect: int
    failed: int
    missing: int
    mean: float | None
    sd: float | None
    min: float | None
    max: float | None


def _formats(*forms: Format) -> dict[int | str, dict[str, Any]]:
    """For `responses`: what else 200 may be."""
    content = {MEDIA_TYPES[form]: {"schema": {"type": "string", "format": "binary"}} for form in forms}
    return {200: {"description": "The rows, in the form asked for.", "content": content}}


IN_ALL_FORMS = _formats(Format.NDJSON, Format.CSV, Format.ARROW, Format.PARQUET) | documented(404, 406, 413)


@router.get("/readings", response_model=Page[Reading], responses=IN_ALL_FORMS)
async def readings(
    *,
    request: Request,
    principal: MayRead,
    db: Db,
    sensor: Sensors = None,
    device: Device = None,
    station: Station = None,
    period: During,
    quality: Annotated[str | None, Query(max_length=200, description="Such as good,suspect or 1,3.")] = None,
    good: Annotated[bool, Query(description="Without what failed or what people have flagged.")] = False,
    form: Asked = None,
    limit: RowLimit = PAGE_ROWS,
    after: After = None,
) -> Response:
    """Stored readings by sensor and time. JSON comes in pages; NDJSON, CSV, Arrow and Parquet stream all rows."""
    chosen_series = reading.readings(quality=flags_of(quality), good=good)
    found = await sensors_of(db, sensor, device=device, station=station)
    return await _answer(
        request, principal, db, series=chosen_series, sensors=found, period=period, form=form, limit=limit, after=after
    )


@router.get("/statistics", response_model=Page[Statistic], responses=IN_ALL_FORMS)
async def statistics(
    *,
    request: Request,
    principal: MayRead,
    db: Db,
    sensor: Sensors = None,
    device: Device = None,
    station: Station = None,
    period: During,
    interval: Annotated[Interval, Query()] = Interval.TEN_MINUTES,
    form: Asked = None,
    limit: RowLimit = PAGE_ROWS,
    after: After = None,
) -> Response:
    """Statistics of good, unflagged readings, by sensor and time. Directions are circular."""
    found = await sensors_of(db, sensor, device=device, station=station)
    chosen_series = reading.statistics(interval)
    return await _answer(
        request, principal, db, series=chosen_series, sensors=found, period=period, form=form, limit=limit, after=after
    )


@router.get("/windows", response_model=Page[Window], responses=IN_ALL_FORMS)
async def windows(
    *,
    request: Request,
    principal: MayRead,
    db: Db,
    sensor: Sensors = None,
    device: Device = None,
    station: Station = None,
    period: During,
    length_s: Annotated[int, Query(ge=1, le=366 * 86_400, description="Length of the windows.")] = 600,
    form: Asked = None,
    limit: RowLimit = PAGE_ROWS,
    after: After = None,
) -> Response:
    """Windows as the stream stage closed them: what was known at the time, by sensor and time."""
    found = await sensors_of(db, sensor, device=device, station=station)
    chosen_series = reading.windows(length_s)
    return await _answer(
        request, principal, db, series=chosen_series, sensors=found, period=period, form=form, limit=limit, after=after
    )


async def _answer(
    request: Request,
    principal: Principal,
    db: Database,
    *,
    series: Series,
    sensors: list[dict[str, Any]],
    period: Period,
    form: Format | None,
    limit: int,
    after: str | None,
) -> Response:
    wanted = chosen(form, request.headers.get("accept"))
    web = web_of(request)
    reader = Reader(web, db, principal)
    if wanted is Format.JSON:
        return await _page(reader, series, sensors, period, limit=limit, after=after)
    if series.span is None:
        about = await reader.estimate(series, [each["sensor_id"] for each in sensors], period.begin, period.end)
        if about > web.settings.rows_max:
            raise Problem(
                413,
                f"some {about:,} rows, and {web.settings.rows_max:,} are the most in one answer: "
                "ask for a shorter period or fewer sensors, or start an export job",
            )
    seat = web.downloads.one_more(principal.name)
    seat.__enter__()
    try:
        pieces = _stream(reader, series, sensors, period, wanted)
        first = await anext(pieces)  # trouble that shows itself at once gets a status of its own
    except BaseException:
        seat.__exit__(None, None, None)
        raise

    async def all_pieces() -> AsyncIterator[bytes]:
        try:
            yield first
            async for piece in pieces:
                yield piece
        finally:
            seat.__exit__(None, None, None)
            await pieces.aclose()  # type: ignore[attr-defined]

    name = f"{series.name}.{'arrows' if wanted is Format.ARROW else wanted}"
    headers = {"Content-Disposition": f'inline; filename="{name}"', "Vary": "Accept"}
    return StreamingResponse(all_pieces(), media_type=MEDIA_TYPES[wanted], headers=headers)


async def _stream(
    reader: Reader, series: Series, sensors: list[dict[str, Any]], period: Period, form: Format
) -> AsyncIterator[bytes]:
    """The file, slice by slice; at least one piece."""
    if form in (Format.ARROW, Format.PARQUET):
        schema = arrow_schema(series, sensors)
        known = pa.array([each["sensor"] for each in sensors], pa.string())
        writer = Writer(form, schema)
        async for one in reader.slices(series, sensors, kind="packed", begin=period.begin, end=period.end):
            yield await asyncio.to_thread(_encoded, writer, schema, series, known, one)
        yield writer.close()
        return
    if form is Format.CSV:
        yield (",".join(["sensor", "time", *(each.name for each in series.columns)]) + "\n").encode()
    empty = True
    async for one in reader.slices(series, sensors, kind=str(form), begin=period.begin, end=period.end):
        empty = False
        yield one.text.encode() + b"\n"
    if empty and form is Format.NDJSON:
        yield b""


def _encoded(writer: Writer, schema: pa.Schema, series: Series, sensors: pa.Array, one: reading.Slice) -> bytes:
    return writer.write(batch(schema, columns_of(series, one.data), place=one.place, sensors=sensors))


async def _page(
    reader: Reader, series: Series, sensors: list[dict[str, Any]], period: Period, *, limit: int, after: str | None
) -> Response:
    """One JSON page, made of the lines that the database makes."""
    since: tuple[int, datetime] | None = None
    if after is not None:
        number, time = unpacked(after, [int, Time])
        since = number, time
    lines: list[str] = []
    places: list[int] = []
    slices = reader.slices(
        series, sensors, kind="ndjson", begin=period.begin, end=period.end, since=since, rows=limit + 1
    )
    async for one in slices:
        lines += one.text.split("\n")
        places += [one.place] * one.rows
        if len(lines) > limit:
            break
    cursor = "null"
    if len(lines) > limit:
        last = sensors[places[limit - 1]]["sensor_id"], orjson.loads(lines[limit - 1])["time"]
        cursor = f'"{packed(last)}"'
    body = f'{{"items":[{",".join(lines[:limit])}],"next":{cursor}}}'
    return Response(body, media_type=MEDIA_TYPES[Format.JSON], headers={"Vary": "Accept"})


class Line(Entry):
    """A sensor's line for a plot: of each bucket the first, last, least and largest point."""

    sensor: str
    unit: str | None
    source: str = Field(description="What it was made of: logged, 10min, hourly or daily.")
    rows: int = Field(description="How many rows it was made of.")
    time: list[float] = Field(description="Seconds since 1970, UTC.")
    value: list[float]


class Source(StrEnum):
    """What a plot is made of."""

    AUTO = "auto"
    LOGGED = "logged"
    TEN_MINUTES = "10min"
    HOURLY = "hourly"
    DAILY = "daily"


class LineFormat(StrEnum):
    """Of a plot."""

    JSON = "json"
    F64 = "f64"


_LINE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The line.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/sensors/{sensor_id}/series", response_model=Line, responses=_LINE | documented(404, 413))
async def line(
    *,
    request: Request,
    principal: MayRead,
    db: Db,
    sensor_id: Annotated[int, Path(ge=1, le=2**31 - 1)],
    period: During,
    width: Annotated[int, Query(ge=1, le=20_000, description="Buckets: twice the plot's width in pixels.")] = 2_000,
    source: Annotated[
        Source, Query(description="auto: readings, or statistics where they would be too many.")
    ] = Source.AUTO,
    good: Annotated[bool, Query(description="Without what failed or what people have flagged.")] = False,
    form: Annotated[
        LineFormat, Query(alias="format", description="f64: n times, then n values, as little-endian doubles.")
    ] = LineFormat.JSON,
) -> Response:
    """One sensor's line, decimated to the width of a plot (M4): what it draws is what all readings would draw."""
    (sensor,) = await sensors_of(db, [str(sensor_id)], device=None, station=None)
    reader = Reader(web_of(request), db, principal)
    begin, end = await reader.bounds(sensor_id, period.begin, period.end)
    chosen_source = source
    if source is Source.AUTO:
        chosen_source = await _source(reader, sensor, begin, end)
    elif (
        source is Source.LOGGED and await reader.estimate(reading.line(good=good), [sensor_id], begin, end) > POINTS_MAX
    ):
        raise Problem(413, f"more than {POINTS_MAX:,} readings: ask for a shorter period, or source=auto")
    series = reading.line(good=good) if chosen_source is Source.LOGGED else reading.envelope(chosen_source)
    time, value, rows = np.empty(0), np.empty(0), 0
    at_once = reading.PERSONS_SLICE_ROWS if principal.way == "session" else reading.SLICE_ROWS
    async for one in reader.slices(series, [sensor], kind="packed", begin=begin, end=end, rows=at_once):
        rows += one.rows
        piece = partial(
            _piece, series, one.data, time, value, begin=begin.timestamp(), end=end.timestamp(), width=width
        )
        time, value = await asyncio.to_thread(piece)
    if form is LineFormat.F64:
        headers = {"Telltale-Source": str(chosen_source), "Telltale-Rows": str(rows)}
        return Response(
            time.astype("<f8").tobytes() + value.astype("<f8").tobytes(), 200, headers, "application/octet-stream"
        )
    told = {"sensor": sensor["sensor"], "unit": sensor["unit"], "source": chosen_source, "rows": rows}
    body = orjson.dumps(told | {"time": time, "value": value}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")


async def _source(reader: Reader, sensor: dict[str, Any], begin: datetime, end: datetime) -> Source:
    """The finest that is not too many."""
    if await reader.estimate(reading.line(good=False), [sensor["sensor_id"]], begin, end) <= POINTS_MAX:
        return Source.LOGGED
    for source in (Source.TEN_MINUTES, Source.HOURLY):
        if (end - begin) / reading.STEPS[source] <= POINTS_MAX / 10:
            return source
    return Source.DAILY


def _piece(
    series: Series,
    data: tuple[bytes, ...],
    time: np.ndarray[Any, np.dtype[np.float64]],
    value: np.ndarray[Any, np.dtype[np.float64]],
    *,
    begin: float,
    end: float,
    width: int,
) -> tuple[Any, Any]:
    """The line so far and the next slice, decimated."""
    columns = columns_of(series, data)
    times = columns["time"] / 1e6
    if "value" in columns:
        values = columns["value"]
    else:  # statistics: their least and largest, then their mean, at one time
        times, values = np.repeat(times, 3), np.ravel([columns["min"], columns["max"], columns["mean"]], "F")
    return m4(np.concatenate([time, times]), np.concatenate([value, values]), begin=begin, end=end, buckets=width)


LATEST = """
SELECT sensor_id, device_id || '/' || channel AS sensor, station_id, device_id, channel, quantity, statistic, unit,
  height_m, time, nullif(nullif(nullif(logged, 'NaN'), 'Infinity'), '-Infinity') AS logged,
  nullif(nullif(nullif(value, 'NaN'), 'Infinity'), '-Infinity') AS value, quality, flag, tests
FROM sensors_now
WHERE active AND (%(device)s::text IS NULL OR device_id = %(device)s)
  AND (%(station)s::text IS NULL OR station_id = %(station)s)
  AND (%(sensors)s::text[] IS NULL OR device_id || '/' || channel = ANY (%(sensors)s)
       OR sensor_id::text = ANY (%(sensors)s))"""


class Latest(Entry):
    """A sensor's newest reading; null where there never was one."""

    sensor_id: int
    sensor: str
    station_id: str | None
    device_id: str
    channel: str
    quantity: str | None
    statistic: str | None
    unit: str | None
    height_m: float | None
    time: Time | None
    logged: float | None
    value: float | None
    quality: int | None
    flag: Literal["good", "not_evaluated", "suspect", "fail", "missing"] | None
    tests: int | None


@router.get("/latest", response_model=Page[Latest])
async def latest(
    *,
    request: Request,
    _: MayRead,
    db: Db,
    sensor: Sensors = None,
    device: Device = None,
    station: Station = None,
    limit: Limit = 1_000,
    after: After = None,
) -> Response:
    """The newest reading of each configured sensor."""
    arguments = {"sensors": sensor, "device": device, "station": station}
    listing = Listing(select=LATEST, key={"sensor_id": int})
    rows, cursor = await page_of(db, listing, arguments, after=after, limit=limit)
    return answer(request, Page[Latest].model_validate({"items": rows, "next": cursor}), next_cursor=cursor)
