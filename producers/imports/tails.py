"""Files of a watched folder that grow: which is which, and how far each was read. Knows files and formats; no network.

A file is known again by its inode while it lasts, else by its content: its beginning, and the bytes before the place up
to which it was read. So it goes on where it was after it was renamed, rotated, copied and truncated, sent anew, or
written again with more at its end; one that has other bytes there is another file.
"""

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from infra.printable import storable
from producers.files.described import Description
from producers.files.logger_file import LoggerFile, Stamping
from producers.files.recognise import GROWING, recognise
from producers.imports.archive import PIECE_BYTES, Archive
from producers.sources.following import SAMPLE_BYTES, Following, Piece, Place, digest
from producers.spool import Rows
from schemas.devices import Device
from schemas.errors import Refused

PREFIX = "watch/"
OPEN_MAX = 32  # files of which repeated rows are remembered

Inode = tuple[int, int]


@dataclass(slots=True)
class Tail:
    """One file that grows."""

    key: str
    path: str
    inode: Inode
    place: Place = field(default_factory=Place)
    device_id: str | None = None
    archived: int = 0  # bytes of it in the archive
    state: tuple[int, int] = (-1, 0)  # size and time of change when it was last read to its end
    first_us: int | None = None  # of its rows so far
    last_us: int | None = None
    problems: int = 0
    told: str | None = None  # why it waits, as last told

    @property
    def source(self) -> str:
        """Its name in the spool."""
        return PREFIX + self.key

    def text(self, place: Place) -> str:
        """What is committed with its rows."""
        about = {
            "path": storable(self.path),
            "inode": self.inode,
            "device_id": self.device_id,
            "first_us": self.first_us,
            "last_us": self.last_us,
            "problems": self.problems,
            "place": place.text(),
        }
        return orjson.dumps(about).decode()

    @classmethod
    def read(cls, key: str, text: str) -> "Tail":
        """What was written by `text`."""
        said = orjson.loads(text)
        device, number = said.pop("inode")
        return cls(key, inode=(device, number), **(said | {"place": Place.read(said["place"])}))

    def span(self, first_us: int, last_us: int) -> None:
        """Rows of this time have come."""
        self.first_us = first_us if self.first_us is None else min(self.first_us, first_us)
        self.last_us = last_us if self.last_us is None else max(self.last_us, last_us)


def new_key() -> str:
    """Looks like a hash, and is one of nothing: what a growing file's hash will be, nobody knows yet."""
    return hashlib.sha256(secrets.token_bytes(32)).hexdigest()


class Tails:
    """All of them, found by inode and by content."""

    def __init__(self, places: dict[str, str]) -> None:
        self.all: dict[str, Tail] = {}
        self._by_inode: dict[Inode, Tail] = {}
        # By the file's beginning, the place's position, and the bytes before it: a look at a new file costs a digest
        # for each position, and not one for each file.
        self._by_place: dict[tuple[int, str], dict[int, dict[str, Tail]]] = {}
        for source, text in places.items():
            self.add(Tail.read(source.removeprefix(PREFIX), text))

    def add(self, tail: Tail) -> None:
        self.all[tail.key] = tail
        self._by_inode[tail.inode] = tail
        self.moved(tail, tail.place)

    def of(self, path: Path, file: IO[bytes], *, there: Callable[[Inode], bool]) -> Tail:
        """The file's, or a new one. `there` says whether an inode is still in the folder."""
        about = os.fstat(file.fileno())
        inode = (about.st_dev, about.st_ino)
        known = self._by_inode.get(inode)
        if known is not None and known.place.fits(file):
            known.path = str(path)
            return known
        older = self._with_content(file, but=known)
        if older is not None and not there(older.inode):  # renamed across folders, or written again under its name
            self._by_inode.pop(older.inode, None)
            older.inode, older.path = inode, str(path)
            self._by_inode[inode] = older
            return older
        tail = Tail(new_key(), str(path), inode)
        if older is not None:  # a copy: what was read of the other one need not be read again
            tail.place, tail.device_id, tail.archived = older.place, older.device_id, -1
        self.add(tail)
        return tail

    def moved(self, tail: Tail, place: Place) -> None:
        """A tail was read on to there."""
        self._unplace(tail)
        tail.place = place
        self._by_place.setdefault((place.head_bytes, place.head), {}).setdefault(place.position, {})[place.before] = (
            tail
        )

    def _unplace(self, tail: Tail) -> None:
        place = tail.place
        positions = self._by_place.get((place.head_bytes, place.head), {})
        at = positions.get(place.position, {})
        if at.get(place.before) is tail:
            del at[place.before]
            if not at:
                del positions[place.position]

    def _with_content(self, file: IO[bytes], *, but: Tail | None) -> Tail | None:
        """The tail whose place is in this file; of several the furthest."""
        size = os.fstat(file.fileno()).st_size
        heads: dict[int, str] = {}
        found: Tail | None = None
        for (head_bytes, head), positions in self._by_place.items():
            if head_bytes not in heads:
                heads[head_bytes] = digest(file, 0, head_bytes)
            if heads[head_bytes] != head:
                continue
            for position, tails in positions.items():
                further = found is None or position > found.place.position
                if not tails or not 0 < position <= size or not further:
                    continue
                start = max(0, position - SAMPLE_BYTES)
                tail = tails.get(digest(file, start, position - start))
                if tail is not None and tail is not but:
                    found = tail
        return found


