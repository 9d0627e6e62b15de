"""Numbers that loggers write for "no value": told where taken as numbers, missing where a description says so."""

import json
import tomllib
from pathlib import Path

import logger_file_examples as made
import numpy as np
import pytest
from click.testing import CliRunner
from fix_files import Put, values
from fix_imports import HEADER, mast

from infra.command import telltale
from producers.files.codes import Codes
from producers.files.described import Description, read_description
from producers.files.inspection import Inspection, inspect
from producers.files.logger_file import Stamping
from producers.files.recognise import recognise
from producers.imports.finding import found_in
from producers.imports.one_file import Answer, Asked, Done, Event, Hashed, Mark, Planned
from producers.imports.readers import read_all
from producers.imports.unpacking import Found
from producers.sources.following import Following
from schemas.errors import Refused
from schemas.records import ImportStatus

TOLD = Stamping(0, "begin", 600)


def toa5(*columns: str, rows: list[str]) -> bytes:
    names = ",".join(f'"{each}"' for each in ("TIMESTAMP", *columns))
    empty = ",".join(['"TS"', *['""'] * len(columns)])
    head = ('"TOA5","hill","CR1000X","12342","OS","CPU:x.CR1","2438","ten"', names, empty, empty.replace("TS", ""))
    stamps = (f'"2024-02-01 {n // 6:02}:{n % 6}0:00"' for n in range(len(rows)))
    return made.crlf(*head, *(f"{stamp},{row}" for stamp, row in zip(stamps, rows, strict=True)))


MAST = toa5(
    "WS",
    "RH",
    "Press",
    "Count",
    rows=[f"{-9999 if n in (3, 5) else n / 10},{7999 if n == 7 else 50 + n},{990 + n}.9,{6990 + n}" for n in range(20)],
)


def described(text: str) -> Description:
    return Description.model_validate(tomllib.loads(text))


def told(found: Inspection) -> list[str]:
    return list(map(str, found.looks_missing))


def test_codes_are_told_by_channel_and_real_values_are_not(put: Put) -> None:
    found = inspect(put(MAST))
    assert told(found) == ["WS: -9999 2 times, first in line 8", "RH: 7999 once, first in line 12"]
    assert found.missing == 0
    assert values(recognise(put(MAST)))["WS"][3] == -9999


def test_a_person_reads_what_to_write_and_a_script_the_places(put: Put) -> None:
    said = CliRunner().invoke(telltale, ["import", "--dry-run", str(put(MAST))]).stdout
    assert "may mean missing, taken as a number: WS: -9999 2 times, first in line 8" in said
    assert 'missing = ["-9999", "7999"]' in said
    output = CliRunner().invoke(telltale, ["import", "--dry-run", "--json", str(put(MAST))]).stdout
    assert json.loads(output)["looks_missing"][1] == {"channel": "RH", "value": 7999, "count": 1, "first_line": 12}


@pytest.mark.parametrize(
    ("description", "left", "gone"),
    [
        ('missing = ["-9999", "7999"]', [], 3),
        ('[[columns]]\nname = "RH"\nmissing = ["7999"]', ["WS: -9999 2 times, first in line 8"], 1),
        (
            'missing = ["-9999"]\n[[columns]]\nname = "Count"\nmissing = ["6995"]',
            ["RH: 7999 once, first in line 12"],
            3,
        ),
    ],
)
def test_a_description_of_codes_alone_makes_them_missing_in_a_known_format(
    put: Put, description: str, left: list[str], gone: int
) -> None:
    found = inspect(put(MAST), description=described(description))
    assert (found.format, found.rows, found.missing, told(found)) == ("toa5", 20, gone, left)


def test_codes_of_binary_files_too(put: Put) -> None:
    data = made.tob1(4) + made.tob1_row(4)[:22] + np.float32(-99.9).tobytes() + made.tob1_row(4)[26:]
    assert "Four: -99.9 once, first in line 5" in told(inspect(put(data)))
    found = inspect(put(data), description=described('[[columns]]\nname = "Four"\nmissing = ["-99.9"]'))
    assert (found.format, told(found), found.missing) == ("tob1", [], 2)


def test_codes_of_one_column_of_a_described_file(put: Put) -> None:
    data = b"when,a,b\n" + b"".join(b"2024-02-01 00:%02d:00,%d,7999\n" % (n, 7999 if n == 2 else n) for n in range(9))
    text = '[time]\ncolumns = ["when"]\nformat = "%Y-%m-%d %H:%M:%S"\n[[columns]]\nname = "a"\nchannel = "speed"'
    assert told(inspect(put(data), description=described(text))) == ["speed: 7999 once, first in line 4"]
    found = inspect(put(data), description=described(f'{text}\nmissing = ["7999"]'))
    assert (found.missing, told(found)) == (1, [])
    by_number = text.partition("[[columns]]")[0] + '[[columns]]\nnumber = 2\nmissing = ["7999"]'
    found = inspect(put(data), description=described(by_number))
    assert (found.missing, told(found)) == (1, [])


