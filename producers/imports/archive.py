"""Raw files as they came, by the hash of their content. Knows a folder; knows no format.

A file is written beside its place, synced, and then given its name: what has a name is whole. Of a file that grows, the
part that was read is kept under `growing/`, and gets its hash when it grows no more.
"""

import hashlib
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from producers.imports.unpacking import Found, copy
from producers.spool import DiskTrouble
from schemas.errors import Refused

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Kept:
    """A raw file in the archive."""

    sha256: str
    size: int
    path: Path
    name: str  # as people know it

    # It can be read as a logger file: see `producers.files.lines.Readable`.

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    def is_dir(self) -> bool:
        return False

    def open(self, mode: str = "rb", /) -> IO[bytes]:
        return self.path.open("rb")

    def __str__(self) -> str:
        return self.name


class _Into:
    """A file that is written to: what fails there is not the fault of the file that is read."""

    def __init__(self, file: IO[bytes], folder: Path) -> None:
        self._file, self._folder = file, folder

    def write(self, piece: bytes) -> None:
        try:
            self._file.write(piece)
        except OSError as error:
            raise DiskTrouble(f"archive {self._folder}: {error.strerror}") from None


class Archive:
    """Raises `DiskTrouble` where its folder cannot be written; nothing half written stays there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, found: Found, *, password: str | None = None) -> Kept:
        """The unpacked content of a file. Raises `Refused`, `Unavailable` as `unpacking.copy` does."""
        coming = self._coming()
        digest = hashlib.sha256()
        try:
            with coming.open("xb") as into:
                size = copy(found, _Into(into, self.folder), password=password, told=digest.update)
                into.flush()
                os.fsync(into.fileno())
            return Kept(digest.hexdigest(), size, self._named(coming, digest.hexdigest()), found.name)
        except OSError as error:
            raise DiskTrouble(f"archive {self.folder}: {error.strerror}") from None
        finally:
            with suppress(OSError):
                coming.unlink(missing_ok=True)

    def grow(self, key: str, data: bytes, *, at: int) -> None:
        """Bytes of a file that grows, from a position on; what was there already stays as it is."""
        path = self.growing(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as into:
                have = into.tell()
                if have < at:
                    raise Refused(f"archive {path} has {have} bytes, and those up to {at} are missing")
                into.write(data[have - at :])
                into.flush()
                os.fsync(into.fileno())
        except OSError as error:
            raise DiskTrouble(f"archive {self.folder}: {error.strerror}") from None

    def finish(self, key: str) -> Kept | None:
        """A file that grows no more gets its name. None where nothing of it was kept."""
        path = self.growing(key)
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
            return Kept(sha256, size, self._named(path, sha256), path.name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DiskTrouble(f"archive {self.folder}: {error.strerror}") from None

    def growing(self, key: str) -> Path:
        return self.folder / "growing" / key

    def path_of(self, link: str) -> Path:
        """Of a link that a status has."""
        return self.folder / link

    def link_of(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def find(self, beginning: str) -> Kept:
        """By a hash or its beginning. Raises `Refused` where there is none, or several."""
        found = sorted(self.folder.glob(f"{beginning[:2]}/{beginning}*")) if len(beginning) >= 4 else []
        if len(found) != 1:
            raise Refused(f"the archive {self.folder} has {len(found)} files whose hash begins with {beginning!r}")
        return Kept(found[0].name, found[0].stat().st_size, found[0], found[0].name[:12])

    def _coming(self) -> Path:
        try:
            (self.folder / "coming").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DiskTrouble(f"archive {self.folder}: {error.strerror}") from None
        return self.folder / "coming" / secrets.token_hex(8)

    def _named(self, coming: Path, sha256: str) -> Path:
        path = self.folder / sha256[:2] / sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            coming.unlink()
        else:
            coming.replace(path)
        return path
