"""What files of NRG, Windographer and home-made loggers hold, trap by trap; bounds, and the real files."""

import tomllib
import tracemalloc

import logger_file_examples as made
import pytest
from fix_edge import SAMPLES, mast_rows, toa5_text
from fix_files import Put, kinds, looked, values

from producers.files import lines
from producers.files.described import Description
from producers.files.inspection import Inspection, inspect, summary_lines
from producers.files.logger_file import Kind
from producers.files.recognise import recognise

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


@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", ",")])
def test_symphonie_that_a_spreadsheet_saved_again(put: Put, delimiter: str, decimal: str) -> None:
    lines = made.symphonie().decode().splitlines()
    at = lines.index("Data") + 2
    saved = [line.replace("\t", delimiter) + delimiter for line in lines[:at]]
    rows = [line.replace("2022-03-17 06:", "3/17/2022 6:").replace(".", decimal) for line in lines[at:]]
    saved += [row.replace("\t", delimiter) + delimiter for row in rows]
    found, plain = looked(put(made.crlf(*saved))), looked(put(made.symphonie()))
    assert (found.rows, found.missing, found.problems) == (30, 1, [])
    assert (found.columns, found.identity, found.first_row) == (plain.columns, plain.identity, plain.first_row)
    assert found.record()["first_time"] == plain.record()["first_time"]


def test_logr_is_utc_whatever_its_zone_says(put: Put) -> None:
    found = looked(put(made.logr())).record()
    assert (found["time_zone"], found["first_stamp"]) == ("UTC", "2024-01-11T13:00:00Z")
    assert found["first_time"] == "2024-01-11T13:00:00Z"
    assert [channel["statistic"] for channel in found["channels"]] == ["Avg", "Min", "Max", "SD", "Avg", "Gust_Dir"]
    assert kinds(recognise(put(made.logr())), Kind.UNUSED) == ["Ch1_NotUsed"]


def test_what_stamps_of_a_logr_of_early_firmware_mark_is_asked(put: Put) -> None:
    text = made.logr().replace(b"Site:", b"FW Version:\t1.02.10\nStatistical Interval (min):\t10\nSite:")
    assert looked(put(text)).questions == [
        "does a stamp mark the beginning or the end of its interval? --stamp begin|end"
    ]
    assert looked(put(text), stamp="end").record()["first_time"] == "2024-01-11T12:50:00Z"
    assert looked(put(text.replace(b"FW Version", b"Created FW Version"))).status == "ok"


def test_a_loggers_event_log_is_refused_by_name(put: Put) -> None:
    assert "event log" in str(looked(put(made.logr(content="Logs"))).refused)


def test_9300_with_lines_that_end_with_cr_alone(put: Put) -> None:
    found = looked(put(made.nrg_9300())).record()
    assert (found["rows"], found["missing"], found["first_stamp"]) == (48, 1, "2010-01-02T00:00:00")
    assert (found["logger"]["serial"], found["channels"][0]["unit"]) == ("930001", "mph")
    assert found["status"] == "needs an answer"


def test_9300_with_blocks_in_brackets_and_columns_by_quantity(put: Put) -> None:
    head = [
        "Read by,DR Version 10,1/10/06 10:07",
        "Site,77,",
        "Time Zone,0",
        "Units,English,",
        "Logger Serial Number,77,",
    ]
    head += ["[Channel01],", "Description,cups", "S/N,None", "Height,66", "Units,mph"]
    head += ["[Channel02],", "Description,vane", "Height,60", "Units,Degrees", "[Channel03],", "Units,Degrees F,,"]
    head += ["", "Time Stamp,Average Speed,Speed Standard Deviation,Average Direction"]
    rows = ["12/1/05 23:50,6.7,0.86,113", "12/13/05 00:00,4.6,1.02,112", ""]
    found = looked(put("\r".join([*head, *rows]).encode()))
    assert [(c.unit, c.statistic, c.about.height_m) for c in found.columns] == [
        ("mph", "avg", 20.12),
        ("mph", "sd", 20.12),
        ("Degrees", "avg", 18.29),
    ]
    assert (found.rows, found.identity.serial, found.columns[0].about.serial) == (2, "77", "")
    assert found.questions == ["how far is its clock from UTC? --utc-offset +HH:MM"]  # a zone of 0 is one not set


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