def test_codes_of_a_mixed_array_stand_in_its_map(put: Put) -> None:
    map_ = '[[arrays]]\nid = 101\ncolumns = ["a", "b", "c"]\n[[arrays]]\nid = 60\ncolumns = ["d"]\n'
    found = inspect(put(made.mixed_array()), description=described(map_))
    assert told(found) == ["c: -6999 once, first in line 7"]
    text = map_.replace("[[arrays]]\nid = 60", 'missing = ["-6999"]\n[[arrays]]\nid = 60')
    assert told(inspect(put(made.mixed_array()), description=described(text))) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('missing = ["---"]', "'---' is no number"),
        ('missing = ["-9999"]\nutc_offset = "+01:00"', "utc_offset: without"),
        ('missing = ["-9999"]\n[[columns]]\nname = "WS"\nunit = "m/s"', "name and missing, nothing else"),
        ('missing = ["-9999"]\n[[columns]]\nnumber = 2\nmissing = ["1"]', "name and missing, nothing else"),
        ("", "nothing but missing"),
    ],
)
def test_a_description_of_codes_says_nothing_else(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "codes.toml"
    path.write_text(text)
    with pytest.raises(Refused, match=what):
        read_description(path)


def test_a_column_that_is_not_there_is_told_by_name(put: Put) -> None:
    found = inspect(put(MAST), description=described('[[columns]]\nname = "Ws"\nmissing = ["7999"]'))
    assert "column 'Ws' of the description is not there; there are WS, RH" in (found.refused or "")


@pytest.mark.parametrize(
    ("numbers", "codes"),
    [
        ([988.1, 999.9, 1013.2], []),  # hPa
        ([985.0, 999.0], []),
        ([0.0, 359.0, 999.0], ["999"]),
        ([-20.0, 31.5, -99.9], ["-99.9"]),
        ([-1500.0, 0.0, -999.0], []),  # a matric potential
        ([7999.0, 7999.0, np.nan], ["7999"]),
        ([6998.0, 6999.0, 7000.0], []),  # a counter
        ([3.0, -7999.0, 6999.0], ["-7999", "6999"]),
        ([1.5, np.nan, np.inf], []),
    ],
)
def test_what_looks_missing_stands_apart(numbers: list[float], codes: list[str]) -> None:
    for pieces in ([numbers], [[each] for each in numbers]):  # however the file is cut
        met, line = Codes(), 0
        for piece in pieces:
            met.take(("x",), np.array([piece]).T, np.arange(line + 1, line + 1 + len(piece)))
            line += len(piece)
        assert [each.text for each in met.met()] == codes


def test_the_status_of_an_import_tells_them(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    rows = [f'"2016-12-20 0{n}:00:00",{n},{"-9999" if n == 4 else "7.5"},7.5\r\n' for n in range(6)]
    (folder / "a.dat").write_bytes((HEADER + "".join(rows)).encode())
    ended: list[ImportStatus] = []

    def answer(_: Found, event: Event) -> Answer:
        if isinstance(event, Done):
            ended.append(event.status)
        return True if isinstance(event, Hashed) else Mark(None) if isinstance(event, Planned) else None

    found = [one for one, why_not in found_in([folder]) if why_not is None]
    read_all(found, Asked(tmp_path / "archive", {"mast-7": mast()}, {}), jobs=1, told=answer)
    assert [each.looks_missing for each in ended] == [("Spd80mN: -9999 once, first in line 9",)]


class Intake:
    """Where rows of a file that grows go."""

    device_id = "mast-7"

    def odd(self, what: str) -> None:
        raise AssertionError(what)


@pytest.mark.parametrize("description", [None, 'missing = ["7999"]'])
def test_a_file_that_grows_is_read_so_too(tmp_path: Path, description: str | None) -> None:
    about = None if description is None else described(description)
    head, rows = MAST.split(b"\r\n", 4)[:4], MAST.split(b"\r\n", 4)[4]
    above = b"".join(each + b"\r\n" for each in head)
    file = Following(tmp_path / "mast.dat", lambda _: None, TOLD, about)
    assert file._header_lines == 4
    (found,) = file.rows(above, rows, 105, Intake(), None)
    assert np.isnan(found.values[:, 1]).sum() == (0 if about is None else 1)
    told = ["WS: -9999 2 times, first in line 108", "RH: 7999 once, first in line 112"]
    assert list(map(str, file.codes.met())) == told[: 2 if about is None else 1]
