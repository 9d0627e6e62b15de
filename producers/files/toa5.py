"""Campbell TOA5 and TOACI1: header lines, then rows. Knows the formats and their traps; knows no zone and no spool.

A logger's stamps are YYYY-MM-DD HH:MM:SS[.f]; spreadsheets and scripts that save a file again leave others, and tabs or
semicolons for commas.

Line 1: "TOA5", station, model, serial, OS, program, signature, table. Then names, units, statistics. The header comes
again in the middle when LoggerNet reconnects, perhaps with other columns; the last line may be cut while it is written.
TOACI1, LoggerNet's short form, has "TOACI1", station, table in line 1 and names in line 2: no units, no statistics.
"""

import re

from producers.files.date_order import DatedTable
from producers.files.lines import Readable, cells
from producers.files.logger_file import Column, Identity, Kind, Stamping
from producers.files.refusal import RefusedAt
from producers.files.table import ROWS_SNIFFED, Layout, decimal_of
from producers.files.text_table import Header

HEADER_LINES = 4
TOACI1_LINES = 2
STAMP_NAMES = frozenset({"TIMESTAMP", "TS", "TMSTAMP"})
_FIRST_WORD = re.compile(r'[\ufeff"]*TOA(?:5|CI1)"?([,\t;])')
MARKS = '\ufeff"'  # what may stand before the first word


def is_toa5(text: str) -> bool:
    """Whether a header starts here."""
    return text.lstrip(MARKS).startswith("TOA5")


def is_toaci1(text: str) -> bool:
    """Whether a header of the short form starts here."""
    return text.lstrip(MARKS).startswith("TOACI1")


def delimiter_of(line: str) -> str:
    """What follows the first word of a header: a comma, unless a spreadsheet saved the file again."""
    found = _FIRST_WORD.match(line)
    return found[1] if found else ","


def read_environment(lines: list[str], *, name: str, line: int) -> tuple[Identity, tuple[Column, ...], int]:
    """(identity, columns without the stamp, cells in a row) of four header lines. Raises `RefusedAt`."""
    rows = _header_rows(lines)
    if len(rows) < HEADER_LINES:
        raise RefusedAt(name, line, f"the TOA5 header has {len(rows)} lines, expected {HEADER_LINES}")
    environment, names, units, statistics = rows[:HEADER_LINES]
    _check_names(names, name=name, line=line + 1)
    for below, what, row in ((2, "units", units), (3, "statistics", statistics)):
        _check_below(row, names, what, name=name, line=line + below)
    environment += [""] * (8 - len(environment))
    width = len(names)
    _, station, model, serial, _, program, signature, table = environment[:8]
    columns = tuple(map(_column, names[1:], units[1:width], statistics[1:width]))
    return Identity("Campbell Scientific", model, serial, station, program, signature, table), columns, width


def read_short(lines: list[str], *, name: str, line: int) -> tuple[Identity, tuple[Column, ...], int]:
    """The same of the two lines of a TOACI1. Raises `RefusedAt`."""
    environment, names = _header_rows(lines)
    _check_names(names, name=name, line=line + 1)
    station, table = [*environment[1:], "", ""][:2]
    columns = tuple(_column(each, "", "") for each in names[1:])
    return Identity("Campbell Scientific", station=station, table=table), columns, len(names)


def _header_rows(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in row] for row in cells(lines, delimiter_of(lines[0] if lines else ""))]


def _check_names(names: list[str], *, name: str, line: int) -> None:
    """Takes padding off. Raises `RefusedAt`."""
    while names and not names[-1]:  # a spreadsheet pads with commas
        names.pop()
    if not names or names[0].upper() not in STAMP_NAMES:
        got = names[0][:40] if names else "nothing"
        raise RefusedAt(name, line, f"the first column must be TIMESTAMP, got {got}")
    if "" in names:
        raise RefusedAt(name, line, f"column {names.index('') + 1} has no name")
    repeated = sorted({each for each in names if names.count(each) > 1})
    if repeated:
        raise RefusedAt(name, line, f"column {repeated[0]!r} is there {names.count(repeated[0])} times")


def _check_below(row: list[str], names: list[str], what: str, *, name: str, line: int) -> None:
    """A header line that is missing makes rows of data look like one: they would be lost without a word.

    Where one is short of a cell, nobody knows whose it was.
    """
    if any(row[len(names) :]) or len(row) < len(names):
        raise RefusedAt(name, line, f"{len(row)} {what}, but {len(names)} columns")
    if row and row[0].upper() not in ("", "TS", "TIMESTAMP"):
        raise RefusedAt(name, line, f"expected the line of {what}, got one that begins with {row[0][:40]!r}")


def _column(name: str, unit: str, statistic: str) -> Column:
    if unit.upper() == "RN" or (name.upper() in ("RECORD", "RECNBR", "RN") and not unit):
        return Column(name, unit, statistic, Kind.RECORD)
    if statistic.upper() in ("TMX", "TMN"):
        return Column(name, unit, statistic, Kind.TIME)
    return Column(name, unit, statistic)


class Toa5(DatedTable):
    """A TOA5 file. See `LoggerFile`."""

    format = "toa5"
    marks: tuple[bytes, ...] = (b"TOA5",)

    def __init__(self, path: Readable, told: Stamping | None = None) -> None:
        super().__init__(path, told)
        self.stamping = self.zoned_by_stamps(Stamping())

    def read_header(self, lines: list[str], line: int) -> Header | None:
        if len(lines) < HEADER_LINES:
            return None
        identity, columns, width = read_environment(lines[:HEADER_LINES], name=self._path.name, line=line)
        return self._header(identity, columns, width, lines, HEADER_LINES)

    def _header(
        self, identity: Identity, columns: tuple[Column, ...], width: int, lines: list[str], header_lines: int
    ) -> Header:
        delimiter = delimiter_of(lines[0])
        below = cells(lines[header_lines : header_lines + ROWS_SNIFFED], delimiter)
        decimal = decimal_of(below, 1, delimiter)
        layout = Layout(columns, tuple(range(1, width)), width, delimiter=delimiter, decimal=decimal)
        return Header(identity, layout, header_lines)


class Toaci1(Toa5):
    """A TOACI1 file. See `LoggerFile`."""

    format = "toaci1"
    marks = (b"TOACI1",)

    def read_header(self, lines: list[str], line: int) -> Header | None:
        if len(lines) < TOACI1_LINES:
            return None
        identity, columns, width = read_short(lines[:TOACI1_LINES], name=self._path.name, line=line)
        return self._header(identity, columns, width, lines, TOACI1_LINES)


HEADERS = {
    Toa5.format: (Toa5.marks[0], HEADER_LINES, read_environment),
    Toaci1.format: (Toaci1.marks[0], TOACI1_LINES, read_short),
}
"""Of each format: how a header begins, how many lines it has, and what reads them."""
