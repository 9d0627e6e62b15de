"""Any file of rows and columns that a small TOML describes. Knows the description; knows no maker's format.

delimiter = ","            # "\\t", ";"
header_line = 1            # the line with the names; 0: columns are called by their number
first_line = 2             # of the rows
decimal = "."
missing = ["-999", "NaN"]  # besides an empty cell, in every column
utc_offset = "+00:00"
stamp = "begin"            # or "end"
interval_s = 600

[time]
columns = ["Date", "Time"] # joined with a blank
format = "%d/%m/%Y %H:%M"  # strptime's; or "unix", "unix_ms"

[[columns]]                # none: every other column under its own name
name = "WS 80"             # or number = 3
channel = "Spd80mN"
unit = "m/s"
statistic = "avg"
missing = ["7999"]         # numbers, in this column alone

A description with nothing but `missing`, or [[columns]] of names with `missing`, is for files of the known formats.
"""

import re
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from producers.files.codes import Codes
from producers.files.lines import Readable, cells
from producers.files.logger_file import Column, Identity, Stamping
from producers.files.numbers import MISSING, NOT_A_TIME, codes_of, iso_stamps, micros, numbers
from producers.files.refusal import RefusedAt
from producers.files.stamps import offset_minutes
from producers.files.table import Layout, Stamps
from producers.files.text_table import Header, TextTable
from schemas.columnar import Longs
from schemas.errors import Refused

UNIX_US = {"unix": 1_000_000, "unix_ms": 1_000}
UNIX_US_MAX = 7_258_118_400_000_000  # the year 2200: beyond it the unit is another one
ISO = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeColumns(_Part):
    """Where the stamp is and how it is written (strptime)."""

    columns: Annotated[tuple[str | int, ...], Field(min_length=1)]
    format: str

    @model_validator(mode="after")
    def _has_a_year(self) -> Self:
        """Without one, every row would be of 1900."""
        if self.format not in UNIX_US and not any(word in self.format for word in ("%Y", "%y", "%G", "%c", "%x")):
            raise ValueError(f"format {self.format!r} has no year: %Y, %y, or unix or unix_ms for the whole")
        return self


class DescribedColumn(_Part):
    """A column that is wanted, by name or by number from 1."""

    name: str | None = None
    number: Annotated[int, Field(ge=1)] | None = None
    channel: str | None = None
    unit: str = ""
    statistic: str = ""
    missing: tuple[str, ...] = ()  # numbers

    @model_validator(mode="after")
    def _found_somehow(self) -> Self:
        if (self.name is None) == (self.number is None):
            raise ValueError("a column is found by name or by number: give one of them")
        _check_numbers(self.missing, f"of column {self.name or self.number}")
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
        if self.only_codes:
            self._check_codes()
            return self
        if (self.time is None) == (not self.arrays):
            raise ValueError(
                "give [time] for a file of one kind of rows, [[arrays]] for a Campbell mixed array, or nothing but "
                "missing for files of a known format"
            )
        if len({each.id for each in self.arrays}) != len(self.arrays):
            raise ValueError("two [[arrays]] have the same id")
        if self.first_line <= self.header_line:
            raise ValueError(f"first_line = {self.first_line} must come after header_line = {self.header_line}")
        if self.decimal == self.delimiter:
            raise ValueError("decimal and delimiter cannot be the same")
        return self

    @property
    def only_codes(self) -> bool:
        """Whether it says nothing of where columns are: for files of the known formats."""
        return (
            self.time is None and not self.arrays and bool(self.missing or any(each.missing for each in self.columns))
        )

    def _check_codes(self) -> None:
        _check_numbers(self.missing, "of a file of a known format")
        if more := self.model_fields_set - {"missing", "columns"}:
            raise ValueError(
                f"{', '.join(sorted(more))}: without [time] or [[arrays]] a description is for files of a known format "
                "and has missing and [[columns]] alone; what stamps mean is said by options"
            )
        for each in self.columns:
            if each.name is None or not each.missing or each.model_fields_set - {"name", "missing"}:
                raise ValueError("[[columns]] for files of a known format have a name and missing, nothing else")

    def codes(self, names: Sequence[str] = ()) -> Codes:
        """Numbers that are missing beyond those that `missing` says for the whole of a described file. `names`: of its
        columns as the file has been opened, in the order of `columns`."""
        every = codes_of(frozenset(self.missing)) if self.only_codes else np.empty(0)
        called = names or [str(column.name) for column in self.columns]
        each = zip(self.columns, called, strict=False)
        return Codes(every, {name: codes_of(frozenset(column.missing)) for column, name in each if column.missing})


