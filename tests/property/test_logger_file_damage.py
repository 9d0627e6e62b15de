"""Files that were cut, flipped, spliced or written in another encoding: read as before, or refused with a line.

What is not found: a digit that became another digit. No format of these has a check sum of its rows.
"""

import io
import tomllib
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from logger_file_examples import DESCRIBED_BY, EXAMPLES

from producers.files import table
from producers.files.described import Description
from producers.files.inspection import Inspection, inspect
from producers.files.logger_file import Kind, LoggerFile
from producers.files.recognise import recognise
from schemas.errors import Refused

BINARY = {"tob1", "tob3"}


@dataclass(frozen=True)
class InMemory:
    """A file that is none. See `Readable`."""

    data: bytes
    name: str = "mast.dat"
    suffix: str = ".dat"

    def is_dir(self) -> bool:
        return False

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        assert mode == "rb"
        return io.BytesIO(self.data)


def description(name: str) -> Description | None:
    return Description.model_validate(tomllib.loads(DESCRIBED_BY[name])) if name in DESCRIBED_BY else None


def look(name: str, data: bytes) -> Inspection:
    return inspect(InMemory(data), description=description(name))


def rows_of(file: LoggerFile) -> list[tuple[int, tuple[tuple[str, float], ...]]]:
    """(stamp, values by name) of every row; NaN as None."""
    found = []
    for chunk in file.chunks(lambda column: column.name):
        for stamp, values in zip(chunk.stamps.tolist(), chunk.values.tolist(), strict=True):
            pairs = sorted(zip(chunk.columns, values, strict=True))
            found.append((stamp, tuple((n, None if np.isnan(v) else v) for n, v in pairs)))
    return found


def rows(name: str, data: bytes) -> list[tuple[int, tuple[tuple[str, float], ...]]] | None:
    """None where the file is refused."""
    try:
        return rows_of(recognise(InMemory(data), description(name)))
    except Refused:
        return None


names = st.sampled_from(sorted(EXAMPLES))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_examples_themselves_are_clean(name: str) -> None:
    found = look(name, EXAMPLES[name])
    assert (found.format, found.refused, found.problems) == (name, None, [])
    assert found.rows >= 10


@given(names, st.data())
@settings(max_examples=150)
def test_a_file_cut_anywhere_gives_its_first_rows_or_is_refused(name: str, data: st.DataObject) -> None:
    whole = EXAMPLES[name]
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    found = rows(name, cut)
    if found is not None:
        every = rows(name, whole)
        if found and found[-1] not in every:  # its last cell alone was cut, and is missing
            (stamp, kept), (of, had) = found[-1], every[len(found) - 1]
            assert (stamp, len(kept)) == (of, len(had))
            assert sum(one != other for one, other in zip(kept, had, strict=True)) == 1
            assert all(one == other or one[1] is None for one, other in zip(kept, had, strict=True))
            found = found[:-1]
        assert set(found) <= set(every)  # mixed arrays come sorted by kind
        assert name == "mixed-array" or found == every[: len(found)]
    assert_told(look(name, cut))


@given(names, st.data())
@settings(max_examples=250)
def test_flipped_bytes_break_nothing_and_both_ways_agree(name: str, data: st.DataObject) -> None:
    broken = bytearray(EXAMPLES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    found = look(name, bytes(broken))
    assert_told(found)
    assert_fast_is_slow(name, bytes(broken), found)


@given(names, names, st.data())
@settings(max_examples=200)
def test_spliced_files_break_nothing_and_both_ways_agree(name: str, other: str, data: st.DataObject) -> None:
    one, two = EXAMPLES[name], EXAMPLES[other]
    start, stop = sorted(data.draw(st.tuples(st.integers(0, len(two)), st.integers(0, len(two)))))
    place = data.draw(st.integers(0, len(one)))
    mixed = one[:place] + two[start:stop] + one[place:]
    found = look(name, mixed)
    assert_told(found)
    assert_fast_is_slow(name, mixed, found)


@given(st.sampled_from(sorted(set(EXAMPLES) - BINARY - set(DESCRIBED_BY))), st.data())
@settings(max_examples=60)
def test_lines_lost_or_doubled_change_no_other_row(name: str, data: st.DataObject) -> None:
    lines = EXAMPLES[name].splitlines(keepends=True)
    at = data.draw(st.integers(len(lines) // 2 + 8 if name != "toa5" else 10, len(lines) - 1))
    lines[at : at + 1] = lines[at : at + 1] * data.draw(st.sampled_from([0, 2]))
    whole = rows(name, EXAMPLES[name])
    found = rows(name, b"".join(lines))
    assert found is not None
    assert abs(len(found) - len(whole)) <= 1
    assert set(found) <= set(whole)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])
@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - BINARY - set(DESCRIBED_BY)))
def test_another_encoding_gives_the_same_rows(name: str, encoding: str) -> None:
    text = EXAMPLES[name].decode("latin-1" if name == "windographer" else "utf-8-sig")
    assert rows(name, text.encode(encoding)) == rows(name, EXAMPLES[name])


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", sorted(set(EXAMPLES) - BINARY - set(DESCRIBED_BY)))
def test_other_line_ends_give_the_same_rows(name: str, ends: str) -> None:
    lines = EXAMPLES[name].decode("latin-1" if name == "windographer" else "utf-8-sig").splitlines()
    assert rows(name, "".join(line + ends for line in lines).encode()) == rows(name, EXAMPLES[name])


@given(
    st.binary(max_size=400), st.sampled_from([b"", b"TOA5,", b'"TOB1"', b'"TOB3",', b"NRG Export Service\n", b"SDR\t"])
)
@example(b"\n" * 9, b"TOA5,")
@settings(max_examples=150)
def test_rubbish_is_refused(data: bytes, start: bytes) -> None:
    found = inspect(InMemory(start + data))
    assert found.rows == 0
    assert_told(found)


def assert_told(found: Inspection) -> None:
    """Refused with a line, or read; never a value that is no number."""
    record = found.record()
    assert all(each["line"] >= 1 and each["what"] for each in record["problems"])
    assert found.refused is None or record["problems"]
    assert all(value is None or np.isfinite(value) for value in found.first_row)
    assert len(found.first_row) in (0, len(found.columns))


def assert_fast_is_slow(name: str, data: bytes, slow: Inspection) -> None:
    """Arrow's reading and the one line by line give the same."""
    before = table.ARROW_BYTES_MIN
    table.ARROW_BYTES_MIN = 1
    try:
        fast = look(name, data)
        assert fast.record() == slow.record()
        if slow.refused is None:
            quick = rows(name, data)
            table.ARROW_BYTES_MIN = before
            assert quick == rows(name, data)
    finally:
        table.ARROW_BYTES_MIN = before


def test_kinds_are_kept_apart() -> None:
    kinds = {c.name: c.kind for c in recognise(InMemory(EXAMPLES["toa5"])).columns}
    assert [name for name, kind in kinds.items() if kind is Kind.VALUE] == ["WS(1)_Avg", "WS_Max", "RH", "Batt"]