def test_rows_that_a_spreadsheet_left_short_are_whole_and_one_that_is_cut_is_not(put: Put) -> None:
    head = ["Created by Windographer", "Time stamps indicate the beginning of the time step.", "Date/Time,Spd,SD,Dir"]
    rows = [f"2016-12-20 {n // 6:02}:{n % 6}0,{n}.5,0.5,{n}" for n in range(60)]
    rows = [row.rpartition(",")[0] if 17 <= line <= 48 else row for line, row in enumerate(rows, 4)]
    assert looked(put(made.crlf(*head, *rows))).missing == 32
    rows[50] = rows[50].rpartition(",")[0]
    found = looked(put(made.crlf(*head, *rows)))
    assert (found.rows, found.missing, [each.line for each in found.problems]) == (59, 32, [54])
    none = looked(put(made.crlf(*head, *(row.rpartition(",")[0] for row in rows[:13] * 4))))
    assert (none.rows, none.status) == (0, "refused")  # whose cell is missing?


def test_short_rows_of_a_logger_are_not_filled_up(put: Put) -> None:
    lines = toa5_text(mast_rows(60)).splitlines()
    lines[16:] = [line.rpartition(",")[0] for line in lines[16:]]  # a column that a new program no longer has
    found = looked(put(made.crlf(*lines)))
    assert (found.rows, found.problems[0].line, found.problem_count) == (12, 17, 48)


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


# Stamps of described files


def stamped(put: Put, form: str, *stamps: str, more: str = "") -> Inspection:
    """A described file with these stamps, each in its own row."""
    text = f'delimiter = ";"\n{more}\n[time]\ncolumns = ["at"]\nformat = "{form}"'
    description = Description.model_validate(tomllib.loads(text))
    data = "".join(f"{each};{n}\n" for n, each in enumerate(stamps)).encode()
    return inspect(put(b"at;x\n" + data), description=description)


@pytest.mark.parametrize(
    ("form", "first", "last", "told"),
    [
        ("%m/%d/%y %I:%M%p", "1/01/15 12:10a", "1/01/15 12:20p", ("2015-01-01T00:10:00", "2015-01-01T12:20:00")),
        (
            "%d %b %Y %I:%M %p",
            "3 Apr 2015 1:10 a.m.",
            "3 Apr 2015 1:10 PM",
            ("2015-04-03T01:10:00", "2015-04-03T13:10:00"),
        ),
        ("%d.%m.%Y %H:%M", "31.03.2024 23:50", "31.03.2024 24:00", ("2024-03-31T23:50:00", "2024-04-01T00:00:00")),
        ("%Y-%m-%dT%H:%M", "2024-03-31T23:50", "2024-03-31T24:00", ("2024-03-31T23:50:00", "2024-04-01T00:00:00")),
        ("%Y %j %H%M", "2024 366 2350", "2024 366 2400", ("2024-12-31T23:50:00", "2025-01-01T00:00:00")),
        ("unix", "1711843200", "1711843800.25", ("2024-03-31T00:00:00Z", "2024-03-31T00:10:00.25Z")),
        ("unix_ms", "1711843200000", "1711843800250", ("2024-03-31T00:00:00Z", "2024-03-31T00:10:00.25Z")),
        (
            "%Y-%m-%d %H:%M%z",
            "2024-10-27 02:50+0200",
            "2024-10-27 02:00+01:00",
            ("2024-10-27T00:50:00Z", "2024-10-27T01:00:00Z"),
        ),
        ("%Y-%m-%dT%H:%MZ", "2024-03-31T02:30Z", "2024-03-31T03:30Z", ("2024-03-31T02:30:00Z", "2024-03-31T03:30:00Z")),
    ],
)
def test_stamps_as_programs_write_them(put: Put, form: str, first: str, last: str, told: tuple[str, str]) -> None:
    found = stamped(put, form, first, last).record()
    assert (found["rows"], found["first_stamp"], found["last_stamp"], found["problems"]) == (2, *told, [])
    assert found["time_zone"] == ("UTC" if told[0].endswith("Z") else None)


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ("%d.%m.%Y %H:%M", "31.03.2024 24:10"),
        ("%d.%m.%Y %H:%M:%S", "31.03.2024 24:00:01"),
        ("%d.%m.%Y %H:%M", "31.12.9999 24:00"),
        ("%Y-%m-%d %H:%M%z", "0001-01-01 00:00+0100"),
        ("unix", "1711843200000"),  # milliseconds
        ("unix", "1e400"),
        ("unix_ms", "soon"),
        ("%m/%d/%y %I:%M%p", "1/01/15 13:10a"),
        ("%Y-%m-%d %H:%M%z", "2024-10-27 02:50"),
    ],
)
def test_other_stamps_are_problems_and_no_times(put: Put, form: str, wrong: str) -> None:
    found = stamped(put, form, wrong)
    assert f"{wrong!r} is no time stamp ({form})" in (found.refused or "")


