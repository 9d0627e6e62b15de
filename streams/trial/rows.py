"""Rows of a file to try limits on: a plain `time,value` CSV, or a logger file as `telltale edge show` gives it.

Knows no logger's format: those are the edge's, and it is asked as a command. Times without a zone count as UTC.
"""

import csv
import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.errors import Refused
from streams.calibration import micros

MISSING = frozenset({"", "nan", "na", "n/a", "null", "none", "-"})
TIME_NAMES = frozenset({"time", "timestamp", "datetime", "date", "ts"})


@dataclass(frozen=True, slots=True)
class Rows:
    """n rows of c columns."""

    said: tuple[str, ...]  # (n,) times as the file has them
    times: Longs  # (n,) µs UTC
    columns: tuple[str, ...]
    values: Doubles  # (n, c); NaN = missing


def read_rows(path: Path) -> Rows:
    """Raises `Refused` with the line at fault."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = next(csv.reader([file.readline()]), [])
            if _is_plain(first):
                file.seek(0)
                return _parse(path.name, csv.reader(file))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        pass  # what it is, the edge can say
    return _parse(path.name, csv.reader(io.StringIO(_shown(path))))


def _is_plain(first: Sequence[str]) -> bool:
    if len(first) < 2:
        return False
    return first[0].strip().lower() in TIME_NAMES or _time(first[0]) is not None


def _shown(path: Path) -> str:
    command = [sys.executable, "-m", "infra.command", "edge", "show", str(path), "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"{path}: could not be read"]
        raise Refused(lines[-1].removeprefix("error: "))
    return done.stdout


def _parse(name: str, lines: Iterator[list[str]]) -> Rows:
    said: list[str] = []
    times: list[int] = []
    values: list[list[float]] = []
    columns: tuple[str, ...] = ()
    for number, cells in enumerate(lines, 1):
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            header = cells[0].strip().lower() in TIME_NAMES
            columns = tuple(c.strip() for c in cells[1:]) if header else _names(len(cells) - 1)
            if not columns or len(set(columns)) < len(columns) or not all(columns):
                raise Refused(f"{name}, line {number}: expected time and columns of different names, got {cells}")
            if header:
                continue
        if len(cells) != len(columns) + 1:
            raise Refused(f"{name}, line {number}: {len(cells)} cells, expected {len(columns) + 1}")
        time = _time(cells[0])
        if time is None:
            raise Refused(f"{name}, line {number}: {cells[0]!r} is no time; write 2026-01-31T12:00:00Z, or seconds")
        said.append(cells[0].strip())
        times.append(time)
        values.append([_number(cell, name, number) for cell in cells[1:]])
    if not values:
        raise Refused(f"{name}: no rows")
    return Rows(tuple(said), np.array(times, np.int64), columns, np.array(values, np.float64))


def _names(count: int) -> tuple[str, ...]:
    return ("value",) if count == 1 else tuple(f"value{at + 1}" for at in range(count))


def _number(cell: str, name: str, line: int) -> float:
    text = cell.strip()
    if text.lower() in MISSING:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise Refused(f"{name}, line {line}: {text!r} is no number") from None


SECONDS_MAX = 1e11  # the year 5138; what is more is meant otherwise


def _time(cell: str) -> int | None:
    """µs UTC of ISO 8601 or seconds since 1970; None if it is no time."""
    text = cell.strip()
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return round(seconds * 1e6) if abs(seconds) < SECONDS_MAX else None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return micros(time if time.tzinfo else time.replace(tzinfo=UTC))
