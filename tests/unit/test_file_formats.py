"""What each format's files hold, trap by trap, with small files of our own making; and the real ones where they are."""

import csv
import struct
import tomllib
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import logger_file_examples as made
import numpy as np
import pytest
from fix_edge import SAMPLES, mast_rows, toa5_text

from producers.files import lines, table
from producers.files.campbell_types import cell_type, shortest
from producers.files.dates import proven_order, stamps_in
from producers.files.described import Description
from producers.files.inspection import Inspection, inspect
from producers.files.logger_file import Kind, LoggerFile, Stamping
from producers.files.recognise import recognise
from schemas.errors import Refused

Put = Callable[..., Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Writes bytes under a name that says nothing and gives the path."""

    def write(data: bytes, name: str = "file.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def values(file: LoggerFile) -> dict[str, list[float | None]]:
    """Columns of a file whose header stays; None = missing."""
    chunks = list(file.chunks(lambda column: column.name))
    rows = np.concatenate([chunk.values for chunk in chunks])
    return {
        name: [None if np.isnan(v) else v for v in rows[:, at].tolist()] for at, name in enumerate(chunks[0].columns)
    }


def kinds(file: LoggerFile, kind: Kind) -> list[str]:
    return [column.name for column in file.columns if column.kind is kind]


def looked(path: Path, **told: object) -> Inspection:
    return inspect(path, told=Stamping(**told))  # type: ignore[arg-type]  # fields of a Stamping


# Campbell TOA5


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
    "semicolons": (lambda t: t.replace(",", ";"), 2),
    "rows too short": (lambda t: t.replace(",mast\r\n", "\r\n"), 5),
    "a power cut of zeros": (lambda t: t[: t.index("2016-12")] + "\0" * 300 + "\r\n", 5),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_toa5_is_refused_with_a_line(put: Put, name: str) -> None:
    spoil, line = MALFORMED[name]
    found = looked(put(spoil(toa5_text(mast_rows(5))).encode(), "mast.dat"))
    assert (found.status, found.record()["problems"][0]["line"]) == ("refused", line)
    assert found.rows == 0


# Campbell binary


def test_tob1_has_the_types_of_its_header(put: Put) -> None:
    file = recognise(put(made.tob1()))
    assert kinds(file, Kind.TIME) == ["SECONDS", "NANOSECONDS", "When"]
    found = values(file)
    assert found["Low"][:4] == [0, -0.125, None, -0.375]
    assert (found["Four"][1], found["Eight"][1], found["Two"][5], found["On"][:2]) == (0.1, 1 / 3, 5, [0, -1])
    assert looked(put(made.tob1())).record()["last_stamp"] == "2026-02-19T09:46:18.45"


def damaged(data: bytes, at: int, *, lost: int = 0, added: bytes = b"") -> bytes:
    return data[:at] + added + data[at + lost :]


TOB1_ROW_BYTES = len(made.tob1_row(0))


@pytest.mark.parametrize("kept", [("RECORD",), ()], ids=["numbered", "without numbers"])
@pytest.mark.parametrize("lost", [1, 4, 17, 33])
def test_rows_of_tob1_behind_lost_bytes_are_refused_and_no_wrong_numbers(put: Put, lost: int, kept: tuple[str]) -> None:
    data = made.tob1()
    if not kept:
        data = data.replace(b'"RECORD"', b'"Number"')
    start = len(data) - 30 * TOB1_ROW_BYTES
    found = looked(put(damaged(data, start + 10 * TOB1_ROW_BYTES, lost=lost)))
    assert (found.rows, found.record()["problems"][0]["line"]) == (10, 11)
    assert found.record()["last_stamp"] == "2026-02-19T09:46:17.45"


def test_zeros_of_a_power_cut_are_no_rows_of_tob1(put: Put) -> None:
    found = looked(put(made.tob1() + b"\0" * (3 * TOB1_ROW_BYTES)))
    assert (found.rows, [each["line"] for each in found.record()["problems"]]) == (30, [31, 32, 33])


def test_rows_of_tob1_whose_numbers_begin_anew_or_stand_alone_are_rows(put: Put) -> None:
    rows = [made.tob1_row(n) for n in (0, 1, 2, 9, 3, 4, 5)]
    found = looked(put(made.tob1(0) + b"".join(rows)))
    assert (found.rows, found.problems) == (7, [])
    assert looked(put(made.tob1(1))).rows == 1


def test_tob1_whose_last_row_is_cut_leaves_it_out(put: Put) -> None:
    found = looked(put(made.tob1()[:-5]))
    assert found.rows == 29
    assert "cut" in found.problems[0].what


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"IEEE4", b"IEEE5", "not known"),
        (b'"SECONDS","NANO', b'"SECS","NANO', "no time"),
        (b'"Low"', b'"Four"', "twice"),
    ],
)
def test_binary_headers_that_cannot_be_are_refused(put: Put, old: bytes, new: bytes, told: str) -> None:
    with pytest.raises(Refused, match=told):
        recognise(put(made.tob1().replace(old, new, 1)))


def test_tob3_takes_frames_of_this_lap_and_those_closed_early(put: Put) -> None:
    file = recognise(put(made.tob3()))
    (chunk,) = file.chunks(lambda column: column.name, texts=True)
    assert chunk.columns == ("Low", "Four", "Two", "Long")
    assert chunk.values[:, 2].tolist() == list(range(10))
    assert (np.diff(chunk.stamps) == 50_000).all()
    assert chunk.texts["Note"][-1] == "n9"
    assert np.isnan(chunk.values[2, 0])


@pytest.mark.parametrize(
    ("word", "raw", "value"),
    [
        ("FP2", made.fp2(-78.5), -78.5),
        ("FP2", made.fp2(None), None),
        ("FP2", b"\x1f\xff", None),
        ("FP2", struct.pack(">H", 7999), None),
        ("IEEE4B", struct.pack(">f", 0.1), 0.1),
        ("IEEE8B", struct.pack(">d", 0.1), 0.1),
        ("IEEE4", struct.pack("<f", float("inf")), None),
        ("LONG", struct.pack("<i", -7), -7),
        ("UINT2", struct.pack(">H", 258), 258),
        ("USHORT", struct.pack("<H", 258), 258),
        ("FP4", struct.pack(">I", 0x41800000), 1.0),
    ],
)
def test_binary_cells(word: str, raw: bytes, value: float | None) -> None:
    known = cell_type(word)
    assert known is not None
    (read,) = known.read(np.frombuffer(raw, known.raw)).tolist()
    assert np.isnan(read) if value is None else read == value


def test_a_short_number_stays_that_very_number() -> None:
    numbers = np.random.default_rng(1).normal(0, 1e3, 20_000).astype(np.float32)
    assert (shortest(numbers).astype(np.float32) == numbers).all()


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample files are on the developers' machine only")
def test_the_binary_card_equals_the_makers_own_conversion() -> None:
    ours = recognise(SAMPLES / "tob3_cr1000x_long27.dat")
    (chunk,) = ours.chunks(lambda column: column.name, texts=True)
    with (SAMPLES / "toa5_cr1000x_of_tob3_long27.dat").open(encoding="utf-8", newline="") as source:
        rows = list(csv.reader(source))
    names, rows = rows[1], rows[4:]
    stamps = np.array([row[0] for row in rows], "datetime64[us]").astype(np.int64)
    assert np.array_equal(chunk.stamps, stamps)
    for name in names[2:]:
        theirs = [row[names.index(name)] for row in rows]
        if name in chunk.columns:
            column = chunk.values[:, chunk.columns.index(name)]
            np.testing.assert_allclose(column, [float(cell) for cell in theirs], rtol=1e-6)
        else:
            assert list(chunk.texts[name]) == theirs


# Campbell mixed arrays


def test_mixed_arrays_are_told_apart_and_2400_is_the_next_midnight(put: Put) -> None:
    about = Description.model_validate(tomllib.loads(made.MIXED_MAP))
    file = recognise(put(made.mixed_array()), about)
    by_columns = {chunk.columns: chunk for chunk in file.chunks(lambda column: column.name)}
    speeds, batteries = by_columns["Spd", "T"], by_columns["Batt",]
    assert np.isnan(speeds.values[3, 1])
    assert speeds.values[0].tolist() == [0, 0.071]
    assert str(batteries.stamps[-1:].astype("datetime64[us]")[0]) == "2009-01-01T00:00:00.000000"
    assert (file.tally.repeated, file.tally.problem_count) == (0, 0)


@pytest.mark.parametrize(
    "row", ["101,2008,367,100,1,1,1", "101,2008,1,2460,1,1,1", "7,2008,1,100,1", "101,2008,1,100,1,1"]
)
def test_rows_of_no_known_array_are_problems(put: Put, row: str) -> None:
    about = Description.model_validate(tomllib.loads(made.MIXED_MAP))
    found = inspect(put(made.mixed_array() + f"{row}\r\n".encode()), description=about)
    assert (found.rows, [each.line for each in found.problems]) == (48, [49])


def test_a_mixed_array_without_a_map_asks_for_it(put: Put) -> None:
    found = looked(put(made.mixed_array()))
    assert found.status == "needs an answer"
    assert "101 with 7 cells" in found.questions[0]


# NRG


def test_symphonie_has_channels_zone_and_logger(put: Put) -> None:
    found = looked(put(made.symphonie())).record()
    assert found["logger"] == {
        "model": "SymphoniePRO Logger (8206)",
        "serial": "820604310",
        "program": None,
        "table": "Measurements",
    }
    assert found["channels"][1] == {"name": "Ch2_Anem_85.00m_S_SD_m/s", "unit": "m/s", "statistic": "SD"}
    assert found["channels"][2] == {"name": "Ch108_Calculated___Avg_", "unit": "", "statistic": "Avg"}
    assert (found["time_zone"], found["first_time"], found["missing"]) == ("UTC-05:00", "2022-03-17T11:00:00Z", 1)
    about = recognise(put(made.symphonie())).columns[0].about
    assert (about.serial, about.height_m, about.scale, about.offset) == ("2020-02-09", 85.0, 0.0935, 0.139)


@pytest.mark.parametrize(
    ("said", "zone"),
    [
        ("UTC-5:00", "UTC-05:00"),
        ("-5", "UTC-05:00"),
        ("5.5", "UTC+05:30"),
        ("UTC+00:00", "UTC"),
        ("Eastern Time", None),
    ],
)
def test_symphonies_zones(put: Put, said: str, zone: str | None) -> None:
    found = looked(put(made.symphonie().replace(b"UTC-5:00", said.encode()))).record()
    assert (found["time_zone"], found["status"]) == (zone, "ok" if zone else "needs an answer")


def test_a_header_without_rows_is_no_error(put: Put) -> None:
    found = looked(put(made.symphonie(rows=[])))
    assert (found.status, found.rows, found.first_row) == ("ok", 0, [])


def test_two_exports_put_together_are_read_as_one(put: Put) -> None:
    later = [f"2022-03-17 07:0{n}:00\t1.0\t2.0\t3.0" for n in range(5)]
    found = looked(put(made.symphonie() + made.symphonie(rows=later)))
    assert (found.rows, found.problems, found.changes) == (35, [], [])


def test_logr_is_utc_whatever_its_zone_says(put: Put) -> None:
    found = looked(put(made.logr())).record()
    assert (found["time_zone"], found["first_stamp"]) == ("UTC", "2024-01-11T13:00:00Z")
    assert found["first_time"] == "2024-01-11T13:00:00Z"
    assert [channel["statistic"] for channel in found["channels"]] == ["Avg", "Min", "Max", "SD", "Avg", "Gust_Dir"]
    assert kinds(recognise(put(made.logr())), Kind.UNUSED) == ["Ch1_NotUsed"]


def test_a_loggers_event_log_is_refused_by_name(put: Put) -> None:
    assert "event log" in str(looked(put(made.logr(content="Logs"))).refused)


def test_9300_with_lines_that_end_with_cr_alone(put: Put) -> None:
    found = looked(put(made.nrg_9300())).record()
    assert (found["rows"], found["missing"], found["first_stamp"]) == (48, 1, "2010-01-02T00:00:00")
    assert (found["logger"]["serial"], found["channels"][0]["unit"]) == ("930001", "mph")
    assert found["status"] == "needs an answer"


# Onset HOBOware


def test_hobo_with_translated_headings(put: Put) -> None:
    found = looked(put(made.hobo())).record()
    assert (found["rows"], found["encoding"], found["time_zone"]) == (41, "utf-8-sig", "UTC+02:00")
    assert found["channels"] == [
        {"name": "Temp.", "unit": "°C", "statistic": ""},
        {"name": "Intensität", "unit": "Lux", "statistic": ""},
    ]
    assert (found["first_stamp"], found["first_time"]) == ("2022-07-26T00:00:00", "2022-07-25T22:00:00Z")
    assert (found["logger"]["serial"], found["missing"], found["status"]) == ("21309858", 0, "ok")


@pytest.mark.parametrize(
    ("title", "heading"),
    [
        ("Titre de tracé : Rivière", "N°,Date Heure\u00a0GMT+01:00"),
        ("Título de gráfico: x", "N.º,Fecha Tiempo"),
        ("", "#,Date Time"),
    ],
)
def test_hobo_in_other_languages(put: Put, title: str, heading: str) -> None:
    number, when = heading.replace("\u00a0GMT+01:00", "").split(",")
    lines = [f'"{title}"'] if title else []
    lines += [f'"{number}","{when}, GMT+01:00","Temp, °C (LGR S/N: 9, SEN S/N: 9)"', "1,14/06/2017 13:00:00,21.5"]
    found = looked(put("\n".join([*lines, ""]).encode("latin-1")))
    assert (found.format, found.rows, found.questions) == ("hoboware", 1, [])
    assert found.record()["first_time"] == "2017-06-14T12:00:00Z"


def test_hobo_without_title_and_with_a_quoted_first_heading(put: Put) -> None:
    text = made.crlf(
        '"Date Time, GMT-07:00";"Temp, °F";"Temp, °F";"Host Connected"',
        "18-08-10 22:00:00;69,557;69,771;Logged",
        "18-08-10 23:00:00;-43,624;-43,900;",
        "19-08-10 00:00:00;50,886;51,895;",
        encoding="utf-8-sig",
    )
    found = looked(put(text))
    assert (found.status, found.rows, found.first_row) == ("ok", 3, [69.557, 69.771])
    assert found.record()["first_time"] == "2010-08-19T05:00:00Z"


def test_hobo_with_time_alone_behind_the_row_numbers_and_empty_serials(put: Put) -> None:
    text = made.crlf(
        '"Plot Title: flat"',
        '"#","Time, GMT+01:00","Temp, °C()","RH, %(LBL: hall)","Bad Battery()"',
        "1,10/21/13 06:00:00 AM,19.865,59.728,",
        "2,10/21/13 06:30:00 PM,19.817,59.781,",
        encoding="latin-1",
    )
    found = looked(put(text))
    assert [(column.name, column.unit) for column in found.columns] == [("Temp", "°C"), ("RH", "%")]
    assert (found.rows, found.record()["last_stamp"]) == (2, "2013-10-21T18:30:00")


def test_hobo_of_earlier_versions_with_details_in_a_column_of_their_own(put: Put) -> None:
    text = made.crlf(
        "Date Time\tTemp (°C)  #9724974\tTemp (°C)  #9724974\tHost Connected",
        "08/18/10 14:00:00.0\t20.865\t20.984\tLogged\tDetails",
        "08/18/10 15:00:00.0\t20.174\t20.317\t\tSerial Number: 9724974",
        "08/18/10 16:00:00.0\t6.458\t6.611\t\tDevices",
        "08/18/10 17:00:00.0\t6.458\t6.612\t",
        encoding="utf-8-sig",
    )
    found = looked(put(text))
    assert (found.rows, found.identity.serial, found.status) == (4, "9724974", "needs an answer")
    assert found.record()["questions"] == ["how far is its clock from UTC? --utc-offset +HH:MM"]


def test_hobo_with_date_and_time_apart_semicolons_and_decimal_commas(put: Put) -> None:
    text = "Plot Title: x\n#;Date;Time, GMT-07:00;Temp, °F;Host Connected\n1;2017-06-14;9:00:00;21,5;\n"
    found = looked(put(text.encode()))
    assert (found.first_row, found.record()["first_time"]) == ([21.5], "2017-06-14T16:00:00Z")


def test_a_row_cut_within_what_is_measured_is_no_row(put: Put) -> None:
    for name in ("windographer", "hoboware", "nrg-9300"):
        whole = made.EXAMPLES[name]
        ends = b"\r" if name == "nrg-9300" else b"\n"
        rows = whole.split(ends)
        rows[-9] = rows[-9][: rows[-9].rindex(b"\t" if name == "windographer" else b",")].rstrip(b",")[:-1]
        found = looked(put(ends.join(rows)))
        assert (found.rows, [each.line for each in found.problems]) == (looked(put(whole)).rows - 1, [len(rows) - 8])


def test_hobo_channels_of_one_name_are_told_apart(put: Put) -> None:
    heads = ",".join(f'"Temp, °C (LGR S/N: 1, SEN S/N: {n}, LBL: {label})"' for n, label in enumerate(("Air", "Soil")))
    found = looked(put(f'"#","Date Time, GMT+00:00",{heads}\n1,2017-06-14 00:00,1,2\n'.encode()))
    assert [column.name for column in found.columns] == ["Temp Air", "Temp Soil"]


def test_a_date_that_may_be_two_days_is_asked_for(put: Put) -> None:
    text = b'"#","Date Time, GMT+00:00","Temp, C (LGR S/N: 1, SEN S/N: 1)"\n1,03/04/2017 10:00,1\n2,03/04/2017 11:00,\n'
    found = looked(put(text))
    assert (found.status, found.rows, found.missing, found.first_row) == ("needs an answer", 2, 1, [1.0])
    assert found.questions == ["is '03/04/2017 10:00' written day-month-year or month-day-year? --date-order dmy|mdy"]
    assert found.record()["first_stamp"] is None
    assert looked(put(text), date_order="dmy").record()["first_time"] == "2017-04-03T10:00:00Z"
    with pytest.raises(Refused, match="--date-order"):
        list(recognise(put(text)).chunks(lambda column: column.name))


@pytest.mark.parametrize(
    ("stamps", "orders"),
    [
        (["03/04/22 10:00"], ("dmy", "mdy", "ymd")),
        (["03/04/22 10:00", "13/04/22 10:00"], ("dmy", "ymd")),
        (["03/14/22 10:00"], ("mdy",)),
        (["2022-03-04 10:00"], ("ymd",)),
        (["03/04/2022 22:00", "03/04/2022 23:00", "04/04/2022 00:00"], ("dmy",)),
        (["03/04/2022 22:00", "04/04/2022 22:00"], ("dmy", "mdy")),  # a month may lie between
        (["22/07/26 22:00", "22/07/26 23:00", "22/07/27 00:00"], ("ymd",)),
        (["rubbish", "31.12.22 24:10"], ("dmy", "mdy", "ymd")),
    ],
)
def test_orders_that_stamps_leave_possible(stamps: list[str], orders: tuple[str, ...]) -> None:
    assert proven_order(stamps) == orders


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("07.26.22 12:00:00 AM", "2022-07-26T00:00:00"),
        ("07.26.22 12:30:00 PM", "2022-07-26T12:30:00"),
        ("7/6/2022 1:05", "2022-07-06T01:05:00"),
        ("07/26/2022 04.23.41 p.m.", "2022-07-26T16:23:41"),
        ("07/19/18 12:00:00 em", "2018-07-19T12:00:00"),
        ("07/19/18 10:00:00 fm", "2018-07-19T10:00:00"),
        ("07/26/22 13:00:00 PM", None),
        ("02/30/22 10:00", None),
        ("07/26/22", None),
    ],
)
def test_stamps_with_halves_of_the_day(text: str, iso: str | None) -> None:
    stamps, doubtful = stamps_in("mdy")([text])
    assert bool(doubtful) == (iso is None)
    if iso:
        assert datetime.fromtimestamp(int(stamps[0]) / 1e6, UTC) == datetime.fromisoformat(f"{iso}+00:00")


# Windographer


def test_windographer_says_what_its_stamps_mark_and_not_its_zone(put: Put) -> None:
    found = looked(put(made.windographer()))
    assert (found.stamping.stamp, found.encoding, found.missing) == ("begin", "latin-1", 1)
    assert found.questions == ["how far is its clock from UTC? --utc-offset +HH:MM"]
    assert [(c.name, c.unit, c.statistic) for c in found.columns] == [
        ("Speed 80m N [m/s]", "m/s", ""),
        ("Speed 80m N SD [m/s]", "m/s", "sd"),
        ("Direction 78m [°]", "°", ""),
    ]
    told = looked(put(made.windographer()), utc_offset_minutes=60)
    assert (told.status, told.record()["first_time"]) == ("ok", "2016-12-19T23:00:00Z")


def test_windographers_codes_for_missing_are_missing(put: Put) -> None:
    text = made.crlf(
        "Created 2019-05-10 by Windographer 4.1.14",
        "Time stamps indicate the beginning of the time step.",
        "Date/Time\tSpd80\tT2",
        "2016-01-09 15:30\t8.37\t-9999",
        "2016-01-09 15:40\t-999.0\t-9.99",
    )
    found = looked(put(text))
    assert (found.first_row, found.missing) == ([8.37, None], 2)


def test_windographer_with_a_line_of_units_and_another_date(put: Put) -> None:
    text = made.windographer().decode("latin-1").replace("2016-12-20 ", "20/12/2016 ")
    lines = text.split("\r\n")
    lines.insert(6, "\tm/s\tm/s\tdegrees")
    found = looked(put("\r\n".join(lines).encode("latin-1")))
    assert (found.rows, found.columns[2].unit, found.problems) == (40, "degrees", [])
    assert found.record()["first_stamp"] == "2016-12-20T00:00:00"


# Described


def test_a_number_for_missing_is_that_number_however_written(put: Put) -> None:
    about = Description.model_validate(tomllib.loads(made.DESCRIPTION))
    data = made.described().replace(b"-999;", b"-999,00;")
    found = inspect(put(data), description=about)
    assert (found.rows, found.missing, found.status) == (40, 40, "ok")
    assert found.record()["first_time"] == "2024-01-31T22:00:00Z"


# Bounds


def test_memory_is_bounded_by_the_block(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(toa5_text(mast_rows(20_000)).encode())
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1 << 16)
    tracemalloc.start()
    seen = sum(len(chunk.stamps) for chunk in recognise(path).chunks(lambda column: column.name))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 20_000
    assert peak < 30 * lines.BLOCK_BYTES  # some 2 MB: by the block, not by the file, whose cells would be 20 MB


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample files are on the developers' machine only")
@pytest.mark.parametrize(
    ("name", "rows", "channels", "first"),
    [
        ("nrg_sympro_004310_000836_meas.txt", 240, 63, "2022-03-17T11:10:00Z"),
        ("hobo_KLG_2022_11_10.csv", 2563, 2, "2022-07-26T14:23:41Z"),
        ("windographer_export_2016-12-20_2017-01-20.txt", 4464, 29, None),
    ],
)
def test_real_files(name: str, rows: int, channels: int, first: str | None) -> None:
    found = looked(SAMPLES / name)
    assert (found.rows, len(found.columns), found.problems) == (rows, channels, [])
    assert found.record()["first_time"] == first
