"""A sensor's line for a plot, decimated at the server: what is drawn is what all readings would draw."""

import asyncio
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import Field

from dashboard.api import series as reading
from dashboard.api.decimation import m4
from dashboard.api.paging import Entry
from dashboard.api.params import During
from dashboard.api.selection import sensors_of
from dashboard.api.series import Reader, Series, columns_of
from dashboard.web.access import Principal, Scope, database, need
from dashboard.web.pools import Database
from dashboard.web.problems import Problem, documented
from dashboard.web.state import web_of

Db = Annotated[Database, Depends(database)]
MayRead = Annotated[Principal, Depends(need(Scope.READ))]
POINTS_MAX = 4_000_000
"""Readings that one plot may be made of while it waits; above it statistics are drawn."""

router = APIRouter(tags=["data"])


class Line(Entry):
    """A sensor's line for a plot: of each bucket the first, last, least and largest point."""

    sensor: str
    unit: str | None
    source: str = Field(description="What it was made of: logged, 10min, hourly or daily.")
    rows: int = Field(description="How many rows it was made of.")
    time: list[float] = Field(description="Seconds since 1970, UTC.")
    value: list[float | None] = Field(description="null: infinity, which JSON has not; NaN is left out.")


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
