"""Files that are there whole or not at all. Knows paths; knows no format.

Each is written under a name that nobody takes for a result (`.NAME.partial`), put to disk, and renamed at the end. A
lock on it tells a second writer of the same file to stay away; what a killed one left is written over.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRandom, FileIO
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from schemas.errors import Refused, Unavailable

PARTIAL = ".{}.partial"
BUFFER_BYTES = 2**20


class Made(BaseModel):
    """One file of an export."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    bytes: int
    sha256: str


class Outputs:
    """The file that was asked for, and what stands beside it. Open only in `outputs`."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self.path, self._force = path, force
        self._open: dict[Path, BufferedRandom] = {}

    def main(self) -> BufferedRandom:
        """The file itself, empty."""
        return self._begin(self.path)

    def beside(self, name: str) -> BufferedRandom:
        """A file in the same folder."""
        return self._begin(self.path.with_name(name))

    def names(self) -> list[str]:
        return [path.name for path in self._open]

    def _begin(self, path: Path) -> BufferedRandom:
        if path in self._open:  # begun again
            file = self._open[path]
            file.seek(0)
            file.truncate()
            return file
        if path.exists() and not self._force:
            raise Refused(f"{path} is there already; say --force to replace it")
        partial = path.with_name(PARTIAL.format(path.name))
        try:
            number = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise Refused(f"{path}: {error.strerror}") from None
        file = BufferedRandom(FileIO(number, "r+b"), BUFFER_BYTES)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise Refused(f"{path} is being written by another export") from None
        file.truncate()
        self._open[path] = file
        return file

    def finish(self) -> tuple[Made, ...]:
        """All to disk and renamed, the file itself last."""
        made = []
        for path, file in self._open.items():
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            made.append(Made(name=path.name, bytes=os.fstat(file.fileno()).st_size, sha256=digest))
        for path in self._open:
            if path.exists() and not self._force:
                raise Refused(f"{path} was made by somebody else meanwhile; say --force to replace it")
        for path in sorted(self._open, key=lambda each: each == self.path):
            path.with_name(PARTIAL.format(path.name)).replace(path)
        self._close()
        return tuple(sorted(made, key=lambda each: each.name != self.path.name))

    def abandon(self) -> None:
        """Nothing of it is left."""
        for path in self._open:
            path.with_name(PARTIAL.format(path.name)).unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        for file in self._open.values():
            with suppress(OSError):  # what was in its buffer does not fit on the disk
                file.close()
        self._open.clear()


@contextmanager
def outputs(path: Path, *, force: bool) -> Iterator[Outputs]:
    """Raises `Refused` for a place that cannot be written, `Unavailable` for a full disk."""
    if path.is_dir():
        raise Refused(f"{path} is a folder; say a file's name")
    if not path.parent.is_dir():
        raise Refused(f"{path.parent}: no such folder")
    if path.exists() and not force:
        raise Refused(f"{path} is there already; say --force to replace it")
    files = Outputs(path, force=force)
    try:
        yield files
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}; nothing was left there") from error
    finally:
        files.abandon()
