"""`telltale quality try`: the stage's tests over a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from schemas.errors import Refused
from streams.cli import quality

CSV = "time,value\n" + "\n".join(
    f"2026-01-01T00:00:{second:02}Z,{value}" for second, value in enumerate(["1", "2", "", "90", "2", "2", "2", "2"])
)
LIMITS = """
interval_s = 1
[gross_range]
fail = [0, 75]
[spike]
suspect = 3
fail = 6
[flat_line]
tolerance = 0.1
suspect_s = 3
[gap]
fail_s = 10
"""


@pytest.fixture
def tried(tmp_path: Path) -> Any:
    def run(content: str, limits: str, *options: str) -> str:
        file, limits_file = tmp_path / "rows.csv", tmp_path / "limits.toml"
        file.write_text(content)
        limits_file.write_text(limits)
        done = CliRunner().invoke(quality, ["try", str(file), "--limits", str(limits_file), *options])
        if done.exception:
            raise done.exception
        return done.output

    return run


def test_json_has_flags_of_all_tests_and_of_each(tried: Any) -> None:
    said = json.loads(tried(CSV, LIMITS, "--json"))
    assert said["flag"] == [1, 1, 9, 4, 4, 1, 1, 3]
    assert said["tests"]["spike"] == [2, 2, 9, 2, 4, 1, 1, 2]
    assert said["tests"]["flat_line"] == [1, 1, 9, 1, 1, 1, 1, 3]
    assert said["value"][2:4] == [None, 90.0]
    assert said["time"][0] == "2026-01-01T00:00:00Z"


def test_several_channels_are_told_apart(tried: Any) -> None:
    content = "time,a,b\n2026-01-01 00:00,1,99\n2026-01-01 00:10,99,1\n"
    limits = "[gross_range]\nfail = [0, 75]"
    said = json.loads(tried(content, limits, "--json"))
    assert {name: of["flag"] for name, of in said["channels"].items()} == {"a": [1, 4], "b": [4, 1]}
    assert json.loads(tried(content, limits, "--json", "--channel", "b"))["flag"] == [4, 1]


def test_people_read_counts_and_flagged_rows(tried: Any) -> None:
    said = tried(CSV, LIMITS)
    assert "8 rows: 4 good, 1 suspect, 2 fail, 1 missing" in said
    assert "2026-01-01T00:00:04Z             2  fail    spike" in said


def test_a_logger_file_is_read_by_the_edge(tried: Any) -> None:
    rows = [f'"2026-01-01 00:{minute:02}:00",{minute},{minute}' for minute in range(0, 30, 10)]
    header = ['"TOA5","s","CR1000","1","x","y","1","t"', '"TIMESTAMP","RECORD","Spd"', '"TS","RN","m/s"', '"","","Avg"']
    said = json.loads(tried("\n".join([*header, *rows]) + "\n", "[gross_range]\nfail = [0, 15]", "--json"))
    assert said["time"] == ["2026-01-01T00:00:00", "2026-01-01T00:10:00", "2026-01-01T00:20:00"]
    assert said["flag"] == [1, 1, 4]


def test_angles_are_said_by_the_quantity(tried: Any) -> None:
    content = "time,value\n0,350\n1,5\n2,350\n"
    limits = "[rate_of_change]\nsuspect_per_s = 20"
    assert json.loads(tried(content, limits, "--json"))["flag"] == [1, 3, 3]
    assert json.loads(tried(content, 'quantity = "wind_direction"\n' + limits, "--json"))["flag"] == [1, 1, 1]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("[spik]\nx = 1", "spik: no such table"),
        ('[spike]\nsuspect = "x"', '[spike] suspect: expected a number, got "x"'),
        ("[spike]\nsuspect = -1", "[spike] suspect: expected a number of 0 or more, got -1"),
        ('[spike]\nmethod = "avg"', "[spike] method: expected 'average' or 'differential', got \"avg\""),
        ("[gross_range]\nfail = 3", "[gross_range] fail: expected [min, max], two numbers, got 3"),
        ("[gross_range]\nfail = [3]", "[gross_range] fail: expected [min, max], two numbers, got [3]"),
        ("[gross_range]\nfail = [1, 2, 3]", "[gross_range] fail: expected [min, max], two numbers, got [1, 2, 3]"),
        ("[gross_range]\nfail = [nan, 2]", "[gross_range] fail: expected [min, max], two numbers, got nan"),
        ("[gross_range]\nfail = [5, 1]", "[gross_range]: fail = [5.0, 1.0]: the smaller number must come first"),
        ("[spike]\nsuspects = 3", "[spike] suspects: no such key; known: method, suspect, fail"),
        ("[spike]\nsuspect = 5\nfail = 3", "[spike]: suspect = 5 must not be more than fail = 3"),
        ("[flat_line]\nsuspect_s = 3", "interval_s is missing: [flat_line]"),
        ("interval_s = 0", "interval_s must be a number of seconds above 0"),
        ("[icing]\nbelow = 2", "[icing] temperature: is missing"),
        ('interval_s = 1\n[icing]\ntemperature = "T"', '[icing] temperature = "T" is no column'),
        ("spike = 3", "[spike]: expected a table with the keys method, suspect, fail, got 3"),
        ("", "no limits"),
        ("a b", "line 1"),
    ],
)
def test_wrong_limits_are_told_in_one_line(tried: Any, limits: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        tried(CSV, limits)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("time,value\n", "no rows"),
        ("time,value\n2026-01-01,x\n", "line 2: 'x' is no number"),
        ("time,value\nsoon,1\n", "line 2: 'soon' is no time"),
        ("time,value\n0,1,2\n", "line 2: 3 cells, expected 2"),
        ("time,a,a\n0,1,2\n", "line 1"),
        ("", "is empty"),
    ],
)
def test_wrong_rows_are_told_with_their_line(tried: Any, content: str, said: str) -> None:
    with pytest.raises(Refused, match=said.replace("(", r"\(")):
        tried(content, LIMITS)
