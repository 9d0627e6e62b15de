"""Campbell mixed arrays: rows without a header, several kinds in one file, told apart by their first number.

Knows rows of `id, year, day of year, hhmm, values`; what the values are says a map in the description:

[[arrays]]
id = 101
time = ["year", "day", "hhmm"]         # the cells behind the id; also "seconds"
columns = ["BattV", "Spd80mN", "skip"] # the cells behind those, in order; "skip" leaves one out
missing = ["6999", "-6999"]            # as this logger was told to write them
"""

import re
from collections.abc import Iterator
from datetime import date

import numpy as np

from producers.files.described import ArrayMap, Description
from producers.files.lines import Readable, blocks, cells, encoding_of, head
from producers.files.logger_file import Chunk, Column, Identity, Stamping, Tally, Wanted
from producers.files.numbers import MISSING, NOT_A_TIME, numbers
from producers.files.stamps import offset_minutes
from schemas.columnar import Longs
from schemas.errors import Refused

_ROW = re.compile(r"\s*\d{1,4}(?:\.0*)?\s*,\s*(?:19|20)\d\d\s*,\s*\d{1,3}\s*(?:,\s*\d{1,4}\s*(?:,|$)|$)")
DAY_US = 86_400_000_000


def is_mixed_array(text: str) -> bool:
    """Whether the first lines are id, year, day of year, hhmm and more."""
    lines = [line for line in text.splitlines()[:20] if line.strip()]
    return bool(lines) and all(_ROW.match(line) for line in lines[: max(1, len(lines) - 1)])


class MixedArray:
    """See `LoggerFile`."""

    format = "mixed-array"
    zoned = False

    def __init__(self, path: Readable, description: Description | None = None) -> None:
        self._path = path
        self.tally = Tally()
        self.custom = Stamping()
        self.stamping = Stamping()
        self.questions: tuple[str, ...] = ()
        self.identity = Identity("Campbell Scientific")
        self._maps: dict[int, ArrayMap] = {}
        if description is None:
            self.columns: tuple[Column, ...] = ()
            self.tally.encoding = encoding_of(head(path))
            found = ", ".join(f"{key} with {width} cells" for key, width in _kinds(path).items())
            self.questions = (f"which column is which in arrays {found}? --description FILE (see producers/README.md)",)
            return
        offset = None if description.utc_offset is None else offset_minutes(description.utc_offset)
        self.stamping = Stamping(offset, description.stamp, description.interval_s)
        self.identity = Identity(description.maker or "Campbell Scientific", description.model, description.serial)
        self._maps = {each.id: each for each in description.arrays}
        names = dict.fromkeys(name for each in description.arrays for name in each.columns if name != "skip")
        self.columns = tuple(Column(name) for name in names)

    def chunks(self, wanted: Wanted, *, texts: bool = False) -> Iterator[Chunk]:
        """See `LoggerFile`."""
        if self.questions:
            raise Refused(f"{self._path.name}: {'; '.join(self.questions)}")
        channels = {column.name: channel for column in self.columns if (channel := wanted(column))}
        for block in blocks(self._path):
            self.tally.met(block)
            if block.cut:
                self.tally.trouble(block.first_line, "the last line has no line end: it may be cut and is left out")
                continue
            kinds: dict[int, tuple[list[list[str]], list[int]]] = {}
            for line, row in enumerate(cells(block.lines, ","), block.first_line):
                key = self._key(row, line)
                if key is not None:
                    rows, lines = kinds.setdefault(key, ([], []))
                    rows.append(row)
                    lines.append(line)
            for key, (rows, lines) in kinds.items():
                chunk = self._chunk(self._maps[key], rows, np.array(lines, np.int64), channels)
                if chunk is not None:
                    yield self.tally.take(chunk, table=str(key))
        self.tally.refuse_without_rows(self._path.name)

    def _key(self, row: list[str], line: int) -> int | None:
        if not any(cell.strip() for cell in row):
            return None
        try:
            key = int(float(row[0]))
        except (ValueError, OverflowError):
            self.tally.trouble(line, f"{row[0][:40]!r} is no number of an array")
            return None
        about = self._maps.get(key)
        if about is None:
            self.tally.trouble(line, f"array {key} is not in the description")
            return None
        width = 1 + len(about.time) + len(about.columns)
        if len(row) != width:
            self.tally.trouble(line, f"{len(row)} cells, array {key} has {width}")
            return None
        return key

    def _chunk(self, about: ArrayMap, rows: list[list[str]], lines: Longs, channels: dict[str, str]) -> Chunk | None:
        stamps = np.array([_stamp(row[1:], about.time) for row in rows], np.int64)
        for index in np.flatnonzero(stamps == NOT_A_TIME).tolist():
            said = ",".join(rows[index][1 : 1 + len(about.time)])
            self.tally.trouble(int(lines[index]), f"{said!r} is no {', '.join(about.time)}")
        good = stamps != NOT_A_TIME
        chosen = [(name, at) for at, name in enumerate(about.columns, 1 + len(about.time)) if name in channels]
        values = np.empty((len(rows), len(chosen)))
        missing = MISSING | {word.strip().upper() for word in about.missing}
        for into, (name, at) in enumerate(chosen):
            column = [row[at] for row in rows]
            values[:, into], odd = numbers(column, missing=missing)
            for index in odd:
                if good[index]:
                    self.tally.not_a_number(int(lines[index]), name, column[index])
        if not good.any():
            return None
        return Chunk(tuple(channels[name] for name, _ in chosen), stamps[good], values[good], lines[good])


def _kinds(path: Readable) -> dict[str, int]:
    rows = cells(head(path).decode("latin-1").splitlines()[:-1], ",")
    return {row[0].strip(): len(row) for row in reversed(rows) if row and row[0].strip()}


def _stamp(row: list[str], parts: tuple[str, ...]) -> int:
    """Microseconds; 2400 is the midnight that follows."""
    try:
        said = dict(zip(parts, map(float, row), strict=False))
        whole_year, whole_day, clock = int(said["year"]), int(said["day"]), int(said["hhmm"])
        seconds = said.get("seconds", 0.0)
    except (ValueError, OverflowError):
        return NOT_A_TIME
    hours, minutes = divmod(clock, 100)
    leap = (date(whole_year + 1, 1, 1) - date(whole_year, 1, 1)).days if 1900 <= whole_year < 2200 else 0
    whole = all(float(value).is_integer() for part, value in said.items() if part != "seconds")
    if not whole or not 1 <= whole_day <= leap or not 0 <= minutes < 60 or not 0 <= hours * 60 + minutes <= 1440:
        return NOT_A_TIME
    if not 0 <= seconds < 60 or (hours == 24 and (minutes or seconds)):
        return NOT_A_TIME
    days = (date(whole_year, 1, 1) - date(1970, 1, 1)).days + whole_day - 1
    return days * DAY_US + (hours * 60 + minutes) * 60_000_000 + round(seconds * 1_000_000)
