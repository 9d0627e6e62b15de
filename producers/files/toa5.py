"""Campbell TOA5: four header lines, then rows. Knows the format and its traps; knows no zone and no spool.

Line 1: "TOA5", station, model, serial, OS, program, signature, table. Then names, units, statistics. The header comes
again in the middle when LoggerNet reconnects, perhaps with other columns; the last line may be cut while it is written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from producers.files.lines import Readable, blocks, cells
from producers.files.logger_file import Chunk, Column, Identity, Kind, Stamping, Tally, Wanted
from producers.files.numbers import NOT_A_TIME, iso_stamps, numbers
from schemas.errors import Refused

HEADER_LINES = 4
STAMP_NAMES = frozenset({"TIMESTAMP", "TS"})
ROWS_SNIFFED = 200  # to tell columns of text


MARKS = '\ufeff"'  # what may stand before the first word


def is_toa5(text: str) -> bool:
    """Whether a header starts here."""
    return text.lstrip(MARKS).startswith("TOA5")


@dataclass(frozen=True, slots=True)
class Header:
    """Four lines of header."""

    identity: Identity
    columns: tuple[Column, ...]  # without the stamp, which is first

    @property
    def width(self) -> int:
        return len(self.columns) + 1


def read_header(lines: list[str], *, name: str, line: int) -> Header:
    """Raises `Refused` where it is none."""
    rows = [[cell.strip() for cell in row] for row in cells(lines, ",")]
    if len(rows) < HEADER_LINES:
        raise Refused(f"{name}, line {line}: the TOA5 header has {len(rows)} lines, expected {HEADER_LINES}")
    environment, names, units, statistics = rows[:HEADER_LINES]
    while names and not names[-1]:  # a spreadsheet pads with commas
        names.pop()
    if not names or names[0].upper() not in STAMP_NAMES:
        raise Refused(
            f"{name}, line {line + 1}: the first column must be TIMESTAMP, got {names[0] if names else 'nothing'}"
        )
    repeated = sorted({each for each in names if names.count(each) > 1})
    if repeated:
        raise Refused(f"{name}, line {line + 1}: column {repeated[0]!r} is there {names.count(repeated[0])} times")
    environment += [""] * (8 - len(environment))
    width = len(names)
    units += [""] * (width - len(units))
    statistics += [""] * (width - len(statistics))
    _, station, model, serial, _, program, signature, table = environment[:8]
    columns = tuple(map(_column, names[1:], units[1:], statistics[1:]))
    return Header(Identity("Campbell Scientific", model, serial, station, program, signature, table), columns)


def _column(name: str, unit: str, statistic: str) -> Column:
    if name.upper() in ("RECORD", "RN"):
        return Column(name, unit, statistic, Kind.RECORD)
    if statistic.upper() in ("TMX", "TMN"):
        return Column(name, unit, statistic, Kind.TIME)
    return Column(name, unit, statistic)


class Toa5:
    """A TOA5 file. See `LoggerFile`."""

    format = "toa5"

    def __init__(self, path: Readable) -> None:
        self._path = path
        self.tally = Tally()
        self.questions: tuple[str, ...] = ()
        self.stamping = Stamping()  # the format does not say
        first = next(blocks(path), None)
        lines = [] if first is None else first.lines
        header = read_header(lines[:HEADER_LINES], name=path.name, line=1)
        self.identity = header.identity
        self.columns = _with_text(header.columns, lines[HEADER_LINES : HEADER_LINES + ROWS_SNIFFED])
        self._texts = {column.name for column in self.columns if column.kind is Kind.TEXT}

    def chunks(self, wanted: Wanted, *, texts: bool = False) -> Iterator[Chunk]:
        """See `LoggerFile`. A row that cannot be read is a problem with its line; the others go on."""
        header: Header | None = None
        pending: list[str] = []  # a header that goes on in the next block
        for block in blocks(self._path):
            self.tally.met(block)
            if block.cut:
                self.tally.trouble(block.first_line, "the last line has no line end: it may be cut and is left out")
                continue
            lines, line = pending + block.lines, block.first_line - len(pending)
            starts = [at for at, text in enumerate(lines) if is_toa5(text[:6])]
            if starts and len(lines) - starts[-1] < HEADER_LINES:
                pending, lines = lines[starts[-1] :], lines[: starts.pop()]
            else:
                pending = []
            for start, stop in pairwise(sorted({0, *starts, len(lines)})):
                rows_from = start
                if start in starts:
                    header = self._next_header(lines[start : start + HEADER_LINES], line + start)
                    rows_from += HEADER_LINES
                if rows_from < stop:
                    yield from self._rows(lines[rows_from:stop], line + rows_from, header, wanted)
        if pending:
            self.tally.trouble(block.first_line, "the file ends inside a header")
        self.tally.refuse_without_rows(self._path.name)

    def _next_header(self, lines: list[str], line: int) -> Header | None:
        """None where it cannot be read: then the rows below it cannot either."""
        try:
            header = read_header(lines, name=self._path.name, line=line)
        except Refused as error:
            self.tally.trouble(line, str(error))
            return None
        self.tally.headers += 1
        known = {column.name for column in self.columns}
        self.columns += tuple(column for column in header.columns if column.name not in known)
        return header

    def _rows(self, lines: list[str], first_line: int, header: Header | None, wanted: Wanted) -> Iterator[Chunk]:
        if header is None:
            self.tally.trouble(first_line, f"{len(lines)} rows below a header that cannot be read are left out")
            return
        rows, numbers_of_lines = self._whole_rows(cells(lines, ","), first_line, header.width)
        if not rows:
            return
        columns = list(zip(*rows, strict=False))
        stamps, doubtful = iso_stamps([cell.strip() for cell in columns[0]])
        for index in doubtful:
            what = f"{rows[index][0]!r} is no time stamp of TOA5 (YYYY-MM-DD HH:MM:SS)"
            self.tally.trouble(int(numbers_of_lines[index]), what)
        good = stamps != NOT_A_TIME
        chosen = [
            (at, channel) for at, column in enumerate(header.columns, 1) if (channel := self._wants(column, wanted))
        ]
        values = np.empty((len(rows), len(chosen)))
        for into, (at, _) in enumerate(chosen):
            values[:, into], odd = numbers(columns[at])
            for index in odd:
                name = header.columns[at - 1].name
                self.tally.trouble(
                    int(numbers_of_lines[index]), f"column {name!r}: {columns[at][index]!r} is no number"
                )
        if good.any():
            channels = tuple(channel for _, channel in chosen)
            yield self.tally.take(Chunk(channels, stamps[good], values[good], numbers_of_lines[good]))

    def _wants(self, column: Column, wanted: Wanted) -> str | None:
        return None if column.kind is not Kind.VALUE or column.name in self._texts else wanted(column)

    def _whole_rows(self, rows: list[list[str]], first_line: int, width: int) -> tuple[list[list[str]], np.ndarray]:
        """Rows with as many cells as the header, and their line numbers; the others are problems."""
        lines = np.arange(first_line, first_line + len(rows))
        if all(len(row) == width for row in rows):
            return rows, lines
        kept, kept_lines = [], []
        for row, line in zip(rows, lines.tolist(), strict=True):
            if len(row) > width and not any(row[width:]):  # padded with commas
                del row[width:]
            if len(row) == width:
                kept.append(row)
                kept_lines.append(line)
            elif any(cell.strip() for cell in row):
                self.tally.trouble(line, f"{len(row)} cells, the header has {width}")
        return kept, np.array(kept_lines, np.int64)


def _with_text(columns: tuple[Column, ...], lines: list[str]) -> tuple[Column, ...]:
    """The same columns, those marked as text of which no cell is a number and one is not missing."""
    rows = [row for row in cells(lines, ",") if len(row) > len(columns)]
    out = []
    for at, column in enumerate(columns, 1):
        values, odd = numbers([row[at] for row in rows])
        text = column.kind is Kind.VALUE and odd and np.isnan(values).all()
        out.append(replace(column, kind=Kind.TEXT) if text else column)
    return tuple(out)
