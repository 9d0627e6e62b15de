"""TOA5 with every trap that real files have set."""

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import logger_file_examples as made
import numpy as np
import pytest
from fix_edge import SAMPLES, mast_rows, toa5_text
from fix_files import Put, kinds, looked, values

from producers.files import lines, table
from producers.files.logger_file import Chunk, Kind, LoggerFile
from producers.files.recognise import recognise
from producers.stations.adoption import Wanted, adoption
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


def test_midnight_may_be_written_as_the_end_of_its_day(write_toa5: Write) -> None:
    rows = [f'"2024-02-{at}",1,2,3,4,x' for at in ("28 23:50:00", "29 24:00:00", "29 24:00:01")]
    file, chunks = read(write_toa5(rows))
    assert stamps(chunks) == ["2024-02-28T23:50:00.000000", "2024-03-01T00:00:00.000000"]
    assert [each.line for each in file.tally.problems] == [7]


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


# Saved again, cut, changed, malformed


def test_texts_of_digits_stand_in_quotes_and_are_no_values(put: Put) -> None:
    file = recognise(put(made.toa5()))
    assert (kinds(file, Kind.TEXT), kinds(file, Kind.TIME)) == (["Note", "Serial"], ["WS_TMx"])
    (chunk,) = file.chunks(lambda column: column.name, texts=True)
    assert chunk.texts["Serial"][:2] == ["000", "001"]


def test_a_file_saved_with_every_cell_in_quotes_keeps_its_numbers(put: Put) -> None:
    lines = toa5_text(mast_rows(4)).splitlines()
    quoted = "\r\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in lines) + "\r\n"
    assert values(recognise(put(quoted.encode())))["T2m"] == [-5, -4, -3, -2]


def test_a_changed_program_is_told_with_its_line(put: Put) -> None:
    other = toa5_text(mast_rows(2, start="2017-01-01T00:00"), names="TIMESTAMP,RECORD,Spd80mN,New,T2m,Site")
    found = looked(put((toa5_text(mast_rows(3)) + other.replace("12345", "999")).encode()))
    assert found.changes == ["line 8: signature 12345 became 999; new columns New; columns gone Spd80mS"]
    assert [column.name for column in found.columns] == ["Spd80mN", "Spd80mS", "T2m", "New"]


def test_a_column_of_text_whose_first_cells_are_empty_is_no_channel(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "ROWS_SNIFFED", 2)
    rows = mast_rows(5)
    rows[:3] = [row.replace("mast", "") for row in rows[:3]]
    found = looked(put(toa5_text(rows).encode()))
    assert ([column.name for column in found.columns], found.missing) == (["Spd80mN", "Spd80mS", "T2m"], 0)
    assert (found.first_row, found.problems) == ([2.0, 3.0, -5.0], [])


def test_such_a_column_is_left_out_of_the_device_that_is_made_of_the_file(
    put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "ROWS_SNIFFED", 2)
    rows = mast_rows(5)
    rows[:3] = [row.replace("mast", "") for row in rows[:3]]
    made_of = adoption(str(put(toa5_text(rows).encode())), {}, Wanted(who="test"), now=datetime.now(UTC)).proposal
    assert [sensor.channel for sensor in made_of.device.sensors] == ["Spd80mN", "Spd80mS", "T2m"]
    assert made_of.left_out == ("Site",)


def test_repeated_and_late_rows_are_counted(put: Put) -> None:
    rows = mast_rows(6)
    found = looked(put(toa5_text([*rows, *rows[2:4], *mast_rows(1, start="2016-12-19T00:00")]).encode()))
    assert (found.rows, found.repeated, found.out_of_order) == (9, 2, 2)
    assert found.record()["first_stamp"] == "2016-12-19T00:00:00"


def test_a_whole_last_line_without_its_end_is_taken_where_that_is_certain(put: Put) -> None:
    data = made.symphonie()
    assert looked(put(data[:-1])).rows == 30
    cut = looked(put(data[:-3]))
    assert (cut.rows, cut.missing) == (30, 2)
    assert cut.record()["problems"][0]["what"].endswith("its last cell may be cut and is left out")
    assert looked(put(data[: data.rindex(b"\t")])).rows == 29


def test_a_header_a_row_apart_is_read_in_good_time(put: Put) -> None:
    head, row = toa5_text([]), mast_rows(1)[0]
    found = looked(put(f"{head}{row}\r\n".encode() * 3_000))
    assert (found.rows, found.repeated) == (3_000, 2_999)


