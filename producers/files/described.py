"""Any file of rows and columns that a small TOML describes. Knows the description; knows no maker's format.

delimiter = ","            # "\\t", ";"
header_line = 1            # the line with the names; 0: columns are called by their number
first_line = 2             # of the rows
decimal = "."
missing = ["-999", "NaN"]  # besides an empty cell
utc_offset = "+00:00"
stamp = "begin"            # or "end"
interval_s = 600

[time]
columns = ["Date", "Time"] # joined with a blank
format = "%d/%m/%Y %H:%M"

[[columns]]                # none: every other column under its own name
name = "WS 80"             # or number = 3
channel = "Spd80mN"
unit = "m/s"
statistic = "avg"
"""

import tomllib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from producers.files.lines import Readable, blocks, cells
from producers.files.logger_file import Chunk, Column, Identity, Kind, Stamping, Tally, Wanted
from producers.files.numbers import MISSING, NOT_A_TIME, iso_stamps, micros, numbers
from producers.files.stamps import offset_minutes
from schemas.columnar import Longs
from schemas.errors import Refused

ISO = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeColumns(_Part):
    """Where the stamp is and how it is written (strptime)."""

    columns: Annotated[tuple[str | int, ...], Field(min_length=1)]
    format: str


class DescribedColumn(_Part):
    """A column that is wanted, by name or by number from 1."""

    name: str | None = None
    number: Annotated[int, Field(ge=1)] | None = None
    channel: str | None = None
    unit: str = ""
    statistic: str = ""

    @model_validator(mode="after")
    def _found_somehow(self) -> Self:
        if (self.name is None) == (self.number is None):
            raise ValueError("a column is found by name or by number: give one of them")
        return self


