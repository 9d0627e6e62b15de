"""Campbell TOA5: four header lines, then rows. Knows the format and its traps; knows no zone and no spool.

A logger's stamps are YYYY-MM-DD HH:MM:SS[.f]; spreadsheets and scripts that save a file again leave others.

Line 1: "TOA5", station, model, serial, OS, program, signature, table. Then names, units, statistics. The header comes
again in the middle when LoggerNet reconnects, perhaps with other columns; the last line may be cut while it is written.
"""

from producers.files.date_order import DatedTable
from producers.files.lines import Readable, cells
from producers.files.logger_file import Column, Identity, Kind, Stamping
from producers.files.refusal import RefusedAt
from producers.files.table import Layout
from producers.files.text_table import Header

HEADER_LINES = 4
STAMP_NAMES = frozenset({"TIMESTAMP", "TS"})
MARKS = '\ufeff"'  # what may stand before the first word


def is_toa5(text: str) -> bool:
    """Whether a header starts here."""
    return text.lstrip(MARKS).startswith("TOA5")


def read_environment(lines: list[str], *, name: str, line: int) -> tuple[Identity, tuple[Column, ...], int]:
    """(identity, columns without the stamp, cells in a row) of four header lines. Raises `RefusedAt`."""
    rows = [[cell.strip() for cell in row] for row in cells(lines, ",")]
    if len(rows) < HEADER_LINES:
        raise RefusedAt(name, line, f"the TOA5 header has {len(rows)} lines, expected {HEADER_LINES}")
    environment, names, units, statistics = rows[:HEADER_LINES]
    while names and not names[-1]:  # a spreadsheet pads with commas
        names.pop()
    if not names or names[0].upper() not in STAMP_NAMES:
        raise RefusedAt(name, line + 1, f"the first column must be TIMESTAMP, got {names[0] if names else 'nothing'}")
    if "" in names:
        raise RefusedAt(name, line + 1, f"column {names.index('') + 1} has no name")
    repeated = sorted({each for each in names if names.count(each) > 1})
    if repeated:
        raise RefusedAt(name, line + 1, f"column {repeated[0]!r} is there {names.count(repeated[0])} times")
    for below, what, row in ((2, "units", units), (3, "statistics", statistics)):
        _check_below(row, names, what, name=name, line=line + below)
    environment += [""] * (8 - len(environment))
    width = len(names)
    _, station, model, serial, _, program, signature, table = environment[:8]
    columns = tuple(map(_column, names[1:], units[1:width], statistics[1:width]))
    return Identity("Campbell Scientific", model, serial, station, program, signature, table), columns, width


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
    marks = (b"TOA5",)

    def __init__(self, path: Readable, told: Stamping | None = None) -> None:
        super().__init__(path, told)
        self.stamping = self.zoned_by_stamps(Stamping())

    def read_header(self, lines: list[str], line: int) -> Header | None:
        if len(lines) < HEADER_LINES:
            return None
        identity, columns, width = read_environment(lines[:HEADER_LINES], name=self._path.name, line=line)
        return Header(identity, Layout(columns, tuple(range(1, width)), width), HEADER_LINES)
