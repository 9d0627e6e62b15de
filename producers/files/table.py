"""Rows of cells below a heading, as columns: fast where every cell is clean, line by line where one is not.

Knows delimiters, quotes, missing words and widths; knows no maker's header. A block of lines goes through Arrow's CSV
reader when pyarrow is there; what Arrow does not take as it stands is halved until only the lines in question are read
one by one, so that their problems have their line numbers. Both ways give the same values (a test compares them).
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from producers.files.lines import cells, lines_of
from producers.files.logger_file import Chunk, Column, Kind, Tally, Wanted
from producers.files.numbers import MISSING, NOT_A_TIME, codes_of, iso_stamps, numbers
from schemas.columnar import Doubles, Longs

ROWS_SNIFFED = 200  # to tell columns of text
LINES_ONE_BY_ONE = 32  # a piece of so many lines is read one by one when Arrow does not take it
SPREADSHEET_LINES = 16
"""Excel looks at so many lines at a time, from the file's first on, and leaves out delimiters behind the last cell that
one of them fills: all of them are short of the same cells."""

REFUSED_MAX = 14
"""Pieces in a row, of a block, that Arrow did not take: one odd line costs as many as a block can be halved; with more,
a column has something odd in every row, and each further piece would be parsed in vain."""

ARROW_BYTES_MIN = 1 << 20
"""Of a block, to be worth Arrow: its import costs a second and 60 MB, too much for an edge that follows."""

Stamps = Callable[[Sequence[str]], tuple[Longs, list[int]]]
"""Cells to (microseconds, indices of cells that are no stamp)."""


@dataclass(frozen=True)
class Layout:
    """What stands where in a row."""

    columns: tuple[Column, ...]
    places: tuple[int, ...]  # the cell of each column, from 0
    width: int  # cells of a whole row
    stamp_places: tuple[int, ...] = (0,)  # joined with a blank
    delimiter: str = ","
    decimal: str = "."
    missing: frozenset[str] = MISSING
    stamps: Stamps = iso_stamps
    iso: bool = True  # `stamps` reads YYYY-MM-DD HH:MM:SS[.f] and nothing else
    zoned: bool = False  # and every stamp ends with Z
    stamp_form: str = "YYYY-MM-DD HH:MM:SS"
    cells_min: int | None = None  # of a row that may end early, with every measured cell whole; else the width
    exported: bool = False  # in one go by a program, no column comes or goes among the rows, and the first is whole
    skips: Callable[[list[str]], bool] | None = field(default=None)  # rows that are no readings, such as events

    @cached_property
    def missing_words(self) -> list[str]:
        """As Arrow wants them: it knows no capitals."""
        words = {form for word in self.missing for form in (word, word.lower(), word.capitalize())}
        return sorted(words | {"NaN", "-NaN", "nan", "Inf", "-Inf", "inf", "-inf"} if "NAN" in self.missing else words)

    @cached_property
    def codes(self) -> Doubles:
        """Numbers that mean missing."""
        return codes_of(self.missing)

    def with_text(self, lines: list[str]) -> "Layout":
        """The same, with those columns marked as text of whose first cells none is a number."""
        return replace(self, columns=_with_text(self, lines[:ROWS_SNIFFED]))


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which columns of a layout are wanted, under which channel."""

    channels: tuple[str, ...]
    names: tuple[str, ...]
    places: tuple[int, ...]
    texts: tuple[tuple[str, int], ...]


