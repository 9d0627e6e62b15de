"""Uploads: written into the folder that the import service watches. Knows the folder's layout; reads no file's content.

    incoming/.coming-RANDOM            while it comes; removed however that ends, and when it is old
    incoming/WHO/SHA256[:16]/NAME      once it is whole
    incoming/WHO/SHA256[:16]/.NAME.json  what is said of it: device, zone, ...; written again, it is an answer

Nothing here is executed, unpacked or parsed: that is the import service's, with bounds of its own.
"""

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import orjson

from infra.room import check_room
from schemas.errors import Refused, Unavailable

NAME_LENGTH_MAX = 150
LEFT_S = 24 * 3600.0
"""What came in pieces and is older than this is nobody's any more: a process was killed."""


def plain_name(name: str) -> str:
    """The name as it is, if it is only a name. Raises `Refused`."""
    bad = not name or name.startswith(".") or len(name.encode(errors="replace")) > NAME_LENGTH_MAX
    if bad or not name.isprintable() or any(each in name for each in '/\\:*?"<>|'):
        raise Refused(f'name "{name[:80]}": expected a file name of at most {NAME_LENGTH_MAX} bytes, without folders')
    return name


class Upload:
    """One file that comes piece by piece. Use as a context: what is not finished is removed."""

    def __init__(self, incoming: Path, *, bytes_max: int) -> None:
        self._incoming, self._bytes_max = incoming, bytes_max
        self._digest, self.bytes = hashlib.sha256(), 0
        try:
            incoming.mkdir(parents=True, exist_ok=True)
            self._coming = incoming / f".coming-{secrets.token_hex(8)}"
            self._file = _made(self._coming)
        except OSError as error:
            raise Unavailable(f"uploads cannot be taken: {error.strerror}") from None

    def __enter__(self) -> "Upload":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._file.close()
        self._coming.unlink(missing_ok=True)

    def check_room(self, announced: int | None) -> None:
        """Raises `Refused` for what is announced as too large, `Unavailable` where the disk has no room for it."""
        if announced is not None and announced > self._bytes_max:
            raise Refused(f"{announced:,} bytes are announced, and {self._bytes_max:,} are the most in one file")
        check_room(self._incoming, wanted_bytes=announced or 0)

    def write(self, piece: bytes) -> None:
        """Raises `Refused` where it becomes too large, `Unavailable` where the disk is full."""
        self.bytes += len(piece)
        if self.bytes > self._bytes_max:
            raise Refused(f"more than {self._bytes_max:,} bytes, the most in one file")
        try:
            self._file.write(piece)
        except OSError as error:
            raise Unavailable(f"the upload cannot be kept: {error.strerror}") from None
        self._digest.update(piece)

    def finish(self, *, who: str, name: str, said: dict[str, Any]) -> str:
        """The file is whole: from here the import service has it. Its SHA-256. Raises `Refused`, `Unavailable`."""
        if self.bytes == 0:
            raise Refused("the file is empty")
        sha256 = self._digest.hexdigest()
        place = self._incoming / folder_name(who) / sha256[:16]
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            place.mkdir(parents=True, exist_ok=True)
            if said:
                _write(place / f".{name}.json", said)
            self._coming.replace(place / name)
        except OSError as error:
            raise Unavailable(f"the upload cannot be kept: {error.strerror}") from None
        return sha256


def folder_name(who: str) -> str:
    """Who has uploaded it, as a folder's name."""
    return re.sub(r"[^A-Za-z0-9@_-]+", "_", who).strip("_")[:64] or "somebody"


def tell(incoming: Path, source: str, said: dict[str, Any]) -> Path:
    """Says more of a file that waits; it is tried again. Raises `Refused` where it waits not here, `Unavailable`."""
    path = _whole(source)
    if path is None or not path.resolve().is_relative_to(incoming.resolve()):
        raise Refused("this file does not wait here for an answer: it was not uploaded, or it is through")
    beside = path.with_name(f".{path.name}.json")
    with suppress(OSError, ValueError):
        said = orjson.loads(beside.read_bytes()) | said
    try:
        _write(beside, said)
    except OSError as error:
        raise Unavailable(f"the answer cannot be kept: {error.strerror}") from None
    return path


def _whole(source: str) -> Path | None:
    """The file on disk that a status speaks of: of an archive's member, ARCHIVE!MEMBER, the archive."""
    while source:
        with suppress(OSError):  # a member's name may be longer than any file's
            if Path(source).is_file():
                return Path(source)
        source = source.rpartition("!")[0]
    return None


def sweep(incoming: Path) -> None:
    """Removes what a killed process has left, and folders that are empty."""
    if not incoming.is_dir():
        return
    for path in incoming.glob(".coming-*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > LEFT_S:
                path.unlink()
    for folder in _folders(incoming):
        with suppress(OSError):  # not empty
            folder.rmdir()


def _folders(incoming: Path) -> Iterator[Path]:
    for who in incoming.iterdir():
        if who.is_dir():
            yield from (each for each in who.iterdir() if each.is_dir())


def _made(path: Path) -> IO[bytes]:
    """A new file for us and the import service, which may run as another user of our group. It may hold a password."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "wb")


def _write(path: Path, said: dict[str, Any]) -> None:
    coming = path.with_name(f".coming-{secrets.token_hex(8)}")
    try:
        with _made(coming) as file:
            file.write(orjson.dumps(said))
        coming.replace(path)
    finally:
        coming.unlink(missing_ok=True)