def _check_numbers(words: tuple[str, ...], whose: str) -> None:
    for word in words:
        try:
            float(word)
        except ValueError:
            raise ValueError(f"missing {whose}: {word!r} is no number") from None


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
        if _is_utc(self._time.format):
            if offset:
                raise Refused(
                    f"{path.name}: its stamps tell their offset themselves ({self._time.format}): leave utc_offset out"
                )
            offset = 0
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
            stamps=_reader(form),
            iso=form in ISO,
            zoned=_is_utc(form),
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
        return [name.strip() for name in cells(lines[at - 1 : at], self._about.delimiter)[0]]

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
            f"column {column!r} is there {times} times, expected once; there are {', '.join(filter(None, names[:40]))}",
        )

    def _columns(self, names: list[str], stamp_places: tuple[int, ...]) -> list[tuple[Column, int]]:
        if self._about.columns:
            found = [(c, self._place(c.number if c.name is None else c.name, names)) for c in self._about.columns]  # type: ignore[arg-type]  # one of both is given
            return [(Column(c.channel or names[at] or str(at + 1), c.unit, c.statistic), at) for c, at in found]
        others = [at for at, name in enumerate(names) if name and at not in stamp_places]
        repeated = [names[at] for at in others if names.count(names[at]) > 1]
        if repeated:
            raise RefusedAt(
                self._path.name,
                max(1, self._about.header_line),
                f"column {repeated[0]!r} is there twice; list [[columns]] by number",
            )
        return [(Column(names[at]), at) for at in others]


def _is_utc(form: str) -> bool:
    """Whether stamps of this form say themselves how far they are from UTC; they are read as UTC."""
    return form in UNIX_US or "%z" in form or (form.endswith("Z") and not form.endswith("%Z"))


def _reader(form: str) -> Stamps:
    if form in UNIX_US:
        return partial(_unix, unit_us=UNIX_US[form])
    return iso_stamps if form in ISO else partial(_stamps, form=form)


def _unix(texts: Sequence[str], unit_us: int) -> tuple[Longs, list[int]]:
    counts, _ = numbers(texts)
    good = (counts >= 0) & (counts < UNIX_US_MAX / unit_us)
    stamps = np.full(len(texts), NOT_A_TIME, np.int64)
    stamps[good] = np.rint(counts[good] * unit_us).astype(np.int64)
    return stamps, np.flatnonzero(~good).tolist()


def _stamps(texts: Sequence[str], form: str) -> tuple[Longs, list[int]]:
    stamps = np.full(len(texts), NOT_A_TIME, np.int64)
    doubtful = []
    for index, text in enumerate(texts):
        try:
            try:
                at = datetime.strptime(text, form)  # noqa: DTZ007 - zone comes later
            except ValueError:
                at = _as_loggers_write(text, form)
            stamps[index] = micros(at if at.tzinfo is None else at.astimezone(UTC))
        except (ValueError, OverflowError):  # the last one: of the year 1 or 9999
            doubtful.append(index)
    return stamps, doubtful


_HALF = re.compile(r"(?<![^\W\d_])([ap])\.?\s?(?:m\.?)?(?![^\W_])", re.IGNORECASE)
_DAYS_END = re.compile(r"(?<!\d)24:00(:00(?:\.0+)?)?(?![\d:])|(?<!\d)2400(00)?(?!\d)")


def _as_loggers_write(text: str, form: str) -> datetime:
    """What strptime does not take: `12:10a` and `a.m.` for %p, and 24:00, the day's end. Raises `ValueError`."""
    end = None
    if "%p" in form:
        text = _HALF.sub(r"\1m", text)
    elif "%H:%M" in form or "%H%M" in form:
        end = _DAYS_END.search(text)
        text = text if end is None else text[: end.start()] + end[0].replace("24", "00", 1) + text[end.end() :]
    at = datetime.strptime(text, form)  # noqa: DTZ007 - zone comes later
    if end is not None and (at.hour or at.minute or at.second or at.microsecond):
        raise ValueError("24:00 is the day's end and no other time")
    return at if end is None else at + timedelta(days=1)