def choose(layout: Layout, wanted: Wanted, *, texts: bool) -> Chosen:
    pairs = list(zip(layout.columns, layout.places, strict=True))
    found = [(channel, c.name, at) for c, at in pairs if c.kind is Kind.VALUE and (channel := wanted(c))]
    text = tuple((c.name, at) for c, at in pairs if texts and c.kind in (Kind.TEXT, Kind.TIME))
    return Chosen(
        tuple(channel for channel, _, _ in found),
        tuple(name for _, name, _ in found),
        tuple(at for _, _, at in found),
        text,
    )


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines of rows."""

    data: bytes  # each with its line end
    first_line: int
    encoding: str

    @property
    def lines(self) -> list[str]:
        return lines_of(self.data, self.encoding)

    def halves(self) -> "tuple[Piece, Piece] | None":
        """None where it is small enough to be read line by line."""
        if self.data.count(b"\n") <= LINES_ONE_BY_ONE:
            return None
        middle = self.data.find(b"\n", len(self.data) // 2) + 1
        line = self.first_line + self.data.count(b"\n", 0, middle)
        while 0 < middle < len(self.data) and (line - 1) % SPREADSHEET_LINES:
            middle, line = self.data.find(b"\n", middle) + 1, line + 1
        if not 0 < middle < len(self.data):
            return None
        return replace(self, data=self.data[:middle]), Piece(self.data[middle:], line, self.encoding)


@lru_cache(maxsize=1)
def _arrow() -> tuple[Any, Any] | None:
    """pyarrow and its CSV reader; None where it is not installed, as at an edge."""
    try:
        pa = import_module("pyarrow")
        return pa, import_module("pyarrow.csv")
    except ImportError:
        return None


def rows(piece: Piece, layout: Layout, chosen: Chosen, tally: Tally) -> Iterator[Chunk]:
    """Chunks of the rows, counted in the tally."""
    arrow = None
    enough = ARROW_BYTES_MIN // 16 if "pyarrow.csv" in sys.modules else ARROW_BYTES_MIN
    if len(piece.data) >= enough and layout.skips is None and ord(layout.delimiter) < 128:
        arrow = _arrow()
    if arrow is not None:
        yield from _Fast(arrow, layout, chosen, tally).chunks(piece)
    elif (chunk := _one_by_one(piece, layout, chosen, tally)) is not None:
        yield tally.take(chunk)


@dataclass(slots=True)
class _Fast:
    """One block's way through Arrow."""

    arrow: tuple[Any, Any]
    layout: Layout
    chosen: Chosen
    tally: Tally
    refused: int = 0  # pieces in a row

    def chunks(self, piece: Piece) -> Iterator[Chunk]:
        chunk = None
        if self.refused < REFUSED_MAX:
            chunk = _by_arrow(self.arrow, piece, self.layout, self.chosen)
            self.refused = self.refused + 1 if chunk is None else 0
            if chunk is None and self.refused < REFUSED_MAX and (halves := piece.halves()):
                for half in halves:
                    yield from self.chunks(half)
                return
        chunk = chunk or _one_by_one(piece, self.layout, self.chosen, self.tally)
        if chunk is not None:
            yield self.tally.take(chunk)


