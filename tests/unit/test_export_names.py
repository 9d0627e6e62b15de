"""Exports of what loggers' files may call things: a file is read as it was meant, and starts nothing. No database."""

import csv
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dashboard.exports.choice import Choice, Flagged, Station
from dashboard.exports.clock import Clock, micros
from dashboard.exports.columns import columns_of
from dashboard.exports.labels import file_name
from dashboard.exports.making import WRITERS
from dashboard.exports.outputs import outputs
from dashboard.exports.query import Block, Tally
from dashboard.exports.request import ExportRequest, Format

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
HOSTILE = (
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2",
    "@SUM(1)",
    "a,b",
    "a;b",
    'q"uoted',
    "two\r\n=lines",
    "tab\tbed",
    "Außen",
    "time",
    "Date/Time",
    "\x1b[2J",
    "\u2028",
)
CATEGORY = "tower\n\tshadow"


def row(number: int, channel: str, **facts: Any) -> dict[str, Any]:
    unknown = dict.fromkeys(("point", "quantity", "unit", "statistic", "height_m", "boom_orientation_deg"))
    return unknown | {"sensor_id": number, "device_id": "mast", "channel": channel} | facts


def exported(folder: Path, rows: list[dict[str, Any]], **words: Any) -> Path:
    """Three rows of each channel, its number everywhere."""
    request = ExportRequest(station="hill", zone="UTC", **words)
    choice = Choice(
        request=request,
        columns=columns_of(rows, request),
        stations=(Station("hill", "Hill\n=1+1"),),
        begin=BEGIN,
        end=BEGIN + timedelta(minutes=30),
        clock=Clock("UTC", UTC, 0),
        step_s=600.0,
        included=(),
        excluded=(CATEGORY,),
        flagged=(Flagged(1, CATEGORY, BEGIN, BEGIN + timedelta(minutes=10)),),
    )
    times = micros(BEGIN) + 600_000_000 * np.arange(3)

    def source(part: Choice, _: Tally) -> Iterator[Block]:
        yield Block(times, tuple(np.full(3, float(column.sensor_id)) for column in part.columns), micros(part.end))

    path = folder / f"export.{request.format}"
    with outputs(path, force=False) as out:
        WRITERS[request.format](replace(choice), source, out, Tally())
        out.finish()
    return path


ALL = [row(number, channel) for number, channel in enumerate(HOSTILE, 1)]


def read(text: str, separator: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text), delimiter=separator))


def check(names: list[str], rows: list[list[str]], stamp: str) -> None:
    """Each value stands below the name of its own channel, and no name would be computed."""
    assert names[0] == stamp
    assert len(set(names)) == len(HOSTILE) + 1
    assert not any(name.startswith(("=", "+", "-", "@")) for name in names)
    assert [len(cells) for cells in rows] == 3 * [len(names)]
    number = {name: float(cell) for name, cell in zip(names[1:], rows[0][1:], strict=True)}
    assert number["'=1+1"] == 1
    assert number[next(name for name in names if name.startswith("Au"))] == 1 + HOSTILE.index("Außen")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_has_a_name_for_each_value_whatever_channels_are_called(tmp_path: Path, separator: str) -> None:
    text = exported(tmp_path, ALL, format="csv", separator=separator).read_text()
    lines = text.splitlines()
    about = [line for line in lines if line.startswith("# ")]
    assert len(about) == 7 + len(HOSTILE)
    assert lines[: len(about)] == about
    names, *rows = read("\n".join(lines[len(about) :]), separator)
    check(names, rows, "time")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_windographer_text_has_a_name_for_each_value(tmp_path: Path, separator: str) -> None:
    path = exported(tmp_path, ALL, format="windographer", separator=separator, labels="bare")
    lines = path.read_bytes().decode().split("\r\n")
    assert lines[10].startswith("Time stamps indicate")
    names, *rows = [line.split(separator) for line in lines[12:-1]]
    check(names, rows, "Date/Time")
    (head, flag, end) = (tmp_path / "export_flags.txt").read_bytes().decode().split("\r\n")
    assert (head.count("\t"), flag.count("\t"), end) == (4, 4, "")


def test_parquet_holds_a_channel_called_as_its_stamps(tmp_path: Path) -> None:
    table = pq.read_table(exported(tmp_path, ALL, format="parquet"))
    assert table.schema.names[0] == "time"
    assert len(set(table.schema.names)) == len(HOSTILE) + 1
    assert "=1+1" in table.schema.names
    assert table.column("time (mast/time)").to_pylist() == 3 * [1.0 + HOSTILE.index("time")]


def test_a_zip_has_a_file_of_its_own_for_each_kind(tmp_path: Path) -> None:
    kinds = ("flags", "wind speed", "wind\nspeed", "Wind Speed", "../../wind", "..\\wind", "other", None)
    rows = [row(number, f"C{number}", quantity=kind) for number, kind in enumerate(kinds, 1)]
    with zipfile.ZipFile(exported(tmp_path, rows, format=Format.ZIP, labels="bare")) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        archive.extractall(tmp_path / "there")
    assert len({name.lower() for name in names}) == len(names) == len(set(kinds) - {None}) + 1
    assert not any("/" in name or "\\" in name for name in names)
    there = "".join(path.read_text() for path in (tmp_path / "there").iterdir() if path.name != "flags.txt")
    assert all(f"C{number}" in there for number in range(1, len(kinds) + 1))


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ({"station": "hill"}, "hill.csv"),
        ({"sensors": ("mast-7/Spd80",)}, "mast-7_Spd80.csv"),
        ({"sensors": ("*",)}, "export.csv"),
        ({"device": ".."}, "export.csv"),
        ({"sensors": ("two\nlines",)}, "two lines.csv"),
        ({"sensors": ("Außen?",)}, "Au_en_.csv"),
    ],
)
def test_a_file_is_called_after_what_it_is_about(said: dict[str, Any], name: str) -> None:
    assert file_name(ExportRequest(format=Format.CSV, **said)) == name
