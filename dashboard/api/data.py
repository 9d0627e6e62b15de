"""Readings, statistics and windows as series; the newest values."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import orjson
import pyarrow as pa
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from dashboard.api import series as reading
from dashboard.api.formats import MEDIA_TYPES, Asked, Format, Writer, batch, chosen
from dashboard.api.paging import After, Entry, Limit, Listing, Page, Paging, next_link, packed, unpacked
from dashboard.api.params import Device, During, Period, Station, flags_of
from dashboard.api.selection import Sensors, sensors_of
from dashboard.api.series import Reader, Series, arrow_schema, columns_of
from dashboard.web.access import Principal, Scope, database, need
from dashboard.web.pools import Database
from dashboard.web.problems import Problem, documented
from dashboard.web.state import web_of
from schemas.records import Utc

Db = Annotated[Database, Depends(database)]
MayRead = Annotated[Principal, Depends(need(Scope.READ))]
PAGE_ROWS, PAGE_ROWS_MAX = 1_000, 10_000
RowLimit = Annotated[
    int, Query(ge=1, le=PAGE_ROWS_MAX, description="Rows on a JSON page; other formats have all rows.")
]
router = APIRouter(tags=["data"])


class Interval(StrEnum):
    """Of statistics."""

    TEN_MINUTES = "10min"
    HOURLY = "hourly"
    DAILY = "daily"


class Reading(Entry):
    """One reading. What is missing is null."""

    sensor: str = Field(description="DEVICE/CHANNEL")
    time: Utc
    logged: float | None = Field(description="As the logger wrote it.")
    value: float | None = Field(description="Calibrated.")
    quality: int = Field(description="QARTOD: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing.")
    tests: int = Field(description="Bits of the tests that gave the flag; see schemas/quality.py.")


class Statistic(Entry):
    """Of one sensor's good readings in the span that begins at `time`."""

    sensor: str
    time: Utc
    count: int
    mean: float | None
    sd: float | None
    min: float | None
    max: float | None


class Window(Entry):
    """A window as the stream stage closed it."""

    sensor: str
    time: Utc = Field(description="Its beginning.")
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


class Rows:
    """What all series are asked alike: of which sensors, when, in what form; of JSON, which page."""

    def __init__(
        self,
        *,
        request: Request,
        principal: MayRead,
        db: Db,
        period: During,
        sensor: Sensors = None,
        device: Device = None,
        station: Station = None,
        form: Asked = None,
        limit: RowLimit = PAGE_ROWS,
        after: After = None,
    ) -> None:
        self._request, self._principal, self._db, self._period = request, principal, db, period
        self._sensor, self._device, self._station = sensor, device, station
        self._form, self._limit, self._after = form, limit, after

    async def answer(self, series: Series) -> Response:
        """A page of JSON, or a stream of all rows. Raises `Problem` 404, 406, 413, 429."""
        sensors = await sensors_of(self._db, self._sensor, device=self._device, station=self._station)
        wanted = chosen(self._form, self._request.headers.get("accept"))
        reader = Reader(web_of(self._request), self._db, self._principal)
        if wanted is Format.JSON:
            body, cursor = await _page(reader, series, sensors, self._period, limit=self._limit, after=self._after)
            headers = {"Vary": "Accept"} | ({} if cursor is None else {"Link": next_link(self._request, cursor)})
            return Response(body, media_type=MEDIA_TYPES[Format.JSON], headers=headers)
        return await self._streamed(reader, series, sensors, wanted)

    async def _streamed(self, reader: Reader, series: Series, sensors: list[dict[str, Any]], form: Format) -> Response:
        web, period = web_of(self._request), self._period
        if series.span is None:
            about = await reader.estimate(series, [each["sensor_id"] for each in sensors], period.begin, period.end)
            if about > web.settings.rows_max:
                raise Problem(
                    413,
                    f"some {about:,} rows, and {web.settings.rows_max:,} are the most in one answer: "
                    "ask for a shorter period or fewer sensors, or start an export job",
                )
        async with AsyncExitStack() as held:
            held.enter_context(web.downloads.one_more(self._principal.name))
            pieces = _stream(reader, series, sensors, period, form)
            held.push_async_callback(pieces.aclose)
            first = await anext(pieces)  # trouble that shows itself at once gets a status of its own
            name = f"{series.name}.{'arrows' if form is Format.ARROW else form}"
            headers = {"Content-Disposition": f'inline; filename="{name}"', "Vary": "Accept"}
            return Streamed(first, pieces, held.pop_all(), media_type=MEDIA_TYPES[form], headers=headers)


class Streamed(StreamingResponse):
    """Rows as they come. What is `held` is given back however the answer ends: the body of a client that has gone
    before it began is never begun, and so has no end of its own."""

    def __init__(
        self,
        first: bytes,
        rest: AsyncGenerator[bytes, None],
        held: AsyncExitStack,
        *,
        media_type: str,
        headers: Mapping[str, str],
    ) -> None:
        async def pieces() -> AsyncGenerator[bytes, None]:
            yield first
            async for piece in rest:
                yield piece

        body = pieces()
        held.push_async_callback(body.aclose)
        super().__init__(body, media_type=media_type, headers=headers)
        self._held = held

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


Wanted = Annotated[Rows, Depends()]


@router.get("/readings", response_model=Page[Reading], responses=IN_ALL_FORMS)
async def readings(
    *,
    rows: Wanted,
    quality: Annotated[str | None, Query(max_length=200, description="Such as good,suspect or 1,3.")] = None,
    good: Annotated[bool, Query(description="Without what failed or what people have flagged.")] = False,
) -> Response:
    """Stored readings by sensor and time. JSON comes in pages; NDJSON, CSV, Arrow and Parquet stream all rows."""
    return await rows.answer(reading.readings(quality=flags_of(quality), good=good))


@router.get("/statistics", response_model=Page[Statistic], responses=IN_ALL_FORMS)
async def statistics(*, rows: Wanted, interval: Annotated[Interval, Query()] = Interval.TEN_MINUTES) -> Response:
    """Statistics of good, unflagged readings, by sensor and time. Directions are circular."""
    return await rows.answer(reading.statistics(interval))


@router.get("/windows", response_model=Page[Window], responses=IN_ALL_FORMS)
async def windows(
    *,
    rows: Wanted,
    length_s: Annotated[int, Query(ge=1, le=366 * 86_400, description="Length of the windows.")] = 600,
) -> Response:
    """Windows as the stream stage closed them: what was known at the time, by sensor and time."""
    return await rows.answer(reading.windows(length_s))


async def _stream(
    reader: Reader, series: Series, sensors: list[dict[str, Any]], period: Period, form: Format
) -> AsyncGenerator[bytes, None]:
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
) -> tuple[str, str | None]:
    """One JSON page, made of the lines that the database makes; the next one's cursor."""
    since: tuple[int, datetime] | None = None
    if after is not None:
        number, time = unpacked(after, [int, Utc])
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
    cursor = None
    if len(lines) > limit:
        last = sensors[places[limit - 1]]["sensor_id"], orjson.loads(lines[limit - 1])["time"]
        cursor = packed(last)
    return f'{{"items":[{",".join(lines[:limit])}],"next":{orjson.dumps(cursor).decode()}}}', cursor


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
    time: Utc | None
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
    return await Paging(request, db, limit, after).answer(
        Page[Latest], Listing(select=LATEST, key={"sensor_id": int}), arguments
    )
