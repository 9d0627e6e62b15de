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
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from producers.files.lines import Readable, cells
from producers.files.logger_file import Column, Identity, Stamping
from producers.files.numbers import MISSING, NOT_A_TIME, iso_stamps, micros
from producers.files.refusal import RefusedAt
from producers.files.stamps import offset_minutes
from producers.files.table import Layout
from producers.files.text_table import Header, TextTable
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


class ArrayMap(_Part):
    """What the cells of one kind of row of a Campbell mixed array are."""

    id: Annotated[int, Field(ge=1, le=9999)]
    time: tuple[Literal["year", "day", "hhmm", "seconds"], ...] = ("year", "day", "hhmm")
    columns: Annotated[tuple[str, ...], Field(min_length=1)]
    missing: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not {"year", "day", "hhmm"} <= set(self.time) or len(set(self.time)) != len(self.time):
            raise ValueError(f"array {self.id}: time needs year, day and hhmm, each once")
        named = [name for name in self.columns if name != "skip"]
        if len(set(named)) != len(named):
            raise ValueError(f"array {self.id}: a column is named twice")
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
    time: TimeColumns | None = None
    columns: tuple[DescribedColumn, ...] = ()
    arrays: tuple[ArrayMap, ...] = ()  # of a Campbell mixed array, instead of time and columns

    @model_validator(mode="after")
    def _rows_below_names(self) -> Self:
        if (self.time is None) == (not self.arrays):
            raise ValueError("give [time] for a file of one kind of rows, or [[arrays]] for a Campbell mixed array")
        if len({each.id for each in self.arrays}) != len(self.arrays):
            raise ValueError("two [[arrays]] have the same id")
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


class Described(TextTable):
    """A file read by its description. See `LoggerFile`."""

    format = "described"

    def __init__(self, path: Readable, description: Description) -> None:
        if description.time is None:
            raise Refused(f"{path.name}: its description has no [time]")
        self._about, self._time = description, description.time
        self.encoding = description.encoding
        super().__init__(path)
        offset = None if description.utc_offset is None else offset_minutes(description.utc_offset)
        self.stamping = Stamping(offset, description.stamp, description.interval_s)

    def read_header(self, lines: list[str], line: int) -> Header | None:
        about = self._about
        if len(lines) < (about.header_line or about.first_line):
            return None
        names = self._names(lines)
        stamp_places = tuple(self._place(column, names) for column in self._time.columns)
        found = self._columns(names, stamp_places)
        form = self._time.format
        width = max(len(names), 1 + max([*stamp_places, *(at for _, at in found)]))
        layout = Layout(
            tuple(column for column, _ in found),
            tuple(at for _, at in found),
            width,
            stamp_places=stamp_places,
            delimiter=about.delimiter,
            decimal=about.decimal,
            missing=MISSING | {word.strip().upper() for word in about.missing},
            stamps=iso_stamps if form in ISO else partial(_stamps, form=form),
            iso=form in ISO,
            stamp_form=form,
            cells_min=1 + max([*stamp_places, *(at for _, at in found)]),
        )
        identity = Identity(about.maker, about.model, about.serial)
        return Header(identity, layout, min(len(lines), about.first_line - 1))

    def _names(self, lines: list[str]) -> list[str]:
        at = self._about.header_line
        if at == 0:
            below = lines[self._about.first_line - 1 :]
            width = len(cells(below[:1], self._about.delimiter)[0]) if below else 0
            return [str(number) for number in range(1, width + 1)]
        names = [name.strip() for name in cells(lines[at - 1 : at], self._about.delimiter)[0]]
        while names and not names[-1]:
            names.pop()
        return names

    def _place(self, column: str | int, names: list[str]) -> int:
        """Index of a column. Raises `RefusedAt` with what there is."""
        if isinstance(column, int):
            if 1 <= column <= len(names):
                return column - 1
        elif names.count(column) == 1:
            return names.index(column)
        times = names.count(str(column))
        raise RefusedAt(
            self._path.name,
            max(1, self._about.header_line),
            f"column {column!r} is there {times} times, expected once; there are {', '.join(names[:40])}",
        )

    def _columns(self, names: list[str], stamp_places: tuple[int, ...]) -> list[tuple[Column, int]]:
        if self._about.columns:
            found = [(c, self._place(c.number if c.name is None else c.name, names)) for c in self._about.columns]  # type: ignore[arg-type]  # one of both is given
            return [(Column(c.channel or names[at], c.unit, c.statistic), at) for c, at in found]
        others = [at for at, name in enumerate(names) if name and at not in stamp_places]
        repeated = [names[at] for at in others if names.count(names[at]) > 1]
        if repeated:
            raise RefusedAt(
                self._path.name,
                max(1, self._about.header_line),
                f"column {repeated[0]!r} is there twice; list [[columns]] by number",
            )
        return [(Column(names[at]), at) for at in others]


def _stamps(texts: Sequence[str], form: str) -> tuple[Longs, list[int]]:
    stamps = np.full(len(texts), NOT_A_TIME, np.int64)
    doubtful = []
    for index, text in enumerate(texts):
        try:
            stamps[index] = micros(datetime.strptime(text, form))  # noqa: DTZ007 - zone comes later
        except ValueError:
            doubtful.append(index)
    return stamps, doubtful
