"""The fault book as a file: rows of one run go in, those of others stay."""

from dataclasses import replace
from pathlib import Path

import pytest
from fix_faultbook import Row, read_table, table, written

DOWN = Row(scenario="broker down", done="kill -9", accepted=12, alarm="broker_unreachable 3.1 s", recovered_s=2.5)
FULL = Row(scenario="disk full: edge", done="by a filler", accepted=7, seed=5, load=1.5, seen="2026-01-01")


def test_a_table_reads_back_as_its_rows() -> None:
    assert read_table(table([DOWN, FULL])) == {DOWN.scenario: DOWN, FULL.scenario: FULL}


def test_a_run_replaces_its_own_rows_and_leaves_the_others(tmp_path: Path) -> None:
    book = tmp_path / "FAULTS.md"
    written([DOWN, FULL], book)
    again = replace(DOWN, accepted=99, recovered_s=None)
    written([again], book)
    assert read_table(book.read_text()) == {DOWN.scenario: again, FULL.scenario: FULL}
    assert [path.name for path in tmp_path.iterdir()] == ["FAULTS.md"]


def test_text_of_a_row_breaks_no_table(tmp_path: Path) -> None:
    odd = replace(DOWN, done="a | b\nc")
    assert read_table(table([odd]))[odd.scenario].done == "a / b c"


@pytest.mark.parametrize("line", ["", "| scenario | x |", "|" + " --- |" * 11, "text"])
def test_what_is_no_row_is_passed(line: str) -> None:
    assert read_table(line) == {}