@pytest.mark.parametrize(
    ("delimiter", "decimal"),
    [("\t", "."), (";", "."), (";", ","), ("\t", ",")],
    ids=["tabs", "semicolons", "eu", "tsv"],
)
def test_toa5_saved_again_with_other_delimiters_and_decimals(put: Put, delimiter: str, decimal: str) -> None:
    lines = [line.replace(",", delimiter) for line in toa5_text(mast_rows(4)).splitlines()]
    saved = [*lines[:4], *(line.replace(".", decimal) for line in lines[4:]), ""]
    found, plain = looked(put("\r\n".join(saved).encode())), looked(put(toa5_text(mast_rows(4)).encode()))
    assert (found.first_row, found.identity, found.columns) == (plain.first_row, plain.identity, plain.columns)
    assert (found.rows, found.problems, found.record()["last_stamp"]) == (4, [], plain.record()["last_stamp"])


def test_toaci1_has_names_and_neither_units_nor_statistics(put: Put) -> None:
    text = made.crlf(
        '"TOACI1","weir","Min15"',
        '"TMSTAMP","RECNBR","Stage","BattV"',
        '"2024-03-01 00:15:00",7,1.25,12.5',
        '"2024-03-01 00:30:00",8,"NAN",12.4',
        '"TOACI1","weir","Min15"',
        '"TMSTAMP","RECNBR","Stage","BattV","Rain"',
        '"2024-03-01 00:45:00",0,1.5,12.5,0.2',
    )
    found = looked(put(text))
    assert (found.format, found.identity.station, found.identity.table) == ("toaci1", "weir", "Min15")
    assert [(c.name, c.unit, c.statistic) for c in found.columns] == [(n, "", "") for n in ("Stage", "BattV", "Rain")]
    assert (found.rows, found.missing, found.first_row[:2], found.problems) == (3, 1, [1.25, 12.5], [])
    assert found.changes == ["line 5: new columns Rain"]


@pytest.mark.parametrize(("saved", "zone"), [("{d}/{m}/{y} {t}", None), ("{m}/{d}/{y} {t}+01:00", "UTC+01:00")])
def test_toa5_that_a_spreadsheet_saved_again_has_its_stamps(put: Put, saved: str, zone: str | None) -> None:
    rows = mast_rows(5, start="2016-12-20T00:00")
    again = [saved.format(y=r[:4], m=r[5:7], d=r[8:10], t=r[11:16]) + r[r.index(",") :] for r in rows]
    found, as_it_was = looked(put(toa5_text(again).encode())), looked(put(toa5_text(rows).encode()))
    assert (found.rows, found.first_row, found.problems) == (5, as_it_was.first_row, [])
    for name in ("first_stamp", "last_stamp"):
        assert found.record()[name] == as_it_was.record()[name]
    assert found.record()["time_zone"] == zone


def test_stamps_of_summer_and_winter_time_are_of_one_zone(put: Put) -> None:
    rows = [
        row.replace(row[:19], stamp)
        for row, stamp in zip(mast_rows(2), ("2024-10-27 02:50:00+02:00", "2024-10-27 02:00:00+01:00"), strict=True)
    ]
    found = looked(put(toa5_text(rows).encode()))
    assert (found.record()["first_stamp"], found.record()["last_stamp"]) == (
        "2024-10-27T02:50:00",
        "2024-10-27T03:00:00",
    )
    assert (found.record()["time_zone"], found.out_of_order) == ("UTC+02:00", 0)


MALFORMED = {
    "half a header": (lambda t: "\r\n".join(t.splitlines()[:2]) + "\r\n", 2),
    "no time stamp": (lambda t: t.replace("TIMESTAMP", "TIME"), 2),
    "a column twice": (lambda t: t.replace("Spd80mS", "Spd80mN"), 2),
    "a column without a name": (lambda t: t.replace("Spd80mS", ""), 2),
    "no line of units": (lambda t: "\r\n".join(x for x in t.splitlines() if not x.startswith("TS,")) + "\r\n", 4),
    "no line of statistics": (lambda t: t.replace(",,Avg,Avg,Avg,Avg\r\n", ""), 4),
    "more units than columns": (lambda t: t.replace("TS,RN", "TS,RN,m,m,m"), 3),
    "a unit too few": (lambda t: t.replace("TS,RN,m/s", "TS,RN"), 3),
    "no date": (lambda t: t.replace("2016-12-20 ", "20122016 "), 5),
    "decimal commas": (lambda t: t.replace(".", ","), 5),
    "bars for commas": (lambda t: t.replace(",", "|"), 2),
    "rows too short": (lambda t: t.replace(",mast\r\n", "\r\n"), 5),
    "a power cut of zeros": (lambda t: t[: t.index("2016-12")] + "\0" * 300 + "\r\n", 5),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_toa5_is_refused_with_a_line(put: Put, name: str) -> None:
    spoil, line = MALFORMED[name]
    found = looked(put(spoil(toa5_text(mast_rows(5))).encode(), "mast.dat"))
    assert (found.status, found.record()["problems"][0]["line"]) == ("refused", line)
    assert found.rows == 0
