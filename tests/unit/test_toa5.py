"""TOA5 with every trap that real files have set."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fix_edge import SAMPLES, mast_rows, toa5_text

from producers.files import lines
from producers.files.logger_file import Chunk, Kind, LoggerFile
from producers.files.recognise import recognise
from schemas.errors import Refused

Write = Callable[..., Path]


def read(path: Path) -> tuple[LoggerFile, list[Chunk]]:
    file = recognise(path)
    return file, list(file.chunks(lambda column: column.name))


def stamps(chunks: list[Chunk]) -> list[str]:
    return [str(each) for chunk in chunks for each in chunk.stamps.astype("datetime64[us]")]


def test_header_tells_logger_columns_units_and_statistics(write_toa5: Write) -> None:
    file, (chunk,) = read(write_toa5(mast_rows(3)))
    assert (file.identity.model, file.identity.serial, file.identity.signature) == ("CR1000", "E7000", "12345")
    assert [(c.name, c.unit, c.statistic, c.kind) for c in file.columns][:2] == [
        ("RECORD", "RN", "", Kind.RECORD),
        ("Spd80mN", "m/s", "Avg", Kind.VALUE),
    ]
    assert chunk.columns == ("Spd80mN", "Spd80mS", "T2m")
    assert chunk.values.tolist() == [[2.0, 3.0, -5.0], [2.1, 3.1, -4.0], [2.2, 3.2, -3.0]]
    assert chunk.lines.tolist() == [5, 6, 7]


@pytest.mark.parametrize("cell", ["NAN", '"NAN"', "nan", '"INF"', "-INF", "", '""', " NAN "])
def test_words_for_missing_are_missing(write_toa5: Write, cell: str) -> None:
    file, (chunk,) = read(write_toa5([f'"2024-01-01 00:00:00",1,{cell},2,3,x']))
    assert np.isnan(chunk.values[0, 0])
    assert (file.tally.missing, file.tally.problem_count) == (1, 0)


@pytest.mark.parametrize("cell", ["7.1.2", "1_000", "0x10", "#REF!"])
def test_what_is_no_number_is_a_problem_with_its_line(write_toa5: Write, cell: str) -> None:
    file, (chunk,) = read(write_toa5([*mast_rows(2), f"2024-01-01 00:00:00,1,{cell},2,3,x"]))
    assert np.isnan(chunk.values[2, 0])
    assert [(p.line, cell in p.what) for p in file.tally.problems] == [(7, True)]


def test_byte_order_mark_and_timestamp_in_mixed_case(write_toa5: Write) -> None:
    path = write_toa5(mast_rows(2), names="Timestamp,RECORD,Spd80mN,Spd80mS,T2m,Site", encoding="utf-8-sig")
    assert len(read(path)[1][0].stamps) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_degree_signs_in_both_encodings(write_toa5: Write, encoding: str) -> None:
    file, _ = read(write_toa5(mast_rows(1), names="TIMESTAMP,RECORD,T°,m²,c,d", encoding=encoding))
    assert [column.name for column in file.columns][1:3] == ["T°", "m²"]


def test_padding_commas_of_a_spreadsheet_are_no_columns(tmp_path: Path) -> None:
    path = tmp_path / "padded.dat"
    path.write_text("".join(f"{line},,,\n" for line in toa5_text(mast_rows(3)).splitlines()))
    file, (chunk,) = read(path)
    assert (len(file.columns), file.tally.rows, file.tally.problem_count) == (5, 3, 0)
    assert chunk.columns == ("Spd80mN", "Spd80mS", "T2m")


def test_fractional_seconds_may_come_and_go(write_toa5: Write) -> None:
    rows = [f'"2026-02-19 09:46:{at}",1,2,3,4,x' for at in ("17", "17.005", "17.01", "18")]
    _, chunks = read(write_toa5(rows))
    assert [each[17:] for each in stamps(chunks)] == ["17.000000", "17.005000", "17.010000", "18.000000"]


def test_times_of_extremes_and_texts_are_kept_apart(write_toa5: Write, tmp_path: Path) -> None:
    text = toa5_text(['2024-01-01 00:00:00,1,2,"2024-01-01 00:03:00",4,ok'], names="TIMESTAMP,RECORD,V,V_TMx,T,Note")
    path = tmp_path / "tmx.dat"
    path.write_text(text.replace("Avg,Avg,Avg,Avg", "Max,TMx,Avg,Smp"))
    file, (chunk,) = read(path)
    assert {c.name: str(c.kind) for c in file.columns if c.kind is not Kind.VALUE} == {
        "RECORD": "record",
        "V_TMx": "time",
        "Note": "text",
    }
    assert chunk.columns == ("V", "T")


def test_a_header_again_in_the_middle_is_no_row(tmp_path: Path) -> None:
    rows = mast_rows(6)
    path = tmp_path / "twice.dat"
    path.write_text(toa5_text(rows[:4]) + "\ufeff" + toa5_text(rows[3:]))
    file, chunks = read(path)
    assert (file.tally.rows, file.tally.headers, file.tally.problem_count) == (7, 2, 0)
    assert [int(line) for chunk in chunks for line in chunk.lines] == [5, 6, 7, 8, 13, 14, 15]


def test_a_header_with_other_columns_changes_the_columns_from_there(tmp_path: Path) -> None:
    path = tmp_path / "changed.dat"
    other = "TIMESTAMP,RECORD,T2m,New"
    path.write_text(toa5_text(mast_rows(2)) + toa5_text(["2024-01-01 00:00:00,9,1.5,2.5"], names=other))
    _, chunks = read(path)
    assert [chunk.columns for chunk in chunks] == [("Spd80mN", "Spd80mS", "T2m"), ("T2m", "New")]


def test_a_cut_last_line_is_left_out_and_told(write_toa5: Write) -> None:
    path = write_toa5(mast_rows(3))
    path.write_bytes(path.read_bytes()[:-9])
    file, (chunk,) = read(path)
    assert len(chunk.stamps) == 2
    assert [problem.line for problem in file.tally.problems] == [7]


def test_rows_that_break_do_not_stop_the_others(write_toa5: Write) -> None:
    rows = mast_rows(5)
    rows[1] = rows[1].rsplit(",", 2)[0]
    rows[3] = "\0" * 40
    file, chunks = read(write_toa5([*rows[:2], 'x"y,"1', "", *rows[2:], "20/12/2016 00:00,1,2,3,4,x"]))
    assert sum(len(chunk.stamps) for chunk in chunks) == 3
    assert [problem.line for problem in file.tally.problems] == [6, 7, 10, 12]


def test_a_quote_that_is_never_closed_stays_in_its_line(write_toa5: Write) -> None:
    rows = mast_rows(4)
    rows[1] = rows[1].replace("mast", '"mast')
    file, chunks = read(write_toa5(rows))
    assert sum(len(chunk.stamps) for chunk in chunks) >= 3
    assert file.tally.rows + file.tally.problem_count == 4


def test_blocks_cut_anywhere_read_the_same(write_toa5: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "twice.dat"
    path.write_text(toa5_text(mast_rows(40)) + toa5_text(mast_rows(20, start="2017-01-01T00:00")))
    whole = np.concatenate([chunk.values for chunk in read(path)[1]])
    for size in (7, 64, 331):
        monkeypatch.setattr(lines, "BLOCK_BYTES", size)
        file, chunks = read_lazily(path)
        assert np.array_equal(np.concatenate([chunk.values for chunk in chunks]), whole)
        assert file.tally.problem_count == 0


def read_lazily(path: Path) -> tuple[LoggerFile, list[Chunk]]:
    """The header is read in one block; only the rows meet the small ones."""
    size = lines.BLOCK_BYTES
    lines.BLOCK_BYTES = 1 << 20
    file = recognise(path)
    lines.BLOCK_BYTES = size
    return file, list(file.chunks(lambda column: column.name))


def test_header_without_rows_is_no_error(write_toa5: Write) -> None:
    file, chunks = read(write_toa5([]))
    assert (file.tally.rows, chunks, file.tally.problem_count) == (0, [], 0)


def test_a_file_without_one_readable_row_is_refused_with_the_first_line(write_toa5: Write) -> None:
    with pytest.raises(Refused, match=r"line 5.*20 December 2016"):
        read(write_toa5(["20 December 2016 00:10,1,2,3,4,x"] * 3))


@pytest.mark.parametrize(
    ("names", "told"), [("TIME,RECORD,a,b", "TIMESTAMP"), ("TIMESTAMP,RECORD,a,a", "'a' is there 2 times")]
)
def test_headers_that_cannot_be_are_refused(write_toa5: Write, names: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        read(write_toa5([], names=names))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample files are on the developers' machine only")
@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.glob("toa5_*")))
def test_real_files_read_as_a_plain_reading_does(name: str) -> None:
    file, chunks = read(SAMPLES / name)
    with (SAMPLES / name).open(encoding="utf-8-sig", newline="") as source:
        rows = list(csv.reader(source))[4:]
    names = [column.name for column in file.columns]
    assert (file.tally.rows, file.tally.problem_count) == (len(rows), 0)
    values = np.concatenate([chunk.values for chunk in chunks])
    for into, channel in enumerate(chunks[0].columns):
        plain = [float(row[1 + names.index(channel)]) for row in rows]
        assert np.array_equal(values[:, into], plain, equal_nan=True)
