"""Campbell TOB1 and TOB3: text lines, then binary rows. Knows both layouts; knows no zone and no spool.

TOB1 has five lines and plain rows that carry their own seconds, nanoseconds and record number. TOB3 is a ring on a
card: six lines, then frames of one size. A frame has the time and the number of its first row above its rows, and a
footer below: length of a smaller frame within it, flags, and a stamp that tells frames of this table from what was on
the card before (LoggerNet manual, appendix on data file formats).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt

from producers.files.campbell_types import SECONDS_1990, CellType, cell_type, text_of
from producers.files.lines import Readable, cells
from producers.files.logger_file import Chunk, Column, Identity, Kind, Stamping, Tally, Wanted
from producers.files.refusal import RefusedAt
from schemas.columnar import Longs
from schemas.errors import Refused, Unavailable

ROWS_AT_ONCE_BYTES = 4 << 20
HEADER_LINE_BYTES_MAX = 1 << 16
FRAME_HEAD, FRAME_FOOT = 12, 4
MONTH_US = 31 * 86_400_000_000
TIME_NAMES = ("SECONDS", "NANOSECONDS")
NUMBER_NAMES = ("RECORD", "RECNBR")
_UNITS_NS = {
    "NSEC": 1,
    "USEC": 1_000,
    "MSEC": 1_000_000,
    "SEC": 1_000_000_000,
    "MIN": 60_000_000_000,
    "HR": 3_600_000_000_000,
    "HOUR": 3_600_000_000_000,
    "DAY": 86_400_000_000_000,
}

Raw = np.ndarray[tuple[int], np.dtype[np.void]]


def is_tob(text: str) -> str | None:
    """Which one: TOB1, TOB2, TOB3."""
    word = text.lstrip('\ufeff"')[:4]
    return word if word in ("TOB1", "TOB2", "TOB3") else None


@dataclass(frozen=True, slots=True)
class Fields:
    """The columns of a binary row."""

    columns: tuple[Column, ...]
    types: tuple[CellType, ...]

    @property
    def dtype(self) -> np.dtype[np.void]:
        return np.dtype([(f"f{at}", each.raw) for at, each in enumerate(self.types)])


class _Binary:
    """What both have in common. See `LoggerFile`."""

    format = ""
    zoned = False
    header_lines = 0

    def __init__(self, path: Readable) -> None:
        self._path = path
        self.tally = Tally()
        self.stamping = Stamping()
        self.custom = Stamping()
        self.questions: tuple[str, ...] = ()
        try:
            with path.open("rb") as file:
                lines = [file.readline(HEADER_LINE_BYTES_MAX) for _ in range(self.header_lines)]
                self._start = file.tell()
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror}") from None
        for at, line in enumerate(lines):
            if not line.endswith(b"\n"):
                raise RefusedAt(path.name, at + 1, f"the file ends inside its header of {self.header_lines} lines")
        rows = [[cell.strip() for cell in cells([_text(line)], ",")[0]] for line in lines]
        self._rows = rows
        names, units, statistics, types = rows[-4:]
        self._fields = self._read_fields(names, units, statistics, types)
        dtype = self._fields.dtype
        if not 0 < dtype.itemsize <= 1 << 20:
            raise RefusedAt(path.name, self.header_lines, f"a row of {dtype.itemsize} bytes cannot be")
        self._dtype = dtype
        environment = rows[0] + [""] * 8
        table = environment[7] if self.format == "tob1" else (rows[1] or [""])[0]
        maker = "Campbell Scientific"
        self.identity = Identity(
            maker, environment[2], environment[3], environment[1], environment[5], environment[6], table
        )
        self.columns = self._fields.columns

    def _read_fields(self, names: list[str], units: list[str], statistics: list[str], types: list[str]) -> Fields:
        name, line = self._path.name, self.header_lines - 3
        while types and not types[-1]:
            types.pop()
        if len(names) != len(types) or not names:
            raise RefusedAt(name, line, f"{len(names)} columns, but {len(types)} types in line {self.header_lines}")
        repeated = [each for each in names if names.count(each) > 1]
        if repeated or "" in names:
            raise RefusedAt(
                name, line, f"column {repeated[0]!r} is there twice" if repeated else "a column has no name"
            )
        units, statistics = units + [""] * len(names), statistics + [""] * len(names)
        columns, kinds = [], []
        for at, word in enumerate(types):
            known = cell_type(word)
            if known is None:
                raise RefusedAt(
                    name, self.header_lines, f"column {names[at]!r} is of type {word!r}, which is not known"
                )
            kind = known.kind
            if names[at].upper() in TIME_NAMES and at < 2:
                kind = Kind.TIME
            elif names[at].upper() in NUMBER_NAMES and at < 3:
                kind = Kind.RECORD
            elif kind is Kind.VALUE and statistics[at].upper() in ("TMX", "TMN"):
                kind = Kind.TIME
            columns.append(Column(names[at], units[at], statistics[at], kind))
            kinds.append(known)
        return Fields(tuple(columns), tuple(kinds))

    def _chunk(self, rows: Raw, stamps: Longs, wanted: Wanted, first_row: int, *, texts: bool) -> Chunk:
        chosen = [
            (channel, at)
            for at, column in enumerate(self.columns)
            if column.kind is Kind.VALUE and (channel := wanted(column))
        ]
        values = np.empty((len(rows), len(chosen)))
        for into, (_, at) in enumerate(chosen):
            values[:, into] = self._fields.types[at].read(rows[f"f{at}"])
        text = {
            column.name: text_of(rows[f"f{at}"])
            for at, column in enumerate(self.columns)
            if texts and column.kind is Kind.TEXT
        }
        lines = np.arange(first_row, first_row + len(rows))
        return Chunk(tuple(channel for channel, _ in chosen), stamps, values, lines, text)

    def chunks(self, wanted: Wanted, *, texts: bool = False) -> Iterator[Chunk]:
        """See `LoggerFile`; lines are numbers of rows, as binary files have no lines."""
        row = 1
        try:
            with self._path.open("rb") as file:
                file.seek(self._start)
                for rows, stamps in self._read(file):
                    if len(rows):
                        yield self.tally.take(self._chunk(rows, stamps, wanted, row, texts=texts))
                        row += len(rows)
        except OSError as error:
            raise Unavailable(f"{self._path}: {error.strerror}") from None
        self.tally.refuse_without_rows(self._path.name)

    def _read(self, file: IO[bytes]) -> Iterator[tuple[Raw, Longs]]:
        raise NotImplementedError


class Tob1(_Binary):
    """See `LoggerFile`."""

    format = "tob1"
    header_lines = 5

    def __init__(self, path: Readable) -> None:
        super().__init__(path)
        names = [column.name.upper() for column in self.columns]
        if names[:1] != ["SECONDS"]:
            raise Refused(
                f"{path.name}: its rows carry no time (the first column is {self.columns[0].name!r}, not SECONDS); "
                "convert it to TOA5 with CardConvert, which knows when they were written, and send that"
            )

        names = [*names, "", ""]
        self._fraction = names[1] == "NANOSECONDS"
        self._number = next((at for at in (1, 2) if names[at] in NUMBER_NAMES), None)

    def _read(self, file: IO[bytes]) -> Iterator[tuple[Raw, Longs]]:
        size, row = self._dtype.itemsize, 1
        before: Before | None = None
        while data := file.read(max(1, ROWS_AT_ONCE_BYTES // size) * size):
            self.tally.bytes_read = self._start + row * size
            count, rest = divmod(len(data), size)
            rows = np.frombuffer(data, self._dtype, count)
            stamps = (rows["f0"].astype(np.int64) + SECONDS_1990) * 1_000_000
            wrong = (np.frombuffer(data, np.uint8, count * size).reshape(count, size) == 0).all(axis=1)
            for index in np.flatnonzero(wrong).tolist():
                self.tally.trouble(row + index, "nothing but zeros, as a power cut leaves them")
            if self._fraction:
                stamps += rows["f1"].astype(np.int64) // 1_000
                odd = rows["f1"].astype(np.int64) >= 1_000_000_000
                for index in np.flatnonzero(odd).tolist():
                    self.tally.trouble(row + index, f"{int(rows['f1'][index])} nanoseconds are no part of a second")
                wrong |= odd
            numbers = None if self._number is None else rows[f"f{self._number}"].astype(np.int64)
            for index in strangers(stamps, numbers, wrong, before):
                wrong[index] = True
                self.tally.trouble(row + index, "does not follow the rows about it: bytes are missing or too many here")
            if not wrong.all():
                last = int(np.flatnonzero(~wrong)[-1])
                before = Before(int(stamps[last]), None if numbers is None else int(numbers[last]))
            yield rows[~wrong], stamps[~wrong]
            row += count
            if rest:
                self.tally.trouble(row, f"the last row has {rest} bytes of {size}: it is cut and left out")


@dataclass(frozen=True, slots=True)
class Before:
    """Time and number of the last good row so far."""

    stamp: int
    number: int | None


def strangers(stamps: Longs, numbers: Longs | None, wrong: npt.NDArray[np.bool_], before: Before | None) -> list[int]:
    """Indices of rows, other than the `wrong`, that are surely none: read at the wrong bytes.

    Rows of TOB1 stand one behind the other with nothing between, so that a lost byte shifts all that follow. A row is
    believed whose number is next to a neighbour's (numbers may begin anew and have gaps). Where that cannot be, as in a
    table without numbers or of one that stays 0, or of a single row, it must be within a month of the last believed.
    """
    count = len(stamps)
    if count + (before is not None) < 2:
        return []
    steps = np.full(count + 1, 0 if numbers is None else -1, np.int64)  # from the row above; the last is nobody's
    if numbers is not None:
        steps[1:count] = np.diff(numbers)
        steps[0] = -1 if before is None or before.number is None else numbers[0] - before.number
    numbered = (steps[:-1] == 1) | (steps[1:] == 1)
    if numbered.all():
        return []
    alone = (steps[:-1] == 0) | np.append(True, numbered[:-1]) & np.append(numbered[1:], True)
    last = before.stamp if before else int(stamps[np.argmax(numbered)])
    found = []
    for index in np.flatnonzero(~wrong).tolist():
        near = abs(int(stamps[index]) - last) <= MONTH_US
        if numbered[index] or (alone[index] and near):
            last = int(stamps[index])
        else:
            found.append(index)
    return found


@dataclass(frozen=True, slots=True)
class Frame:
    """A run of rows with one time above it."""

    seconds: int
    parts: int  # of a second, in units of the table's resolution
    data: bytes
    number: int


@dataclass(frozen=True, slots=True)
class Footer:
    """The last four bytes of a frame."""

    length: int  # of the smaller frame that ends here
    empty: bool
    minor: bool  # whether smaller frames are inside
    stamp: int

    @classmethod
    def of(cls, data: bytes) -> "Footer":
        word = int.from_bytes(data[-FRAME_FOOT:], "little")
        return cls(word & 0x7FF, bool(word >> 13 & 1), bool(word >> 14 & 1), word >> 16)

    def stamped(self, *stamps: int) -> bool:
        """The logger writes the table's stamp or, to tell laps of the ring apart, its complement."""
        return any(self.stamp in (stamp, 0xFFFF ^ stamp) for stamp in stamps)


