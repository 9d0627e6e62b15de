"""Readings, statistics and windows over HTTP, against what the database holds."""

import io
import json
from typing import Any

import httpx
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fix_web import CHANNELS, MAST, ROWS, Served

pytestmark = pytest.mark.integration

READINGS = "/api/v1/readings"
ALL = {"device": MAST}


@pytest.fixture(scope="module")
def client(served: Served) -> httpx.Client:
    return served.client()


def truth(served: Served, where: str = "true") -> list[tuple[Any, ...]]:
    return served.sql(
        "SELECT device_id || '/' || channel, time, logged, nullif(value, 'NaN'), quality, tests "
        f"FROM readings JOIN sensors USING (sensor_id) WHERE {where} ORDER BY sensor_id, time"
    )


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


def test_arrow_holds_every_row_once(served: Served, client: httpx.Client) -> None:
    answer = client.get(READINGS, params={**ALL, "format": "arrow"})
    table = pa.ipc.open_stream(answer.content).read_all()
    assert rows_of(table) == truth(served)
    assert table.num_rows == ROWS * len(CHANNELS)
    sensors = json.loads(table.schema.metadata[b"telltale.sensors"])
    assert [each["unit"] for each in sensors] == ["m/s", "deg", "deg_C"]


def test_parquet_csv_and_ndjson_hold_what_arrow_holds(served: Served, client: httpx.Client) -> None:
    expected = truth(served)
    parquet = client.get(READINGS, params=ALL, headers={"Accept": "application/vnd.apache.parquet"})
    assert rows_of(pq.read_table(io.BytesIO(parquet.content))) == expected
    csv = pl.read_csv(io.BytesIO(client.get(READINGS, params={**ALL, "format": "csv"}).content), try_parse_dates=True)
    assert csv.columns == ["sensor", "time", "logged", "value", "quality", "tests"]
    assert csv.height == len(expected)
    first = client.get(READINGS, params={**ALL, "format": "csv"}).text.splitlines()[1]
    assert first.split(",")[1] == "2024-01-01T00:00:00+00:00"
    assert csv["value"].to_list() == [row[3] for row in expected]
    lines = client.get(READINGS, params={**ALL, "format": "ndjson"}).text.splitlines()
    assert [json.loads(line)["value"] for line in lines] == [row[3] for row in expected]


def test_pages_are_linked_as_lists_are(served: Served, client: httpx.Client) -> None:
    found, more = 0, client.get(READINGS, params={**ALL, "limit": 9_000})
    while True:
        found += len(more.json()["items"])
        assert ("next" in more.links) == (more.json()["next"] is not None)
        if "next" not in more.links:
            break
        more = client.get(more.links["next"]["url"])
    assert found == len(truth(served))


def test_pages_join_to_the_whole(served: Served, client: httpx.Client) -> None:
    found: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = client.get(READINGS, params={**ALL, "limit": 5000, **after}).raise_for_status().json()
        found += [(row["sensor"], row["value"], row["quality"]) for row in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == [(row[0], row[3], row[4]) for row in truth(served)]


def test_period_quality_and_flags_choose(served: Served, client: httpx.Client) -> None:
    period = {"from": "2024-01-10T00:00:00+01:00", "to": "2024-01-12T00:00Z", "sensor": f"{MAST}/Spd80"}
    when = "sensor_id = 1 AND time >= '2024-01-09 23:00Z' AND time < '2024-01-12 00:00Z'"
    failed = client.get("/api/v1/readings", params={**period, "quality": "fail,9"}).json()["items"]
    assert len(failed) == len(truth(served, when + " AND quality IN (4, 9)")) > 0
    good = client.get("/api/v1/readings", params={**period, "good": "true", "limit": 10_000}).json()["items"]
    assert len(good) == len(truth(served, when + " AND quality = 1"))


@pytest.mark.parametrize("interval", ["10min", "hourly", "daily"])
def test_statistics_are_those_of_the_views(served: Served, client: httpx.Client, interval: str) -> None:
    asked = {"device": MAST, "interval": interval}
    table = pa.ipc.open_stream(client.get("/api/v1/statistics", params={**asked, "format": "arrow"}).content).read_all()
    expected = served.sql(
        f"SELECT time, count, mean, sd, min, max FROM statistics_{interval} "
        "WHERE sensor_id <= 3 ORDER BY sensor_id, time"
    )
    assert [row[1:] for row in rows_of(table)] == expected
    first = client.get("/api/v1/statistics", params={**asked, "limit": 3}).json()
    assert [row["mean"] for row in first["items"]] == [row[2] for row in expected[:3]]
    rest = client.get("/api/v1/statistics", params={**asked, "limit": 3, "after": first["next"]}).json()
    assert [row["mean"] for row in rest["items"]] == [row[2] for row in expected[3:6]]


def test_windows_are_those_of_the_stage(client: httpx.Client) -> None:
    found = client.get("/api/v1/windows", params={"sensor": "1"}).json()["items"]
    assert [(row["mean"], row["count"]) for row in found] == [(float(n), 10) for n in range(10)]


def test_a_line_keeps_extremes_and_its_ends(served: Served, client: httpx.Client) -> None:
    expected = [(row[1].timestamp(), row[3]) for row in truth(served, "sensor_id = 1") if row[3] is not None]
    line = client.get("/api/v1/sensors/1/series", params={"width": 50}).json()
    points = list(zip(line["time"], line["value"], strict=True))
    assert (line["source"], line["rows"]) == ("logged", ROWS)
    assert len(points) <= 4 * 50
    assert set(points) <= set(expected)
    assert (points[0], points[-1]) == (expected[0], expected[-1])
    assert {min(line["value"]), max(line["value"])} == {min(v for _, v in expected), max(v for _, v in expected)}


def test_a_line_as_doubles_is_the_same_line(client: httpx.Client) -> None:
    params = {"width": 100, "from": "2024-01-05T00:00Z", "to": "2024-01-25T00:00Z"}
    line = client.get("/api/v1/sensors/1/series", params=params).json()
    raw = client.get("/api/v1/sensors/1/series", params={**params, "format": "f64"})
    time, value = np.frombuffer(raw.content, "<f8").reshape(2, -1)
    assert (time.tolist(), value.tolist()) == (line["time"], line["value"])


def test_a_line_of_statistics_spans_least_to_largest(served: Served, client: httpx.Client) -> None:
    line = client.get("/api/v1/sensors/1/series", params={"source": "daily", "width": 1000}).json()
    (bounds,) = served.sql("SELECT min(min), max(max) FROM statistics_daily WHERE sensor_id = 1")
    assert (min(line["value"]), max(line["value"])) == bounds


def test_the_newest_value_of_each_sensor(served: Served, client: httpx.Client) -> None:
    found = client.get("/api/v1/latest", params={"station": "hill"}).json()["items"]
    assert [each["sensor"] for each in found] == ["mast-7/Spd80", "mast-7/Dir78", "mast-7/Tmp5", "mast-8/Spd80"]
    assert found[3]["time"] is None
    assert found[0]["value"] == truth(served, "sensor_id = 1")[-1][3]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_answers_are_compressed_on_request(served: Served, client: httpx.Client, encoding: str) -> None:
    answer = client.get(READINGS, params={**ALL, "format": "ndjson"}, headers={"Accept-Encoding": encoding})
    assert answer.headers["content-encoding"] == encoding
    assert len(answer.text.splitlines()) == ROWS * len(CHANNELS)
