"""Recognising files, described files, and what stamps mean."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fix_edge import mast_rows, toa5_text

from producers.files.described import read_description
from producers.files.logger_file import Chunk, LoggerFile, Stamping
from producers.files.recognise import recognise
from producers.files.stamps import Clock, offset_minutes, span_of
from producers.imports.reading import Import, plan, sha256_of
from producers.spool import FileMark, Rows
from schemas.devices import Device, Logger, Sensor, Station
from schemas.errors import Refused

UTC_BEGIN = Stamping(0, "begin", 600)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.dat", b"", "empty"),
        ("a.dat", b" \r\n", "empty"),
        ("a.csv", b"PK\x03\x04rest", "Excel workbook or a zip"),
        ("a.xls", b"\xd0\xcf\x11\xe0rest", "save the sheet as CSV"),
        ("a.rld", b"\x01\x02\xff\xfe\x00\x99", "SymphoniePRO Desktop"),
        ("a.rwd", b"\x01\x02\xff\xfe\x00\x99", "Symphonie Data Retriever"),
        ("a.dat", b'"TOB2","x"\r\n\x00\x01', "CardConvert"),
        ("a.gz", gzip.compress(b"TOA5", mtime=0), "gunzip"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\0\0", "a picture"),
        ("a.dat", b'"TOACI1","x"\r\n', "ends inside its header"),
        (
            "a.dat",
            b'"TOA5","x"\r\n"TIMESTAMP","a","a"\r\n\r\n\r\n',
            "'a' is there 2 times; get .*--description",
        ),
        ("a.hobo", b"HOBO\x88\n\x04\x00\x00\x01", "export it to text in HOBOware"),
        ("a.bin", b"abc\x00\x01\x02", "binary"),
        ("a.txt", b"hello\nworld\n", "--description"),
        ("a.csv", b'\xef\xbb\xbf"Plot-Titel: KLG"\n', "ends inside its header"),
    ],
)
def test_what_is_not_read_is_refused_by_name_with_the_next_step(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=told):
        recognise(tmp_path / name)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such file"):
        recognise(tmp_path / "none.dat")
    with pytest.raises(Refused, match="folder"):
        recognise(tmp_path)


DESCRIBED = """
delimiter = ";"
decimal = ","
header_line = 2
first_line = 4
missing = ["-999"]
utc_offset = "+02:00"
stamp = "end"
interval_s = 600

[time]
columns = ["Datum", "Zeit"]
format = "%d.%m.%Y %H:%M"

[[columns]]
name = "Wind (m/s)"
channel = "Spd80mN"
unit = "m/s"