def _by_arrow(arrow: tuple[Any, Any], piece: Piece, layout: Layout, chosen: Chosen) -> Chunk | None:
    """None where anything is not as it should be."""
    pa, pa_csv = arrow
    data = piece.data
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    count = len(ends)
    types = {str(at): pa.float64() for at in chosen.places}
    types |= {str(at): pa.binary() for _, at in chosen.texts}
    stamp_type = (
        pa.timestamp("us", "UTC" if layout.zoned else None)
        if layout.iso and layout.stamp_places == (0,)
        else pa.binary()
    )
    types |= {str(at): stamp_type for at in layout.stamp_places}
    try:
        table = pa_csv.read_csv(
            pa.py_buffer(data),
            read_options=pa_csv.ReadOptions(
                use_threads=False,
                block_size=len(data) + 1,
                column_names=[str(at) for at in range(layout.width)],
            ),
            parse_options=pa_csv.ParseOptions(delimiter=layout.delimiter, ignore_empty_lines=False),
            convert_options=pa_csv.ConvertOptions(
                check_utf8=False,
                column_types=types,
                include_columns=list(types),
                null_values=layout.missing_words,
                decimal_point=layout.decimal,
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError):
        return None
    if table.num_rows != count:
        return None
    if stamp_type != pa.binary() and not _begin_with_minutes(data, ends):
        return None  # Arrow also takes days without a time, as a cut stamp may be
    stamps = _arrow_stamps(pa, table, layout)
    if stamps is None:
        return None
    values = np.empty((len(chosen.places), count)).T  # columns lie together, as Arrow has them
    for into, at in enumerate(chosen.places):
        values[:, into] = table.column(str(at)).to_numpy(zero_copy_only=False)
    if np.isinf(values).any():
        values[np.isinf(values)] = np.nan
    if len(layout.codes):
        values[np.isin(values, layout.codes)] = np.nan
    page = "utf-8" if piece.encoding.startswith("utf") else piece.encoding
    text = {
        name: [each.decode(page, "replace") for each in table.column(str(at)).to_pylist()] for name, at in chosen.texts
    }
    lines = np.arange(piece.first_line, piece.first_line + count)
    return Chunk(chosen.channels, stamps, values, lines, text)


def _begin_with_minutes(data: bytes, ends: Longs) -> bool:
    """Whether every line begins with YYYY-MM-DD HH:MM, perhaps behind a quote."""
    letters = np.frombuffer(data, np.uint8)
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    starts += letters[starts] == ord('"')
    if (ends - starts < len("YYYY-MM-DD HH:MM")).any():
        return False
    marks = {4: b"-", 7: b"-", 13: b":"}
    if ((letters[starts] - ord("1")) > 1).any():  # of a year
        return False
    return all((letters[starts + at] == mark[0]).all() for at, mark in marks.items()) and all(
        ((letters[starts + at] - 48) < 10).all() for at in (11, 12, 14, 15)
    )


def _arrow_stamps(pa: Any, table: Any, layout: Layout) -> Longs | None:
    columns = [table.column(str(at)) for at in layout.stamp_places]
    if any(column.null_count for column in columns):
        return None
    if columns[0].type != pa.binary():
        stamps: Longs = columns[0].cast(pa.int64()).to_numpy()
        return stamps
    found = [column.to_pylist() for column in columns]
    if not all(b"".join(column).isascii() for column in found):
        return None  # what is white space beyond ASCII depends on the page: 0x85 is some in latin-1, none in cp1252
    parts = [[each.decode().strip() for each in column] for column in found]
    stamps, doubtful = layout.stamps([" ".join(row) for row in zip(*parts, strict=True)])
    return None if doubtful else stamps


def _one_by_one(piece: Piece, layout: Layout, chosen: Chosen, tally: Tally) -> Chunk | None:
    kept, numbers_of_lines = _whole_rows(cells(piece.lines, layout.delimiter), piece.first_line, layout, tally)
    if not kept:
        return None
    columns = list(zip(*kept, strict=True))
    texts = [" ".join(columns[at][row].strip() for at in layout.stamp_places) for row in range(len(kept))]
    stamps, doubtful = layout.stamps(texts)
    for index in doubtful:
        tally.trouble(int(numbers_of_lines[index]), f"{texts[index]!r} is no time stamp ({layout.stamp_form})")
    good = stamps != NOT_A_TIME
    values = np.empty((len(kept), len(chosen.places)))
    for into, (name, at) in enumerate(zip(chosen.names, chosen.places, strict=True)):
        column = columns[at]
        if layout.decimal != ".":
            column = tuple(cell.replace(layout.decimal, ".") for cell in column)
        values[:, into], odd = numbers(column, missing=layout.missing)
        for index in odd:
            if good[index]:
                tally.not_a_number(int(numbers_of_lines[index]), name, columns[at][index])
    if not good.any():
        return None
    text = {
        name: [cell for cell, is_good in zip(columns[at], good, strict=True) if is_good] for name, at in chosen.texts
    }
    return Chunk(chosen.channels, stamps[good], values[good], numbers_of_lines[good], text)


def _whole_rows(found: list[list[str]], first_line: int, layout: Layout, tally: Tally) -> tuple[list[list[str]], Longs]:
    """Rows with as many cells as the heading, and their line numbers; the others are problems."""
    width = layout.width
    lines = np.arange(first_line, first_line + len(found))
    if layout.skips is None and all(len(row) == width for row in found):
        return found, lines
    kept, kept_lines = [], []
    if layout.exported:
        _fill_up(found, first_line, layout)
    for row, line in zip(found, lines.tolist(), strict=True):
        if len(row) > width and not any(cell.strip() for cell in row[width:]):  # padded by a spreadsheet
            del row[width:]
        if layout.cells_min is not None and layout.cells_min <= len(row) < width:
            row.extend([""] * (width - len(row)))
        if len(row) == width:
            if layout.skips is None or not layout.skips(row):
                kept.append(row)
                kept_lines.append(line)
        elif any(cell.strip() for cell in row):
            tally.trouble(line, f"{len(row)} cells, the header has {width}")
    return kept, np.array(kept_lines, np.int64)


def _fill_up(found: list[list[str]], first_line: int, layout: Layout) -> None:
    """Rows that a spreadsheet left short: sixteen together, in a file that has whole ones too.

    A row that was cut while it was written is short alone; where every row is, or a logger's program may have changed
    among them, nobody knows of which cell.
    """
    width = layout.width
    for at in range(-(first_line - 1) % SPREADSHEET_LINES, len(found) - SPREADSHEET_LINES + 1, SPREADSHEET_LINES):
        together = found[at : at + SPREADSHEET_LINES]
        cells_of = len(together[0])
        if max(layout.stamp_places) + 1 < cells_of < width and all(len(row) == cells_of for row in together):
            for row in together:
                row.extend([""] * (width - cells_of))


def first_is_whole(below: list[str], delimiter: str, width: int) -> bool:
    """Whether the first row below a heading has all its cells, as a spreadsheet leaves it beside the heading."""
    rows_below = cells([line for line in below[:SPREADSHEET_LINES] if line.strip()], delimiter)
    return bool(rows_below) and len(rows_below[0]) >= width


def is_whole(line: str, before: list[str], delimiter: str) -> bool:
    """Whether a last line without line end is surely not cut.

    Its last cell is a closed quote, or has as many decimals as every row before it: a cut one would have fewer.
    """
    rows_before = [row for row in cells([each for each in before if each.strip()], delimiter) if row]
    row = cells([line], delimiter)[0]
    if len(rows_before) < 3 or any(len(each) != len(row) for each in rows_before):
        return False
    if line.rstrip().endswith('"') and line.count('"') % 2 == 0:
        return True
    decimals = {len(each[-1].strip().partition(".")[2]) for each in [*rows_before, row]}
    return len(decimals) == 1 and decimals != {0} and re.fullmatch(r"[-+]?\d+\.\d+", row[-1].strip()) is not None


def without_last_cell(line: bytes, layout: Layout) -> bytes | None:
    """A last line without line end that has every cell: the last alone may be cut. None where cells are missing."""
    found = _raw_cells(line.decode("latin-1"), layout.delimiter)  # a letter a byte: quotes and delimiters are ASCII
    enough = min(layout.cells_min or layout.width, layout.width) <= len(found) <= layout.width
    if not enough or len(found) - 1 in layout.stamp_places or ord(layout.delimiter) > 127:
        return None
    return line[: len(line) - len(found[-1])]


def decimal_of(found: list[list[str]], first: int, delimiter: str) -> str:
    """How the cells of the first rows, from cell `first` on, write a fraction."""
    if delimiter == ",":
        return "."
    each = [cell for row in found[:ROWS_SNIFFED] for cell in row[first:]]
    commas = sum(bool(re.fullmatch(r"\s*-?\d+,\d+\s*", cell)) for cell in each)
    points = sum(bool(re.fullmatch(r"\s*-?\d+\.\d+\s*", cell)) for cell in each)
    return "," if commas > points else "."


def _raw_cells(line: str, delimiter: str) -> list[str]:
    """With their quotes."""
    if '"' not in line:
        return line.split(delimiter)
    out, at, quoted = [], 0, False
    for index, letter in enumerate(line):
        if letter == '"':
            quoted = not quoted
        elif letter == delimiter and not quoted:
            out.append(line[at:index])
            at = index + 1
    return [*out, line[at:]]


def _with_text(layout: Layout, lines: list[str]) -> tuple[Column, ...]:
    """A column is text where no cell is a number and one is not missing, or where only text stands in quotes.

    Campbell's loggers quote texts, also those of digits such as a serial number, and leave numbers bare.
    """
    plain = [row for row in cells(lines, layout.delimiter) if len(row) > max(layout.places, default=0)]
    raw = [row for line in lines if len(row := _raw_cells(line, layout.delimiter)) > max(layout.places, default=0)]
    of_numbers = (Kind.VALUE, Kind.RECORD)
    numbers_at = [at for column, at in zip(layout.columns, layout.places, strict=True) if column.kind in of_numbers]
    bare = any(_is_bare_number(row[at]) for row in raw for at in numbers_at)
    out = []
    for column, at in zip(layout.columns, layout.places, strict=True):
        if column.kind is Kind.VALUE:
            texts = [row[at] if layout.decimal == "." else row[at].replace(layout.decimal, ".") for row in plain]
            values, odd = numbers(texts, missing=layout.missing)
            quoted = bare and all(_is_quoted_text(row[at], layout.missing) is not False for row in raw)
            said = any(_is_quoted_text(row[at], layout.missing) for row in raw)
            if (odd and np.isnan(values).all()) or (quoted and said):
                column = replace(column, kind=Kind.TEXT)  # noqa: PLW2901 - the same column, known better
        out.append(column)
    return tuple(out)


def _is_bare_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*[-+]?\d[\d.]*(?:[eE][-+]?\d+)?\s*", cell))


def _is_quoted_text(cell: str, missing: frozenset[str]) -> bool | None:
    """None for what is missing, in quotes or not."""
    text = cell.strip()
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    if text.strip('"').strip().upper() in missing:
        return None
    return quoted
