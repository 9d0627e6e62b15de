"""A logger file that grows, followed by position and content. Knows files and formats; knows no network.

What is read of it is whole lines, under the header that was last above them. The place behind them goes to disk with
their rows: position, and what the file's beginning and the bytes before the position are, so that

- a file that was renamed is found again by what is in it and read to its end, before the new one under its name;
- one that became shorter, or has other bytes there, is read from its start; if somebody copied it first (logrotate's
  copytruncate), the rest of the copy comes before;
- one that is rewritten whole, with more at the end, goes on where it was.
"""

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Literal, Self

import orjson

from infra.printable import storable
from producers.files.codes import Codes
from producers.files.described import Description
from producers.files.logger_file import LoggerFile, Stamping
from producers.files.recognise import GROWING, recognise
from producers.files.stamps import span_of
from producers.files.toa5 import HEADER_LINES, is_toa5
from producers.imports.reading import Import, Repeats, plan
from producers.sources.port import Intake
from producers.spool import FileMark, Rows
from schemas.devices import Device
from schemas.errors import Refused, Unavailable

PIECE_BYTES = 1 << 18  # read at once: bounds memory and what one commit holds
SAMPLE_BYTES = 1024  # of the beginning, and before the position: to know a file again
LINE_BYTES_MAX = 64 * PIECE_BYTES
"""Looked through for the end of a line that is none: a power cut leaves zeros in the midst of a file. More of them are
room that a writer has made for rows to come."""
SIBLINGS_MAX = 1_000  # looked at for one that was renamed

