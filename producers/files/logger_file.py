"""What every format of logger file yields. Types only; each format has a module of its own.

A reader never guesses: stamps stay as the file has them (local, without zone), and `stamps.py` makes UTC of them with
what the file itself, its description, the device or an option says.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from producers.files.codes import Codes
from producers.files.lines import Block
from producers.files.order import Order
from producers.files.refusal import RefusedAt
from schemas.columnar import Doubles, Longs

PROBLEMS_KEPT = 1_000  # with their lines; further ones are only counted


class Kind(StrEnum):
    """What a column holds. Only values become readings."""

    VALUE = "value"
    TIME = "time"  # such as the moment of a maximum
    TEXT = "text"
    RECORD = "record"  # the logger's own row number
    UNUSED = "unused"  # a place that the logger fills with nothing


@dataclass(frozen=True, slots=True)
class About:
    """What a header says of one channel's sensor, as far as it does. Numbers as the file has them."""

    serial: str = ""
    description: str = ""
    height_m: float | None = None
    bearing_deg: float | None = None
    scale: float | None = None  # what the logger multiplied with
    offset: float | None = None
    from_stamp: str = ""  # since when that holds, the file's own words


@dataclass(frozen=True, slots=True)
class Column:
    """One column as the file calls it."""

    name: str
    unit: str = ""
    statistic: str = ""
    kind: Kind = Kind.VALUE
    about: About = About()


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
class Change:
    """A header in the middle of the file unlike the one before: another program, other columns."""

    line: int
    identity: Identity
    columns: tuple[Column, ...]
    what: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that could not be taken, and where."""

    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Stamping:
    """How a file's stamps are meant, as far as it says so itself."""

    utc_offset_minutes: int | None = None
    stamp: str | None = None  # "begin" or "end" of the interval
    interval_s: float | None = None
    date_order: str | None = None  # "dmy", "mdy" or "ymd", for formats whose files may have either


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """n rows of c selected columns, as they stand in the file."""

    columns: tuple[str, ...]
    stamps: Longs  # (n,) microseconds since 1970 of the local stamp
    values: Doubles  # (n, c); NaN = missing
    lines: Longs  # (n,) line numbers, from 1; row numbers where a format has no lines
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # n cells of each column of text, if asked for


@dataclass(slots=True)
class Tally:
    """What has been met so far. `missing` counts selected cells without a value."""

    rows: int = 0
    missing: int = 0
    cells_of: Counter[str] = field(default_factory=Counter)  # by channel
    missing_of: Counter[str] = field(default_factory=Counter)  # by channel
    odd_of: Counter[str] = field(default_factory=Counter)  # by column: cells that are no number
    bytes_read: int = 0
    headers: int = 0
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    encoding: str = ""  # a codec's name; empty for binary files
    orders: dict[str, Order] = field(default_factory=dict)  # by table, where a file mixes several
    codes: Codes = field(default_factory=Codes)

    @property
    def repeated(self) -> int:
        """Rows whose stamp was there before."""
        return sum(order.repeated for order in self.orders.values())

    @property
    def out_of_order(self) -> int:
        """Rows whose stamp is earlier than that of the row before."""
        return sum(order.out_of_order for order in self.orders.values())

    @property
    def first_stamp(self) -> int | None:
        """The earliest, local."""
        return min((order.first for order in self.orders.values() if order.first is not None), default=None)

    @property
    def last_stamp(self) -> int | None:
        """The latest, local."""
        return max((order.last for order in self.orders.values() if order.last is not None), default=None)

    def trouble(self, line: int, what: str) -> None:
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(Problem(line, what))

    def not_a_number(self, line: int, column: str, cell: str) -> None:
        """A cell of a value column that is neither a number nor a word for missing: it counts as missing."""
        self.odd_of[column] += 1
        self.trouble(line, f"column {column!r}: {cell!r} is no number")

    @property
    def texts(self) -> set[str]:
        """Channels without one number and with cells that are none: columns of text whose first cells were empty."""
        return {name for name, odd in self.odd_of.items() if odd and self.missing_of[name] == self.cells_of[name]}

    def met(self, block: Block) -> None:
        """A block of text on the way."""
        self.bytes_read = block.bytes_read
        if not self.encoding or block.encoding != "utf-8":
            self.encoding = block.encoding

    def take(self, chunk: Chunk, *, table: str = "") -> Chunk:
        """Count the chunk's rows; every reader passes each of its chunks through here."""
        self.codes.take(chunk.columns, chunk.values, chunk.lines)
        self.rows += len(chunk.stamps)
        for channel in chunk.columns:
            self.cells_of[channel] += len(chunk.stamps)
        for channel, count in zip(chunk.columns, np.isnan(chunk.values).sum(axis=0).tolist(), strict=True):
            if count:
                self.missing_of[channel] += count
                self.missing += count
        self.orders.setdefault(table, Order()).take(chunk.stamps)
        return chunk

    def refuse_without_rows(self, name: str) -> None:
        """Raises `RefusedAt` where there were rows and not one could be read."""
        if not self.rows and self.problem_count:
            first = self.problems[0]
            raise RefusedAt(name, first.line, f"{first.what}; no row of the file could be read")


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
    def zoned(self) -> bool:
        """Whether the stamps in the file are marked as UTC."""
        ...

    @property
    def tally(self) -> Tally: ...
    @property
    def custom(self) -> Stamping:
        """What the maker's loggers always do and the file does not say; configuration and options go before it."""
        ...

    @property
    def questions(self) -> tuple[str, ...]:
        """What must be told before the rows can be read at all, such as the order of day and month; usually nothing."""
        ...

    def chunks(self, wanted: Wanted, *, texts: bool = False) -> Iterator[Chunk]:
        """The rows, some thousands at a time; `Chunk.columns` are channels.

        `texts` asks for the cells of columns of text too. Raises `Refused` for no readable row and for `questions`.
        """