[[columns]]
number = 4
channel = "T2m"
"""


@pytest.fixture
def described(tmp_path: Path) -> Callable[..., LoggerFile]:
    def make(text: str, *, about: str = DESCRIBED) -> LoggerFile:
        (tmp_path / "about.toml").write_text(about)
        (tmp_path / "data.csv").write_text(text, encoding="latin-1")
        return recognise(tmp_path / "data.csv", read_description(tmp_path / "about.toml"))

    return make


def test_a_described_file_is_read_as_described(described: Callable[..., LoggerFile]) -> None:
    file = described(
        "Station Höhe\nDatum;Zeit;Wind (m/s);Temp\n;;m/s;C\n01.02.2024;00:10;7,25;-999\n01.02.2024;00:20;8;1,5\n"
    )
    (chunk,) = list(file.chunks(lambda column: column.name))
    assert chunk.columns == ("Spd80mN", "T2m")
    np.testing.assert_array_equal(chunk.values, [[7.25, np.nan], [8, 1.5]])
    clock = Clock.of(file.stamping, device=None, name="data.csv")
    first = int(clock.begin_utc(chunk.stamps, chunk.lines)[0])
    assert datetime.fromtimestamp(first / 1e6, UTC) == datetime(2024, 1, 31, 22, 0, tzinfo=UTC)


def test_every_column_under_its_own_name_where_none_is_listed(described: Callable[..., LoggerFile]) -> None:
    about = '[time]\ncolumns = ["t"]\nformat = "%Y-%m-%d %H:%M:%S"'
    file = described("t,a,note,b\n2024-01-01 00:00:00,1,x,2\n2024-01-01 00:10:00,,y,3\n", about=about)
    (chunk,) = list(file.chunks(lambda column: column.name))
    assert chunk.columns == ("a", "b")
    assert file.tally.missing == 1


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ("delimiter = 5", "delimiter"),
        ("x = ", "no TOML"),
        ('[time]\ncolumns = ["nope"]\nformat = "%Y"', "'nope' is there 0 times"),
        ('header_line = 3\nfirst_line = 2\n[time]\ncolumns = ["a"]\nformat = "%Y"', "must come after"),
        ('[time]\ncolumns = ["a"]\nformat = "%Y"\n[[columns]]\nunit = "m"', "by name or by number"),
    ],
)
def test_descriptions_that_cannot_be_are_refused(described: Callable[..., LoggerFile], about: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        described("a,b\n1,2\n", about=about)


@pytest.mark.parametrize(
    ("text", "minutes"), [("+01:00", 60), ("-05:30", -330), ("Z", 0), ("UTC+2", 120), ("+0530", 330), ("UTC", 0)]
)
def test_offsets_are_read(text: str, minutes: int) -> None:
    assert offset_minutes(text) == minutes


@pytest.mark.parametrize("text", ["1", "+25:00", "+1:75", "Europe/Oslo", "+"])
def test_offsets_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Refused, match="UTC offset"):
        offset_minutes(text)


def device(*loggers: Logger, channels: tuple[str, ...] = ("Spd80mN",)) -> Device:
    return Device(
        device_id="mast-7",
        name="mast",
        station=Station(station_id="hill", name="Hill"),
        loggers=loggers,
        sensors=tuple(Sensor(channel=c, point=c, quantity="wind_speed", unit="m/s", statistic="avg") for c in channels),
        configured_at=datetime(2024, 1, 1, tzinfo=UTC),
        configured_by="test",
    )


def micros(*stamps: str) -> np.ndarray:  # type: ignore[type-arg]  # of longs
    return np.array(stamps, "datetime64[us]").astype(np.int64)


def test_nothing_is_guessed_and_the_questions_name_their_options() -> None:
    with pytest.raises(Refused, match=r"--utc-offset \+HH:MM.*--stamp begin\|end.*--interval SECONDS"):
        Clock.of(Stamping(), device=device(Logger()), name="a.dat")
    with pytest.raises(Refused, match="--interval"):
        Clock.of(Stamping(0, "end"), device=None, name="a.dat")


def test_options_win_over_the_device() -> None:
    one = device(Logger(utc_offset_minutes=60, stamp="end", interval_s=600))
    clock = Clock.of(Stamping(utc_offset_minutes=0), device=one, name="a.dat")
    at = micros("2024-01-01 01:00")
    assert clock.begin_utc(at, at).tolist() == micros("2024-01-01 00:50").tolist()


def test_each_logger_counts_in_its_own_time() -> None:
    changed = datetime(2017, 1, 4, 12, tzinfo=UTC)
    one = device(
        Logger(valid_to=changed, utc_offset_minutes=0, stamp="begin"),
        Logger(valid_from=changed, utc_offset_minutes=60, stamp="begin"),
    )
    clock = Clock.of(Stamping(), device=one, name="a.dat")
    at = micros("2017-01-04 11:50", "2017-01-04 13:00")
    assert clock.begin_utc(at, at).tolist() == micros("2017-01-04 11:50", "2017-01-04 12:00").tolist()


def test_a_row_of_no_logger_is_asked_for_with_its_line() -> None:
    changed = datetime(2018, 1, 1, tzinfo=UTC)
    first = Logger(valid_from=datetime(2017, 1, 1, tzinfo=UTC), valid_to=changed, utc_offset_minutes=0, stamp="begin")
    two = device(first, Logger(valid_from=changed, utc_offset_minutes=60, stamp="begin"))
    clock = Clock.of(Stamping(), device=two, name="a.dat")
    with pytest.raises(Refused, match="line 9"):
        clock.begin_utc(micros("2016-12-31 23:50"), np.array([9]))


@pytest.mark.parametrize(("year", "asks"), [(2016, True), (2020, False)])
def test_only_loggers_in_use_in_the_files_time_are_asked_for(tmp_path: Path, year: int, asks: bool) -> None:
    changed = datetime(2018, 1, 1, tzinfo=UTC)
    two = device(Logger(valid_to=changed), Logger(valid_from=changed, utc_offset_minutes=60, stamp="begin"))
    path = tmp_path / "a.dat"
    path.write_text(toa5_text(mast_rows(3, start=f"{year}-05-01T00:00")))

    def planned() -> Clock:
        about = {"name": "a.dat", "device_id": "mast-7", "device": two, "told": Stamping()}
        return plan(recognise(path), **about, span=lambda: span_of(recognise(path))).clock

    if asks:
        with pytest.raises(Refused, match="--utc-offset"):
            planned()
    else:
        at = micros("2020-05-01 00:00")
        assert planned().begin_utc(at, at).tolist() == micros("2020-04-30 23:00").tolist()


class Kept:
    """Takes what an import hands over."""

    def __init__(self, *, fails_after: int = 1 << 30) -> None:
        self.rows: list[Rows] = []
        self.mark: FileMark | None = None
        self.left = fails_after

    def __call__(self, rows: list[Rows], mark: FileMark) -> None:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.rows += rows
        self.mark = mark

    @property
    def times(self) -> list[int]:
        return [int(at) for rows in self.rows for at in rows.times]


def begin(path: Path, known: FileMark | None = None, *, told: Stamping = UTC_BEGIN) -> Import:
    file = recognise(path)
    made = plan(file, name=path.name, device_id="mast-7", device=device(), told=told, sha256=sha256_of(path))
    return Import.begin(file, made, known)


def test_overlapping_rows_are_taken_once_and_out_of_order_rows_are_taken(write_toa5: Callable[..., Path]) -> None:
    rows = mast_rows(6)
    late = "2016-12-19 23:50:00,1,9,9,9,mast"
    one = begin(write_toa5([*rows[:4], *rows[2:], late]))
    kept = Kept()
    list(one.run(kept))
    assert len(kept.times) == len(set(kept.times)) == 7
    assert (one.repeats.repeated, one.mark.rows_accepted, one.mark.readings_accepted) == (2, 9, 7)


def test_a_time_with_other_values_is_taken_and_told(write_toa5: Callable[..., Path]) -> None:
    rows = mast_rows(3)
    one = begin(write_toa5([*rows, rows[1].replace(",2.1,", ",9.9,")]))
    kept = Kept()
    list(one.run(kept))
    assert len(kept.times) == 4
    assert [(problem.line, "other values" in problem.what) for problem in one.file.tally.problems] == [(8, True)]


def test_an_import_goes_on_where_it_was_cut_off(
    write_toa5: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.files.lines.BLOCK_BYTES", 4096)
    rows = mast_rows(500)
    path = write_toa5([*rows, *rows[100:200]])
    whole, kept = Kept(), Kept(fails_after=3)
    list(begin(path).run(whole))
    while kept.mark is None or not kept.mark.complete:
        kept.left = 3
        try:
            list(begin(path, kept.mark).run(kept))
        except KeyboardInterrupt:
            continue
    assert kept.times == whole.times
    assert len(set(kept.times)) == 500


def test_a_complete_file_is_not_read_again(write_toa5: Callable[..., Path]) -> None:
    path, kept = write_toa5(mast_rows(5)), Kept()
    list(begin(path).run(kept))
    assert list(begin(path, kept.mark).run(kept)) == []


def test_half_a_file_cannot_go_on_with_other_options(write_toa5: Callable[..., Path]) -> None:
    path = write_toa5(mast_rows(5))
    known = begin(path).mark
    with pytest.raises(Refused, match="--again"):
        begin(path, known, told=Stamping(60, "begin", 600))


def test_columns_are_left_out_by_name_only(write_toa5: Callable[..., Path]) -> None:
    one = begin(write_toa5(mast_rows(2)))
    assert one.plan.left_out == {
        "RECORD": "the logger's row number",
        "Spd80mS": "not configured",
        "T2m": "not configured",
        "Site": "text",
    }


def test_a_file_of_other_columns_is_refused(write_toa5: Callable[..., Path]) -> None:
    with pytest.raises(Refused, match="none of its columns"):
        begin(write_toa5(mast_rows(2), names="TIMESTAMP,RECORD,a,b,c,d"))


def test_chunks_have_one_row_of_values_per_stamp(write_toa5: Callable[..., Path]) -> None:
    file = recognise(write_toa5(mast_rows(50)))
    chunk: Chunk
    for chunk in file.chunks(lambda column: column.name):
        assert chunk.values.shape == (len(chunk.stamps), len(chunk.columns))
