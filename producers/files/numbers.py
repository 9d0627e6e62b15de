"""Text cells to numbers and stamps, a column at a time. Pure: lists of strings in, arrays and doubtful places out."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from schemas.columnar import Doubles, Longs

NOT_A_TIME = np.iinfo(np.int64).min
MISSING = frozenset({"", "NAN", "NA", "-NAN", "INF", "-INF", "+INF", "#N/A", "NULL"})
"""How loggers and those who re-save their files write "no value", in capitals, without blanks."""


def codes_of(missing: frozenset[str]) -> Doubles:
    """The numbers among the words for missing: -999 is -999.00 too."""
    found = []
    for word in missing - MISSING:
        try:
            found.append(float(word))
        except ValueError:
            continue
    return np.array(found)


def numbers(cells: Sequence[str], *, missing: frozenset[str] = MISSING) -> tuple[Doubles, list[int]]:
    """(values, indices of cells that are neither a number nor a known word for missing); both NaN in `values`."""
    codes = codes_of(missing) if missing is not MISSING else np.empty(0)
    try:
        # Python's float takes "1_000", which no logger writes; everything else that it takes is a number.
        values = np.fromiter(map(float, cells), np.float64, len(cells))
        plain = not any("_" in cell for cell in cells)
    except ValueError:
        plain = False
    if plain:
        values[np.isinf(values)] = np.nan
        if len(codes):
            values[np.isin(values, codes)] = np.nan
        return values, []
    values = np.empty(len(cells))
    doubtful = []
    for index, cell in enumerate(cells):
        text = cell.strip()
        number = math.nan
        if text.upper() not in missing:
            try:
                number = float(text) if "_" not in text else math.nan
            except ValueError:
                number = math.nan
            if not math.isfinite(number):
                number = math.nan
                doubtful.append(index)
            elif number in codes:
                number = math.nan
        values[index] = number
    return values, doubtful


def iso_stamps(cells: Sequence[str]) -> tuple[Longs, list[int]]:
    """`YYYY-MM-DD HH:MM[:SS[.f]]` (24:00 ends the day) as microseconds, and the indices of other cells (NOT_A_TIME)."""
    if all(map(_ISO.fullmatch, cells)):
        try:
            return np.array(cells, "datetime64[us]").astype(np.int64), []
        except ValueError:
            pass
    stamps = np.full(len(cells), NOT_A_TIME, np.int64)
    doubtful = []
    for index, cell in enumerate(cells):
        found = _ISO.fullmatch(cell.strip())
        try:
            stamps[index] = micros(_moment(found.groups()))  # type: ignore[union-attr]  # None is the AttributeError
        except (ValueError, AttributeError):
            doubtful.append(index)
    return stamps, doubtful


_ISO = re.compile(r"([12]\d{3})-(\d\d)-(\d\d)[ T](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?", re.ASCII)


def _moment(parts: Sequence[str | None]) -> datetime:
    """Year, month, day, hour, minute, second, fraction; 24:00:00 is the day's end. Raises `ValueError`."""
    year, month, day, hour, minute, second = (int(part or 0) for part in parts[:6])
    fraction = int(((parts[6] if len(parts) > 6 else None) or "0").ljust(6, "0"))
    if hour == 24 and not (minute or second or fraction):
        return datetime(year, month, day) + timedelta(days=1)  # noqa: DTZ001 - zone comes later
    return datetime(year, month, day, hour, minute, second, fraction)  # noqa: DTZ001 - zone comes later


def micros(stamp: datetime) -> int:
    """A stamp without zone as microseconds since 1970 of its own calendar."""
    whole = stamp.replace(tzinfo=UTC)
    return int(whole.timestamp()) * 1_000_000 + whole.microsecond
