"""Parts of the API that need neither server nor database: decimation, limits, compression's choice, cursors."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.responses import FileResponse
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dashboard.api import feature
from dashboard.api.decimation import m4
from dashboard.api.formats import Format, chosen
from dashboard.api.paging import Entry, packed, unpacked
from dashboard.web.compression import Compression, accepted
from dashboard.web.limits import AtOnce, Rate
from dashboard.web.problems import Problem
from schemas.records import Utc

SERIES = st.lists(st.floats(-1e6, 1e6) | st.just(float("nan")), max_size=300)


@given(SERIES, st.integers(1, 20))
def test_m4_keeps_each_buckets_ends_and_extremes(values: list[float], buckets: int) -> None:
    time, value = np.arange(len(values), dtype=float), np.array(values, float)
    end = max(len(values), 1)
    kept_time, kept = m4(time, value, begin=0, end=end, buckets=buckets)
    assert np.all(np.diff(kept_time) > 0)
    there = ~np.isnan(value)
    place = (time * (buckets / end)).astype(int)
    kept_place = (kept_time * (buckets / end)).astype(int)
    for bucket in np.unique(place[there]):
        mine, here = value[there & (place == bucket)], kept[kept_place == bucket]
        assert (here[0], here[-1], here.min(), here.max()) == (mine[0], mine[-1], mine.min(), mine.max())
        assert len(here) <= 4


@given(SERIES, st.integers(1, 20), st.integers(0, 300))
def test_m4_of_pieces_is_m4_of_the_whole(values: list[float], buckets: int, cut: int) -> None:
    time, value = np.arange(len(values), dtype=float), np.array(values, float)
    bounds = {"begin": 0.0, "end": float(max(len(values), 1)), "buckets": buckets}
    whole = m4(time, value, **bounds)
    one, other = m4(time[:cut], value[:cut], **bounds), m4(time[cut:], value[cut:], **bounds)
    joined = m4(np.r_[one[0], other[0]], np.r_[one[1], other[1]], **bounds)
    assert [each.tolist() for each in joined] == [each.tolist() for each in whole]


def test_a_rate_lets_a_burst_through_and_then_its_rate() -> None:
    rate = Rate(per_s=2, burst=3)
    assert [rate.wait_s("one", 0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert rate.wait_s("another", 0.0) == 0
    assert rate.wait_s("one", 0.5) == 0
    with pytest.raises(Problem) as refused:
        rate.admit("one", 0.5)
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})


def test_one_client_cannot_take_all_seats() -> None:
    seats = AtOnce("streams", of_one=1, of_all=2)
    with seats.one_more("one"), seats.one_more("another"):
        for client in ("one", "third"):
            with pytest.raises(Problem), seats.one_more(client):
                pass
    with seats.one_more("third"):
        assert seats.open == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, Format.JSON),
        ("*/*", Format.JSON),
        ("text/csv;q=0.5, application/vnd.apache.parquet", Format.PARQUET),
        ("application/json;q=0, text/*", Format.CSV),
    ],
)
def test_the_accept_header_chooses_the_form(header: str | None, expected: Format) -> None:
    assert chosen(None, header) is expected


def test_a_type_that_is_not_there_is_not_acceptable() -> None:
    with pytest.raises(Problem) as refused:
        chosen(None, "image/png")
    assert refused.value.status == 406


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, None), ("gzip", "gzip"), ("gzip, zstd", "zstd"), ("zstd;q=0, *", "gzip"), ("br", None), ("gzip;q=x", None)],
)
def test_the_encoding_is_one_that_is_accepted(header: str | None, expected: str | None) -> None:
    assert accepted(header) == expected


async def fetched(app: FastAPI, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        return await client.get(path, headers={"Accept-Encoding": "gzip"} | headers)


def test_a_kept_file_tells_its_size_and_goes_on_where_its_download_broke_off(tmp_path: Path) -> None:
    (tmp_path / "mast.csv").write_bytes(b"2024-01-01 00:00:00,1.5\n" * 2_000)
    app = FastAPI()
    app.add_middleware(Compression)

    @app.get("/kept")
    async def kept() -> FileResponse:
        return FileResponse(tmp_path / "mast.csv", media_type="application/octet-stream", filename="mast.csv")

    @app.get("/shown")
    async def shown() -> FileResponse:
        return FileResponse(tmp_path / "mast.csv", media_type="text/csv")

    async def work() -> None:
        whole = await fetched(app, "/kept")
        rest = await fetched(app, "/kept", Range="bytes=1000-", **{"If-Range": whole.headers["ETag"]})
        assert (whole.headers["Content-Length"], whole.headers.get("Content-Encoding")) == ("48000", None)
        assert (rest.status_code, rest.headers.get("Content-Encoding")) == (206, None)
        assert rest.content == whole.content[1000:]
        packed = await fetched(app, "/shown")
        assert (packed.headers["Content-Encoding"], packed.headers["ETag"][:3]) == ("gzip", 'W/"')
        again = await fetched(app, "/shown", Range="bytes=1000-", **{"If-Range": packed.headers["ETag"]})
        assert (again.status_code, again.content) == (200, whole.content)

    asyncio.run(work())


def test_a_cursor_comes_back_and_a_made_up_one_does_not() -> None:
    assert unpacked(packed([7, "mast"]), [int, str]) == [7, "mast"]
    for made_up in ("", "%%", "bm8", packed(["x"]), packed(["x", "mast"]), packed({"a": 1})):
        with pytest.raises(Problem) as refused:
            unpacked(made_up, [int, str])
        assert refused.value.status == 422


@pytest.mark.parametrize("time", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)])
@pytest.mark.parametrize("entry", Entry.__subclasses__(), ids=lambda entry: entry.__name__)
def test_what_is_stored_of_any_time_is_told(entry: type[Entry], time: datetime) -> None:
    """A flag for ever, a device that exists since the year 1, a heartbeat of a clock that was never set."""
    assert feature.ROUTERS  # they know all entries
    told = [name for name, field in entry.model_fields.items() if "AwareDatetime" in repr(field.annotation)]
    assert told or entry.__name__ in {"Site", "Channel", "Line", "Category"}
    for name in told:
        field = entry.model_fields[name]
        kind: Any = Annotated.__class_getitem__((field.annotation, *field.metadata, None))  # type: ignore[attr-defined]
        assert TypeAdapter(kind).validate_python(time) == time, name


def test_a_cursor_of_any_time_comes_back() -> None:
    flag_for_ever = [datetime(9999, 12, 31, tzinfo=UTC), "mast-7"]
    assert unpacked(packed(flag_for_ever), [Utc, str]) == flag_for_ever
