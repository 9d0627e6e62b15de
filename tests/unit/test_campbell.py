"""Campbell's binary files and mixed arrays, trap by trap; TOA5 is in `test_toa5`."""

import csv
import struct
import tomllib

import logger_file_examples as made
import numpy as np
import pytest
from fix_edge import SAMPLES
from fix_files import Put, kinds, looked, values

from producers.files.campbell_types import cell_type, shortest
from producers.files.described import Description
from producers.files.inspection import inspect
from producers.files.logger_file import Kind
from producers.files.recognise import recognise
from schemas.errors import Refused

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
