"""`telltale import --dry-run`: what is in files, without a stack, a device or a question unanswered by guessing."""

import json
from pathlib import Path

import logger_file_examples as made
import pytest
from click.testing import CliRunner, Result

from infra.command import telltale
from producers.files.inspection import Inspection
from schemas.errors import Refused


def dry_run(*args: str | Path) -> Result:
    return CliRunner().invoke(telltale, ["import", "--dry-run", *map(str, args)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.dat").write_bytes(made.toa5())
    (tmp_path / "b.txt").write_bytes(made.hobo())
    return tmp_path


def test_one_object_for_each_file_of_a_folder(folder: Path) -> None:
    result = dry_run(folder, "--json")
    assert result.exit_code == 0
    toa5, hobo = map(json.loads, result.stdout.splitlines())
    assert (toa5["status"], hobo["status"]) == ("needs an answer", "ok")
    assert toa5["channels"][0] == {"name": "WS(1)_Avg", "unit": "m/s", "statistic": "Avg"}
    assert toa5["logger"] == {"model": "CR1000X", "serial": "12342", "program": "CPU:hill.CR1X", "table": "ten"}
    assert (toa5["first_row"], toa5["missing"]) == ([0, None, 50, 12.0], 5)
    assert (toa5["first_stamp"], toa5["first_time"], toa5["time_zone"]) == ("2024-02-01T00:00:00", None, None)
    assert len(toa5["questions"]) == 3
    record = Inspection("x").record()
    assert list(toa5) == list(record)


def test_answers_make_times_of_the_beginning_of_the_interval(folder: Path) -> None:
    args = (folder / "a.dat", "--json", "--utc-offset", "+01:00", "--stamp", "end", "--interval", "600")
    (found,) = map(json.loads, dry_run(*args).stdout.splitlines())
    assert (found["status"], found["first_time"], found["questions"]) == ("ok", "2024-01-31T22:50:00Z", [])


def test_a_refused_file_ends_with_its_reason_and_the_others_are_told(folder: Path) -> None:
    (folder / "aa.dat").write_bytes(b"TOA5,x\n")
    result = dry_run(folder, "--json")
    assert isinstance(result.exception, Refused)
    assert result.exception.exit_code == 2
    _, refused, hobo = map(json.loads, result.stdout.splitlines())
    assert (refused["status"], hobo["status"]) == ("refused", "ok")
    assert refused["problems"][0]["line"] == 1


def test_a_person_reads_sentences(folder: Path) -> None:
    said = dry_run(folder / "a.dat").stdout
    assert "40 rows, 4 channels, 5 values missing" in said
    assert "needs an answer: how far is its clock from UTC? --utc-offset +HH:MM" in said