class Description(_Part):
    """The whole TOML."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str | None = None
    header_line: Annotated[int, Field(ge=0)] = 1
    first_line: Annotated[int, Field(ge=1)] = 2
    decimal: Literal[".", ","] = "."
    missing: tuple[str, ...] = ()
    utc_offset: str | None = None
    stamp: Literal["begin", "end"] | None = None
    interval_s: Annotated[float, Field(gt=0)] | None = None
    maker: str = ""
    model: str = ""
    serial: str = ""
    time: TimeColumns
    columns: tuple[DescribedColumn, ...] = ()

    @model_validator(mode="after")
    def _rows_below_names(self) -> Self:
        if self.first_line <= self.header_line:
            raise ValueError(f"first_line = {self.first_line} must come after header_line = {self.header_line}")
        if self.decimal == self.delimiter:
            raise ValueError("decimal and delimiter cannot be the same")
        return self


def read_description(path: Path) -> Description:
    """Raises `Refused` with file and place."""
    try:
        return Description.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise Refused(f"description {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"description {path} is no TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(f"description {path}: {where + ': ' if where else ''}{first['msg']}") from None


class Described:
    """A file read by its description. See `LoggerFile`."""

    format = "described"

    def __init__(self, path: Readable, description: Description) -> None:
        self._path = path
        self._about = description
        self.tally = Tally()
        self.questions: tuple[str, ...] = ()
        self.identity = Identity(description.maker, description.model, description.serial)
        offset = None if description.utc_offset is None else offset_minutes(description.utc_offset)
        self.stamping = Stamping(offset, description.stamp, description.interval_s)
        self._names = self._read_names()
        self._time_at = [self._place(column) for column in description.time.columns]
        self._columns = self._read_columns()
        self.columns = tuple(column for column, _ in self._columns)
        self._missing = MISSING | {word.strip().upper() for word in description.missing}

    def _read_names(self) -> list[str]:
        first = next(blocks(self._path, encoding=self._about.encoding), None)
        lines = [] if first is None else first.lines
        at = self._about.header_line
        if at == 0:
            below = lines[self._about.first_line - 1 :]
            width = len(cells(below[:1], self._about.delimiter)[0]) if below else 0
            return [str(number) for number in range(1, width + 1)]
        if len(lines) < at:
            raise Refused(f"{self._path.name} has {len(lines)} lines; its description wants names in line {at}")
        names = [name.strip() for name in cells(lines[at - 1 : at], self._about.delimiter)[0]]
        while names and not names[-1]:
            names.pop()
        return names

    def _place(self, column: str | int) -> int:
        """Index of a column. Raises `Refused` with what there is."""
        if isinstance(column, int):
            if 1 <= column <= len(self._names):
                return column - 1
        elif self._names.count(column) == 1:
            return self._names.index(column)
        times = self._names.count(str(column))
        raise Refused(
            f"{self._path.name}, line {self._about.header_line}: column {column!r} is there {times} times, "
            f"expected once; there are {', '.join(self._names[:40])}"
        )

    def _read_columns(self) -> list[tuple[Column, int]]:
        if self._about.columns:
            found = [(c, self._place(c.number if c.name is None else c.name)) for c in self._about.columns]  # type: ignore[arg-type]  # one of both is given
            return [(Column(c.channel or self._names[at], c.unit, c.statistic), at) for c, at in found]
        others = [at for at, name in enumerate(self._names) if name and at not in self._time_at]
        repeated = [self._names[at] for at in others if self._names.count(self._names[at]) > 1]
        if repeated:
            raise Refused(f"{self._path.name}: column {repeated[0]!r} is there twice; list [[columns]] by number")
        return [(Column(self._names[at], kind=self._kind(at)), at) for at in others]

    def _kind(self, at: int) -> Kind:
        """Text, where no one of the first rows has a number."""
        first = next(blocks(self._path, encoding=self._about.encoding))
        rows = cells(first.lines[self._about.first_line - 1 :][:200], self._about.delimiter)
        values, odd = numbers([self._plain(row[at]) for row in rows if len(row) > at])
        return Kind.TEXT if odd and np.isnan(values).all() else Kind.VALUE

    def _plain(self, cell: str) -> str:
        return cell.replace(",", ".") if self._about.decimal == "," else cell

    def chunks(self, wanted: Wanted, *, texts: bool = False) -> Iterator[Chunk]:
        """See `LoggerFile`."""
        chosen = [
            (channel, column.name, at)
            for column, at in self._columns
            if column.kind is Kind.VALUE and (channel := wanted(column))
        ]
        channels = tuple(channel for channel, _, _ in chosen)
        for block in blocks(self._path, encoding=self._about.encoding):
            self.tally.met(block)
            if block.cut:
                self.tally.trouble(block.first_line, "the last line has no line end: it may be cut and is left out")
                continue
            skip = max(0, self._about.first_line - block.first_line)
            rows, lines = self._whole_rows(block.lines[skip:], block.first_line + skip)
            if not rows:
                continue
            stamps = self._stamps(rows, lines)
            good = stamps != NOT_A_TIME
            values = np.empty((len(rows), len(chosen)))
            for into, (_, name, at) in enumerate(chosen):
                column = [self._plain(row[at]) for row in rows] if self._about.decimal == "," else [r[at] for r in rows]
                values[:, into], odd = numbers(column, missing=self._missing)
                for index in odd:
                    self.tally.trouble(int(lines[index]), f"column {name!r}: {rows[index][at]!r} is no number")
            if good.any():
                yield self.tally.take(Chunk(channels, stamps[good], values[good], lines[good]))
        self.tally.refuse_without_rows(self._path.name)

    def _whole_rows(self, text: list[str], first_line: int) -> tuple[list[list[str]], Longs]:
        width = 1 + max([*self._time_at, *(at for _, at in self._columns)])
        kept, lines = [], []
        for line, row in enumerate(cells(text, self._about.delimiter), first_line):
            if len(row) >= width:
                kept.append(row)
                lines.append(line)
            elif any(cell.strip() for cell in row):
                self.tally.trouble(line, f"{len(row)} cells, expected {len(self._names)}")
        return kept, np.array(lines, np.int64)

    def _stamps(self, rows: list[list[str]], lines: Longs) -> Longs:
        texts = [" ".join(row[at].strip() for at in self._time_at) for row in rows]
        form = self._about.time.format
        if form in ISO:
            stamps, doubtful = iso_stamps(texts)
        else:
            stamps, doubtful = _stamps(texts, form)
        for index in doubtful:
            self.tally.trouble(int(lines[index]), f"{texts[index]!r} is no time of the form {form!r}")
        return stamps


def _stamps(texts: list[str], form: str) -> tuple[Longs, list[int]]:
    stamps = np.full(len(texts), NOT_A_TIME, np.int64)
    doubtful = []
    for index, text in enumerate(texts):
        try:
            stamps[index] = micros(datetime.strptime(text, form))  # noqa: DTZ007 - zone comes later
        except ValueError:
            doubtful.append(index)
    return stamps, doubtful