class Tob3(_Binary):
    """See `LoggerFile`."""

    format = "tob3"
    header_lines = 6

    def __init__(self, path: Readable) -> None:
        super().__init__(path)
        about = self._rows[1]
        if len(about) < 6:
            raise RefusedAt(
                path.name, 2, f"{len(about)} cells, expected table, interval, frame size, table size, stamp"
            )
        self._interval_ns = self._duration(about[1])
        self._frame_bytes = self._whole(about[2], "frame size")
        self._stamp = self._whole(about[4], "validation stamp")
        self._part_ns = self._resolution(about[5])
        if not FRAME_HEAD + FRAME_FOOT + self._dtype.itemsize <= self._frame_bytes <= 1 << 22:
            raise RefusedAt(path.name, 2, f"frames of {self._frame_bytes} bytes hold no row of {self._dtype.itemsize}")

    def _whole(self, text: str, what: str) -> int:
        if not text.isdecimal() or len(text) > 12:
            raise RefusedAt(self._path.name, 2, f"{what} {text!r} is no whole number")
        return int(text)

    def _duration(self, text: str) -> int:
        count, _, unit = text.partition(" ")
        if not count.isdecimal() or len(count) > 12 or unit.strip().upper() not in _UNITS_NS:
            raise RefusedAt(self._path.name, 2, f"interval {text!r} is not a number and SEC, MSEC, MIN, HR or DAY")
        return int(count) * _UNITS_NS[unit.strip().upper()]

    def _resolution(self, text: str) -> int:
        """`Sec100Usec`: the second part of a frame's time counts units of 100 microseconds."""
        word = text.strip().upper().removeprefix("SEC")
        digits = word.rstrip("USECMN")
        unit = word[len(digits) :]
        if not digits.isdecimal() or len(digits) > 9 or unit not in ("USEC", "MSEC", "NSEC"):
            raise RefusedAt(self._path.name, 2, f"resolution {text!r} of frame times is not of the form Sec100Usec")
        return int(digits) * _UNITS_NS[unit]

    def _read(self, file: IO[bytes]) -> Iterator[tuple[Raw, Longs]]:
        rows: list[Raw] = []
        stamps: list[Longs] = []
        size = 0
        for frame in self._frames(file):
            count = len(frame.data) // self._dtype.itemsize
            at_ns = (frame.seconds + SECONDS_1990) * 1_000_000_000 + frame.parts * self._part_ns
            rows.append(np.frombuffer(frame.data, self._dtype, count))
            stamps.append((at_ns + np.arange(count, dtype=np.int64) * self._interval_ns) // 1_000)
            size += len(frame.data)
            if size >= ROWS_AT_ONCE_BYTES:
                yield np.concatenate(rows), np.concatenate(stamps)
                rows, stamps, size = [], [], 0
        if rows:
            yield np.concatenate(rows), np.concatenate(stamps)

    def _frames(self, file: IO[bytes]) -> Iterator[Frame]:
        """Frames of this table in file order, smaller ones taken apart; what else is on the card is passed over."""
        done = 0
        while data := file.read(self._frame_bytes):
            done += len(data)
            self.tally.bytes_read = self._start + done
            if len(data) < self._frame_bytes:
                if data.strip(b"\0"):
                    self.tally.trouble(done // self._frame_bytes + 1, "the last frame is cut and left out")
                return
            foot = Footer.of(data)
            if not foot.stamped(self._stamp):
                continue
            if foot.minor:
                yield from self._inside(data[: len(data) - foot.length])
            elif not foot.empty:
                yield self._frame(data)

    def _inside(self, data: bytes) -> list[Frame]:
        """Of a frame that was closed early: the smaller ones in it, one behind the other, each with its footer.

        A new file takes over frames that still carry the stamp of the file before, which is the number below.
        """
        found: list[Frame] = []
        while len(data) >= FRAME_HEAD + FRAME_FOOT:
            foot = Footer.of(data)
            if not FRAME_HEAD + FRAME_FOOT <= foot.length <= len(data):
                break
            if foot.stamped(self._stamp, self._stamp - 1, self._stamp + 1):
                found.append(self._frame(data[-foot.length :]))
            data = data[: -foot.length]
        return found[::-1]

    def _frame(self, data: bytes) -> Frame:
        seconds, parts, number = np.frombuffer(data[:FRAME_HEAD], "<u4").tolist()
        return Frame(seconds, parts, data[FRAME_HEAD:-FRAME_FOOT], number)


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        return line.decode("latin-1").rstrip("\r\n")