@pytest.mark.parametrize("form", ["%H:%M", "yyyy-MM-dd HH:mm"])
def test_a_format_without_a_year_is_refused(put: Put, form: str) -> None:
    with pytest.raises(ValueError, match="has no year"):
        stamped(put, form, "00:10")


def test_stamps_that_tell_their_offset_are_not_told_another(put: Put) -> None:
    found = stamped(put, "%Y-%m-%d %H:%M%z", "2024-10-27 02:50+0200", more='utc_offset = "+01:00"')
    assert "leave utc_offset out" in (found.refused or "")
    begins = 'utc_offset = "+00:00"\nstamp = "begin"'
    found = stamped(put, "%Y-%m-%d %H:%M%z", "2024-10-27 02:50+0200", more=begins)
    assert found.record()["first_time"] == "2024-10-27T00:50:00Z"


def test_columns_without_a_name_are_passed_over_and_can_be_had_by_number(put: Put) -> None:
    """As Odyssey's loggers write: a heading of two lines, and only the first has the name of the stamp."""
    data = "".join(f"{n},2024-03-01 0{n}:00,{n}.5,{n}.25,\n" for n in range(1, 4))
    path = put(f"Scan,At,Light,,\n,,RAW,CALIBRATED,\n{data}".encode())
    text = 'first_line = 3\n[time]\ncolumns = ["At"]\nformat = "%Y-%m-%d %H:%M"\n'
    plain = recognise(path, Description.model_validate(tomllib.loads(text)))
    assert values(plain) == {"Scan": [1, 2, 3], "Light": [1.5, 2.5, 3.5]}
    by_number = text + '[[columns]]\nnumber = 4\nchannel = "light"\n[[columns]]\nnumber = 3'
    numbered = recognise(path, Description.model_validate(tomllib.loads(by_number)))
    assert values(numbered) == {"light": [1.25, 2.25, 3.25], "Light": [1.5, 2.5, 3.5]}


def test_columns_that_are_no_channels_are_told(put: Put) -> None:
    """A decimal comma that the description does not name makes texts of numbers."""
    found = stamped(put, "%Y %H:%M", "2024 00:10")
    assert (found.left_out, [each.name for each in found.columns]) == ({}, ["x"])
    text = 'delimiter = ";"\n[time]\ncolumns = ["at"]\nformat = "%Y-%m-%d %H:%M"'
    data = b"at;Wind;Temp\n" + b"".join(b"2024-03-01 00:%d0;7,%d;3\n" % (n, n) for n in range(4))
    found = inspect(put(data), description=Description.model_validate(tomllib.loads(text)))
    assert found.record()["left_out"] == [{"name": "Wind", "why": "text"}]
    assert "  no channels (text): Wind" in summary_lines(found)
