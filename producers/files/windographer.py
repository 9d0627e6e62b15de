"""Windographer text exports. Knows their header; knows no spool.

`Created DATE by Windographer`, key = value lines, a sentence that tells what stamps mark, then `Date/Time` with the
names of the columns, perhaps a line of units, and the rows. The zone is not in the file.
"""

import re

from producers.files.date_order import DatedTable
from producers.files.lines import Readable, cells
from producers.files.logger_file import Column, Identity, Stamping
from producers.files.numbers import MISSING
from producers.files.refusal import RefusedAt
from producers.files.stamps import offset_minutes
from producers.files.table import Layout, first_is_whole
from producers.files.text_table import Header
from schemas.errors import Refused

HEADING_LINES_MAX = 200
_STAMP_NAMES = ("date/time", "date time", "datetime", "timestamp", "date")
CODES = frozenset({"-999", "-9999"})
"""What Windographer writes for missing where it is told not to leave it empty; no quantity of wind has such a value."""
_UNIT = re.compile(r"(.*\S)\s*[\[(]([^\[\]()]*)[\])]\s*")
_STATISTICS = {
    "sd": "sd",
    "std": "sd",
    "std dev": "sd",
    "min": "min",
    "max": "max",
    "avg": "avg",
    "mean": "avg",
    "gust": "gust",
}


def is_windographer(text: str) -> bool:
    head = text[:2000]
    return "by Windographer" in head.split("\n", 1)[0] or (
        "Time stamps indicate the" in head and "Date/Time" in text[:8000]
    )


class Windographer(DatedTable):
    """See `LoggerFile`."""

    format = "windographer"
    marks = (b"Created ",)

    def __init__(self, path: Readable, told: Stamping | None = None) -> None:
        self._said = Stamping()
        super().__init__(path, told)
        self.stamping = self.zoned_by_stamps(self._said)

    def read_header(self, lines: list[str], line: int) -> Header | None:
        found = next(((at, d) for at, text in enumerate(lines[:HEADING_LINES_MAX]) if (d := _heading(text))), None)
        if found is None:
            if len(lines) < HEADING_LINES_MAX:
                return None
            raise RefusedAt(self._path.name, line, "no line Date/Time with the names of the columns")
        at, delimiter = found
        names = [name.strip() for name in cells([lines[at].rstrip("\r")], delimiter)[0]]
        while names and not names[-1]:
            names.pop()
        repeated = [name for name in names if names.count(name) > 1]
        if repeated or "" in names:
            raise RefusedAt(
                self._path.name, line + at, f"column {(repeated or [''])[0]!r} is there twice or has no name"
            )
        units = self._units(lines[at + 1 : at + 2], delimiter)
        columns = tuple(
            _column(name, unit) for name, unit in zip(names[1:], [*units[1:], *[""] * len(names)], strict=False)
        )
        self._read_sentences(lines[:at])
        layout = Layout(
            columns,
            tuple(range(1, len(names))),
            len(names),
            delimiter=delimiter,
            missing=MISSING | CODES,
            exported=first_is_whole(lines[at + 1 + bool(units) :], delimiter, len(names)),
        )
        return Header(Identity("Windographer"), layout, at + 1 + bool(units))

    def _units(self, below: list[str], delimiter: str) -> list[str]:
        """Of a line of units; empty where there is none."""
        row = [cell.strip().strip("[]()") for cell in cells(below, delimiter)[0]] if below else []
        return row if row and not any(letter.isdigit() for letter in row[0]) and any(row[1:]) else []

    def _read_sentences(self, lines: list[str]) -> None:
        stamp, offset = None, None
        for text in lines:
            words = text.lower()
            if "time stamps indicate" in words:
                stamp = "begin" if "beginning" in words or "start" in words else "end" if "end" in words else None
            zone = re.match(r"\s*time\s?zone\s*[=:]\s*(.+)", text, re.IGNORECASE)
            if zone:
                try:
                    offset = offset_minutes(zone[1])
                except Refused:
                    offset = None  # a name such as Europe/Dublin has summer time: it is asked
        self._said = Stamping(offset, stamp)


def _heading(text: str) -> str | None:
    """The delimiter of the line of names, if it is that."""
    for delimiter in ("\t", ",", ";"):
        name, found, _ = text.lstrip('\ufeff"').partition(delimiter)
        if found and name.strip().strip('"').lower() in _STAMP_NAMES:
            return delimiter
    return None


def _column(name: str, unit: str) -> Column:
    found = _UNIT.fullmatch(name)
    words = (found[1] if found else name).lower()
    statistic = next((said for word, said in _STATISTICS.items() if re.search(rf"[\s_]{word}$", words)), "")
    return Column(name, unit or (found[2].strip() if found else ""), statistic)
