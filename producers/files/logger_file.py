"""What every format of logger file yields. Types only; each format has a module of its own.

A reader never guesses: stamps stay as the file has them (local, without zone), and `stamps.py` makes UTC of them with
what the file's description, the device or an option says.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from schemas.columnar import Doubles, Longs

PROBLEMS_KEPT = 1_000  # with their lines; further ones are only counted


class Kind(StrEnum):
    """What a column holds. Only values become readings."""

    VALUE = "value"
    TIME = "time"  # such as the moment of a maximum
    TEXT = "text"
    RECORD = "record"  # the logger's own row number


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the file calls it."""

    name: str
    unit: str = ""
    statistic: str = ""
    kind: Kind = Kind.VALUE


@dataclass(frozen=True, slots=True)
class Identity:
    """Who wrote the file, as far as it says so."""

    maker: str = ""
    model: str = ""
    serial: str = ""
    station: str = ""
    program: str = ""
    signature: str = ""
    table: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be taken, and where."""

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Stamping:
    """How a file's stamps are meant, as far as it says so itself."""

    utc_offset_minutes: int | None = None
    stamp: str | None = None
    interval_s: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """n rows of c selected columns, as they stand in the file."""

    columns: tuple[str, ...]
    stamps: Longs  # (n,) microseconds since 1970 of the local stamp
    values: Doubles  # (n, c); NaN = missing
    lines: Longs  # (n,) line numbers, from 1


@dataclass(slots=True)
class Tally:
    """What has been met so far. `missing` counts selected cells."""

    rows: int = 0
    missing: int = 0
    bytes_read: int = 0
    headers: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)

    def trouble(self, line: int, what: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(Problem(line, what))


Wanted = Callable[[Column], str | None]
"""The channel that a value column becomes, or None to leave it out."""


class LoggerFile(Protocol):
    """An opened file of a known format."""

    @property
    def format(self) -> str: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def columns(self) -> tuple[Column, ...]: ...
    @property
    def stamping(self) -> Stamping: ...
    @property
    def tally(self) -> Tally: ...

    def chunks(self, wanted: Wanted) -> Iterator[Chunk]:
        """The rows, some thousands at a time; `Chunk.columns` are channels. Raises `Refused` for no readable row."""