DeviceOf = Callable[[str], Device | None]


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read, and how to know it again."""

    position: int = 0
    line: int = 1  # the number of the line there
    head_bytes: int = 0
    head: str = ""  # digest of so many first bytes
    before: str = ""  # digest of the bytes before the position
    header_at: int = 0  # where the header above the position is
    header_bytes: int = 0

    @classmethod
    def read(cls, text: str | None) -> Self:
        """What was written by `text`; the beginning where there is nothing."""
        return cls(**orjson.loads(text)) if text else cls()

    def text(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    def fits(self, file: IO[bytes]) -> bool:
        """Whether this place is in this file."""
        if os.fstat(file.fileno()).st_size < self.position:
            return False
        return (self.head, self.before) == _samples(file, self.head_bytes, self.position)


def _samples(file: IO[bytes], head_bytes: int, position: int) -> tuple[str, str]:
    start = max(0, position - SAMPLE_BYTES)
    return digest(file, 0, head_bytes), digest(file, start, position - start)


def digest(file: IO[bytes], at: int, size: int) -> str:
    """Of so many bytes; empty of none."""
    part = _read_at(file, at, size)
    return hashlib.sha256(part).hexdigest() if part else ""


def _read_at(file: IO[bytes], at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)


@dataclass(frozen=True, slots=True)
class Piece:
    """A header and lines that stood below it, as if they were a file. See `Readable`."""

    name: str
    suffix: str
    data: bytes

    def is_dir(self) -> bool:
        return False

    def open(self, mode: Literal["rb"], /) -> IO[bytes]:
        return io.BytesIO(self.data)


@dataclass(slots=True)
class Following:
    """See `Source`."""

    path: Path
    device_of: DeviceOf
    told: Stamping = field(default_factory=Stamping)
    description: Description | None = None
    every_s: float = 1.0
    codes: Codes = field(default_factory=Codes)  # met since this began
    _repeats: Repeats = field(default_factory=Repeats)

    def run(self, intake: Intake, stop: threading.Event) -> None:
        place = Place.read(intake.place())
        device = self.device_of(intake.device_id)
        if place.position:
            place = self._finish_elsewhere(place, intake, device, stop)
        while not stop.is_set():
            try:
                file = self.path.open("rb")
            except FileNotFoundError:
                intake.tell(f"{self.path} is not there (yet)")
                stop.wait(self.every_s)
                continue
            except OSError as error:
                raise Unavailable(f"{self.path}: {error.strerror}") from None
            with file:
                place = self._follow(file, place, intake, device, stop)

    def _finish_elsewhere(self, place: Place, intake: Intake, device: Device | None, stop: threading.Event) -> Place:
        """The place to go on at under our path, after the rest of the file that has it, whatever that is called now."""
        for path in (self.path, *self._siblings()):
            with suppress(OSError), path.open("rb") as file:
                if place.fits(file):
                    if path == self.path:
                        return place
                    intake.tell(f"reading the rest of {path.name}, which {self.path.name} was called")
                    for _ in self.pieces(file, place, intake, device):
                        if stop.is_set():
                            return place
                    break
        return Place()

    def _siblings(self) -> list[Path]:
        try:
            with os.scandir(self.path.parent) as entries:
                paths = [Path(entry.path) for entry in entries if entry.is_file()]
        except OSError:
            return []
        near = sorted(paths, key=lambda path: (not path.name.startswith(self.path.stem), path.name))
        return [path for path in near if path != self.path][:SIBLINGS_MAX]

    def _follow(
        self, file: IO[bytes], place: Place, intake: Intake, device: Device | None, stop: threading.Event
    ) -> Place:
        """Until another file has our path, or this one starts anew; the place to go on at then."""
        seen, rotated = (-1, 0), False
        while not stop.is_set():
            state = os.fstat(file.fileno())
            if (state.st_size, state.st_mtime_ns) != seen:
                if not place.fits(file):
                    self._finish_elsewhere(place, intake, device, stop)
                    intake.tell(f"{self.path.name} starts anew")
                    place = Place()
                for after in self.pieces(file, place, intake, device):
                    place = after
                    if stop.is_set():
                        return place
                seen = (state.st_size, state.st_mtime_ns)
            elif rotated:  # and its writer had a moment for its last line
                if os.fstat(file.fileno()).st_size > place.position:
                    intake.odd(f"{self.path.name}, line {place.line}: the last line of the file before has no end")
                return Place()
            with suppress(OSError):  # none there for a moment: the next one is not made yet
                now = self.path.stat()
                rotated = (now.st_dev, now.st_ino) != (state.st_dev, state.st_ino)
            stop.wait(self.every_s)
        return place

    def pieces(self, file: IO[bytes], place: Place, intake: Intake, device: Device | None) -> Iterator[Place]:
        """Hands over all whole lines that are there now, yielding the place after each piece."""
        while True:
            if not place.position:
                place = self._behind_header(file, place)
                if not place.position and self._header_lines:
                    return
            lines = _whole_lines(_read_at(file, place.position, PIECE_BYTES))
            if not lines and (end := _long_line_end(file, place.position)) is not None:
                intake.odd(f"{self.path.name}, line {place.line}: {end - place.position} bytes long, no row")
                place = replace(place, position=end, line=place.line + 1)  # kept with the rows behind it
                continue
            headers = [] if self._layout is not None else _headers(lines)
            if headers[:1] == [0]:  # the file's header comes again, perhaps another one
                size = _size(lines, HEADER_LINES)
                if size is None:
                    return
                above, where = b"", (place.position, size)
                lines = lines[: headers[1]] if headers[1:] else lines
            else:
                above = _read_at(file, place.header_at, place.header_bytes)
                where = (place.header_at, place.header_bytes)
                lines = lines[: headers[0]] if headers else lines
            after = replace(
                place,
                position=place.position + len(lines),
                line=place.line + lines.count(b"\n"),
                header_at=where[0],
                header_bytes=where[1],
            )
            if not lines:
                return
            head_bytes = min(SAMPLE_BYTES, after.position)
            head, before = _samples(file, head_bytes, after.position)
            after = replace(after, head_bytes=head_bytes, head=head, before=before)
            intake.keep(self.rows(above, lines, place.line, intake, device), place=after.text())
            place = after
            yield place

    @property
    def _layout(self) -> Description | None:
        """The description, if it says where columns are."""
        return self.description if self.description is not None and not self.description.only_codes else None

    @property
    def _header_lines(self) -> int:
        return HEADER_LINES if self._layout is None else self._layout.first_line - 1

    def _behind_header(self, file: IO[bytes], place: Place) -> Place:
        """The place below the file's first header, once that is there with a row below it."""
        count = self._header_lines
        start = _whole_lines(_read_at(file, 0, PIECE_BYTES))
        size = _size(start, count)
        if size is None or size == len(start):
            return place
        return replace(place, position=size, line=count + 1, header_bytes=size)

    def rows(self, above: bytes, lines: bytes, line: int, intake: Intake, device: Device | None) -> list[Rows]:
        def opened() -> LoggerFile:
            return recognise(Piece(self.path.name, self.path.suffix, above + lines), self.description)

        file = opened()
        if file.format not in GROWING:
            raise Refused(
                f"{self.path.name} is of the format {file.format}; only TOA5 and described files are followed as they "
                "grow: put whole files where a `folder` source or `telltale import watch` takes them"
            )
        made = plan(
            file,
            name=self.path.name,
            device_id=intake.device_id,
            device=device,
            told=self.told,
            span=lambda: span_of(opened()),
        )
        mark = FileMark("", made.device_id, storable(made.name), file.format, made.options)
        rows: list[Rows] = []
        try:
            for _ in Import(file, made, mark, self._repeats).run(lambda found, _: rows.extend(found)):
                pass
        except Refused:
            if file.tally.rows or not file.tally.problem_count:
                raise  # a question, and not a piece without one good row
        shift = line - 1 - above.count(b"\n")
        for problem in file.tally.problems:
            intake.odd(f"{self.path.name}, line {problem.line + shift}: {problem.what}")
        self.codes.add(file.tally.codes, shift=shift)
        return rows


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _long_line_end(file: IO[bytes], at: int) -> int | None:
    """Behind a line that does not end within a piece; None: it is not that long, or has no end (yet)."""
    for begin in range(at, at + LINE_BYTES_MAX, PIECE_BYTES):
        piece = _read_at(file, begin, PIECE_BYTES)
        if len(piece) < PIECE_BYTES and begin == at:
            return None
        if (found := piece.find(b"\n")) >= 0:
            return begin + found + 1
    return None


def _headers(lines: bytes) -> list[int]:
    """Where TOA5 headers begin."""
    if b"TOA5" not in lines:
        return []
    at, found = 0, []
    for line in lines.split(b"\n")[:-1]:
        if is_toa5(line[:12].decode(errors="replace")):
            found.append(at)
        at += len(line) + 1
    return found


def _size(lines: bytes, count: int) -> int | None:
    """Of so many first lines; None where there are fewer."""
    parts = lines.split(b"\n", count)
    return sum(len(part) + 1 for part in parts[:count]) if len(parts) > count else None
