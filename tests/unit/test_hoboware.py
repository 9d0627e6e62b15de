"""HOBOware's exports in their languages, versions and orders of day and month."""

from datetime import UTC, datetime

import logger_file_examples as made
import pytest
from fix_files import Put, looked

from producers.files.dates import proven_order, stamps_in
from producers.files.recognise import recognise
from schemas.errors import Refused


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


def test_hobo_with_lines_that_end_with_cr_alone(put: Put) -> None:
    lines = ('"Date Time, GMT-04:00","Temp, °C (LGR S/N: 9, SEN S/N: 9)"', "5/27/23 16:04,23.292", "5/28/23 17:04,6.2")
    found = looked(put("\r".join([*lines, ""]).encode("utf-8-sig")))
    assert (found.status, found.rows, found.first_row) == ("ok", 2, [23.292])
    assert found.record()["first_time"] == "2023-05-27T20:04:00Z"


def test_series_opened_from_a_project_have_their_loggers_number(put: Put) -> None:
    names = ("Temp, °C (LGR S/N: 77_duplicate_duplicate, SEN S/N: 78_duplicate)", "Level, m (LGR S/N: null)")
    heads = ",".join(f'"{name}"' for name in names)
    found = looked(put(f'"#","Date Time, GMT+00:00",{heads}\n1,2023-06-14 00:00,1.5,2.5\n'.encode()))
    assert (found.identity.serial, [column.about.serial for column in found.columns]) == ("77", ["78", ""])


def test_a_number_above_the_heading_is_the_loggers(put: Put) -> None:
    text = 'Serial Number:20230 --\n\n"Date Time, GMT -0500","Temp, (*F)","EOF"\n2023-06-14 00:00:00,71.5,\n'
    found = looked(put(text.encode()))
    assert (found.identity.serial, found.identity.station, found.rows) == ("20230", "", 1)


def test_units_in_brackets_and_a_padded_title(put: Put) -> None:
    text = "Plot Title: pond,,,\n#,Time (GMT-05:00),Temp (*F),RH (%)\n1,2023-06-14 00:00:00,71.5,80.1\n"
    for units in (("Temp (*F)", "RH (%)"), ('"Temp, (*F)"', '"RH, (%)"'), ('"Temp, *F"', '"RH, %"')):
        found = looked(put(text.replace("Temp (*F)", units[0]).replace("RH (%)", units[1]).encode()))
        assert [(column.name, column.unit) for column in found.columns] == [("Temp", "°F"), ("RH", "%")]
        assert (found.identity.station, found.record()["time_zone"]) == ("pond", "UTC-05:00")


def test_a_sensor_that_does_not_answer_is_missing(put: Put) -> None:
    text = made.crlf(
        '"#","Date Time, GMT+00:00","Wind, m/s (LGR S/N: 9, SEN S/N: 1)","RH, % (LGR S/N: 9, SEN S/N: 2)"',
        "1,2023-06-14 00:00,-888.88,80.1",
        "2,2023-06-14 01:00,3.25,-888.9",
    )
    found = looked(put(text))
    assert (found.first_row, found.missing) == ([None, 80.1], 2)


def test_a_last_line_without_its_end_keeps_all_but_its_last_cell(put: Put) -> None:
    heads = ",".join(f'"{what} (LGR S/N: 9, SEN S/N: {n})"' for n, what in enumerate(("Temp, °C", "RH, %")))
    found = looked(
        put(f'"#","Date Time, GMT+00:00",{heads}\n1,2023-06-14 00:00,1.5,80.1\n2,2023-06-14 01:00,2.5,7'.encode())
    )
    assert (found.rows, found.missing, [each.line for each in found.problems]) == (2, 1, [3])


@pytest.mark.parametrize(
    ("zone", "first", "problems"),
    [
        ("UTC", "2024-03-30T23:55:00Z", 0),
        ("GMT+01:00", "2024-03-30T22:55:00Z", 0),
        ("EST", None, 0),
        ("CET/CEST", None, 1),
    ],
)
def test_hoboconnect_has_its_zone_by_name(put: Put, zone: str, first: str | None, problems: int) -> None:
    text = made.crlf(
        f"#,Date-Time ({zone}),Ch: 1 - Temperature   (°C),Ch: 1 - Temperature Max : Max (°C),RH (%) ,Host Connected",
        "1,03-30-2024 23:55:00,5.25,5.5,81.2,",
        "2,03-31-2024 00:00:00,5.20,5.4,81.3,",
        "3,03-31-2024 00:01:00,,,,Logged",
        encoding="utf-8-sig",
    )
    found = looked(put(text))
    assert [(c.name, c.unit, c.statistic) for c in found.columns] == [
        ("Ch: 1 - Temperature", "°C", ""),
        ("Ch: 1 - Temperature Max : Max", "°C", "max"),
        ("RH", "%", ""),
    ]
    assert (found.rows, found.first_row, found.problem_count) == (2, [5.25, 5.5, 81.2], problems)
    assert (found.record()["first_time"], found.record()["first_stamp"]) == (first, "2024-03-30T23:55:00")


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
        ("07/31/22 24:00:00", "2022-08-01T00:00:00"),
        ("07/31/22 24:00:01", None),
        ("02/30/22 10:00", None),
        ("07/26/22", None),
    ],
)
def test_stamps_with_halves_of_the_day(text: str, iso: str | None) -> None:
    stamps, doubtful = stamps_in("mdy")([text])
    assert bool(doubtful) == (iso is None)
    if iso:
        assert datetime.fromtimestamp(int(stamps[0]) / 1e6, UTC) == datetime.fromisoformat(f"{iso}+00:00")