def grows(path: Path, first: bytes, description: Description | None) -> bool:
    """Whether files of its kind grow; a header that is not whole yet is one of those."""
    if description is not None and not description.only_codes:
        return True
    if first.lstrip(b'\xef\xbb\xbf"').startswith(b"TOA5"):
        return True
    try:
        return recognise(Piece(path.name, path.suffix, first)).format in GROWING
    except Refused:
        return False


class Waits(Refused):
    """The file's next rows cannot be taken yet: what its status becomes."""

    def __init__(self, update: dict[str, Any]) -> None:
        super().__init__(str(update.get("reason")))
        self.update = update


Identified = Callable[[LoggerFile], Device]
"""The device of a header's logger; raises `Waits`."""


@dataclass(slots=True)
class Reading(Following):
    """Reads on in one file; each header is looked at before the rows below it are taken."""

    identified: Identified = field(kw_only=True)

    def rows(self, above: bytes, lines: bytes, line: int, intake: Any, device: Device | None) -> list[Rows]:
        file = recognise(Piece(self.path.name, self.path.suffix, above + lines), self.description, told=self.told)
        device = self.identified(file)
        intake.device_id = device.device_id
        return Following.rows(self, above, lines, line, intake, device)


@dataclass(slots=True)
class Intake:
    """Where a tail's rows go: first their bytes to the archive, then rows and place to the spool, in one commit."""

    tail: Tail
    file: IO[bytes]
    archive: Archive
    accept: Callable[[Tail, list[Rows], Place], None]
    moved: Callable[[Tail, Place], None]
    device_id: str = ""

    def keep(self, rows: list[Rows], *, place: str | None = None) -> None:
        after = Place.read(place)
        while 0 <= self.tail.archived < after.position:  # a copy that begins anew is as long as the file
            self.file.seek(self.tail.archived)
            piece = self.file.read(min(PIECE_BYTES, after.position - self.tail.archived))
            if not piece:  # cut short just now: the next look sees it
                break
            self.archive.grow(self.tail.key, piece, at=self.tail.archived)
            self.tail.archived += len(piece)
        self.tail.device_id = self.device_id
        self.accept(self.tail, rows, after)
        self.moved(self.tail, after)

    def odd(self, what: str) -> None:
        self.tail.problems += 1

    def offer(self, rows: list[Rows]) -> None:
        raise NotImplementedError

    def count(self, readings: int) -> None:
        pass

    def tell(self, what: str) -> None:
        pass

    def place(self) -> str | None:
        return None


def reading_of(tail: Tail, *, description: Description | None, told: Stamping, identified: Identified) -> Reading:
    return Reading(Path(tail.path), lambda _: None, told, description, identified=identified)


def gone(tails: Iterable[Tail], there: Callable[[Inode], bool]) -> list[Tail]:
    """Those whose file is not in the folder any more."""
    return [tail for tail in tails if not there(tail.inode)]
