"""Logger files: values read a second and core, format by format, beside `pandas.read_csv` of the same file.

Beside it the same TOA5 file without pyarrow, as at an edge, and a thousand small files as LoggerNet leaves them.
"""

import os
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import logger_file_examples as made
import numpy as np
import pandas as pd
from bench_stack import Figure, figure

from producers.files import table
from producers.files.described import Description
from producers.files.inspection import inspect
from producers.files.recognise import recognise

WINS = """
pandas wins where pyarrow is left out, as on a small edge: there the file is read by Python's own `csv` and numpy, since
pandas is larger than all that an edge needs. HOBOware's files are read as fast by both, which spend most on stamps of
month, day and year; but pandas has to be told how they are written.
"""

ROWS = int(os.environ.get("BENCH_FILES_ROWS", "200000"))
COLUMNS = 20
SMALL_FILES = 1_000
BEST_OF = 3


def core_s(once: Callable[[], object]) -> float:
    """Processor seconds, the best of some runs."""
    best = float("inf")
    for _ in range(BEST_OF):
        began = time.process_time()
        once()
        best = min(best, time.process_time() - began)
    return best


def read(path: Path, description: Description | None = None) -> int:
    file = recognise(path, description)
    return sum(chunk.values.size for chunk in file.chunks(lambda column: column.name))


def numbers() -> list[str]:
    rng = np.random.default_rng(7)
    cells = rng.normal(8, 3, (ROWS, COLUMNS)).round(3).astype(str)
    cells[rng.random(cells.shape) < 0.001] = '"NAN"'
    return [",".join(row) for row in cells.tolist()]


def stamps(step_s: int = 600) -> list[str]:
    times = np.datetime64("2020-01-01T00:00:00") + np.arange(ROWS) * np.timedelta64(step_s, "s")
    return [each.replace("T", " ") for each in times.astype(str).tolist()]


def toa5(path: Path, rows: list[str], at: list[str]) -> Path:
    names = [f"c{n}" for n in range(COLUMNS)]
    head = ['"TOA5","s","CR1000","1","os","p","2","T"', ",".join(["TIMESTAMP", "RECORD", *names])]
    head += [",".join(["TS", "RN", *["m/s"] * COLUMNS]), ",".join(["", "", *["Avg"] * COLUMNS])]
    body = [f'"{stamp}",{n},{row}' for n, (stamp, row) in enumerate(zip(at, rows, strict=True))]
    path.write_text("\r\n".join([*head, *body, ""]))
    return path


def nrg(path: Path, rows: list[str], at: list[str]) -> Path:
    names = "\t".join(["Timestamp", *(f"Ch{n}_Anem_80.00m_N_Avg_m/s" for n in range(COLUMNS))])
    body = [f"{stamp}\t{row}" for stamp, row in zip(at, rows, strict=True)]
    text = "\n".join([*made.SYMPHONIE_HEAD, "Data", names, *body, ""])
    path.write_text(text.replace('"NAN"', "").replace(",", "\t"))
    return path


def hobo(path: Path, rows: list[str], at: list[str]) -> Path:
    names = ",".join(f'"Temp {n}, °C (LGR S/N: 1, SEN S/N: {n})"' for n in range(COLUMNS))
    times = [f"{stamp[5:7]}/{stamp[8:10]}/{stamp[2:4]} {stamp[11:]}" for stamp in at]
    body = [f"{n},{stamp},{row}" for n, (stamp, row) in enumerate(zip(times, rows, strict=True))]
    text = "\n".join(['"Plot Title: x"', f'"#","Date Time, GMT+00:00",{names}', *body, ""])
    path.write_text(text.replace('"NAN"', ""))
    return path


def run() -> Iterator[Figure]:
    rows, at = numbers(), stamps()
    values = ROWS * COLUMNS
    with tempfile.TemporaryDirectory(prefix="telltale-bench-") as name:
        folder = Path(name)
        path = toa5(folder / "a.dat", rows, at)
        frame = core_s(lambda: pd.read_csv(path, skiprows=[0, 2, 3], na_values=["NAN"], parse_dates=["TIMESTAMP"]))
        yield figure("files", "TOA5 by pandas.read_csv", values / frame, "values/s")
        yield figure("files", "TOA5", values / core_s(lambda: read(path)), "values/s", beside=values / frame)
        before, table.ARROW_BYTES_MIN = table.ARROW_BYTES_MIN, 1 << 60
        yield figure(
            "files", "TOA5 without pyarrow", values / core_s(lambda: read(path)), "values/s", beside=values / frame
        )
        table.ARROW_BYTES_MIN = before
        lines = len(made.SYMPHONIE_HEAD) + 1
        for what, write, how in (
            ("NRG export", nrg, {"skiprows": lines, "sep": "\t", "parse_dates": [0]}),
            ("HOBOware", hobo, {"skiprows": 1, "parse_dates": [1], "date_format": "%m/%d/%y %H:%M:%S"}),
        ):
            other = write(folder / "b.txt", rows, at)
            frame = core_s(lambda p=other, o=how: pd.read_csv(p, **o))  # type: ignore[misc]
            yield figure("files", f"{what} by pandas.read_csv, told its stamps' format", values / frame, "values/s")
            yield figure("files", what, values / core_s(lambda p=other: read(p)), "values/s", beside=values / frame)  # type: ignore[misc]
        yield from _others(folder)
        yield from _small(folder, rows, at)


def _others(folder: Path) -> Iterator[Figure]:
    path = folder / "c.dat"
    path.write_bytes(made.tob1(ROWS))
    count = read(path)
    yield figure("files", "TOB1", count / core_s(lambda: read(path)), "values/s")
    size = len(made.tob3_frame(0, made.TOB3_ROWS_IN_FRAME))
    frames = b"".join(made.tob3_frame(4 * n, 4) for n in range(ROWS // 4))
    path.write_bytes(made.tob3_head(size) + frames)
    count = read(path)
    yield figure("files", "TOB3 in frames of four rows", count / core_s(lambda: read(path)), "values/s")
    path.write_bytes(made.mixed_array() * (ROWS // 48))
    about = Description.model_validate(tomllib.loads(made.MIXED_MAP))
    count = read(path, about)
    yield figure("files", "mixed array", count / core_s(lambda: read(path, about)), "values/s")


def _small(folder: Path, rows: list[str], at: list[str]) -> Iterator[Figure]:
    """A day of ten-minute rows each, as a logger that is called daily."""
    small = folder / "loggernet"
    small.mkdir()
    lines = toa5(folder / "d.dat", rows[:144], at[:144]) if ROWS >= 144 else None
    assert lines is not None
    for n in range(SMALL_FILES):
        (small / f"mast_{n}.dat").write_bytes(lines.read_bytes())
    spent = core_s(lambda: [inspect(each) for each in small.iterdir()])
    yield figure("files", f"dry run of {SMALL_FILES} daily files", SMALL_FILES / spent, "files/s")
