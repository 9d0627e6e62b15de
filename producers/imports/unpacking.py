"""What is in a file that may be compressed, or an archive of many. Knows gzip, xz, bzip2 and zip; knows no format.

Everything is unpacked as a stream and counted: what grows beyond its bounds is refused, whatever its headers announce.
An archive in an archive is refused by name.
"""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from infra.printable import storable
from schemas.errors import Refused, Unavailable

UNPACKED_BYTES_MAX = 4 << 30  # of one member; a logger's table of a year is 0.1 % of it
MEMBERS_MAX = 20_000
RATIO_MAX = 500  # text of numbers shrinks to a tenth, one that never changes to a hundredth
RATIO_FROM_BYTES = 64 << 20  # below it a large ratio is harmless
PIECE_BYTES = 1 << 20

MAGIC = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"BZh": "bzip2", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip"}
_OPEN: dict[str, Any] = {"gzip": gzip.open, "xz": lzma.open, "bzip2": bz2.open}
BROKEN = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, OSError, ValueError)


class NeedsPassword(Refused):
    """The archive is locked, and no password was given, or not the right one."""


class Sink(Protocol):
    """Where unpacked content goes."""

    def write(self, piece: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class Found:
    """A file to be read: a plain one, a compressed one, or a member of an archive."""

    path: Path
    member: str | None = None  # in a zip archive
    label: str | None = None  # where it was found first, if this is the archived copy

    @property
    def name(self) -> str:
        """File name, without folders and without what compression put behind it."""
        name = Path((self.label or self.member or self.path.name).rpartition("!")[2]).name
        for suffix in (".gz", ".xz", ".bz2"):
            name = name.removesuffix(suffix)
        return storable(name)

    @property
    def source(self) -> str:
        """For people, and for reading it again."""
        if self.label is not None:
            return storable(self.label)
        where = str(self.path.absolute())
        return storable(f"{where}!{self.member}" if self.member else where)


def packing(first: bytes) -> str | None:
    """How a file is packed, by its first bytes."""
    return next((kind for magic, kind in MAGIC.items() if first.startswith(magic)), None)


def first_bytes(path: Path, size: int = 512) -> bytes:
    """Raises `Unavailable`."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None


def members(path: Path) -> list[Found]:
    """What is to be read of a file. Raises `Refused` for an archive that is none, `Unavailable`."""
    if packing(first_bytes(path)) != "zip":
        return [Found(path)]
    with _zip(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir() and not _is_litter(info.filename)]
    names = [info.filename for info in infos]
    if "[Content_Types].xml" in names:
        return [Found(path)]  # a workbook: it is refused by its own name
    if not names:
        raise Refused(f"{path.name} is a zip archive without files")
    if len(names) > MEMBERS_MAX:
        raise Refused(
            f"{path.name} has {len(names):,} members, more than {MEMBERS_MAX:,}: unpack it and import folders"
        )
    if len(set(names)) != len(names):
        raise Refused(f"{path.name} has several members of one name: unpack it and import the folder")
    return [Found(path, name) for name in names]


def _is_litter(name: str) -> bool:
    """What macOS and editors put beside files."""
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1].startswith(".")


@contextmanager
def _zip(path: Path) -> Iterator[Any]:
    import pyzipper  # noqa: PLC0415 - an edge without the extra `files` has none, and needs none

    try:
        with pyzipper.AESZipFile(path) as archive:
            yield archive
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from None
    except (pyzipper.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise Refused(f"{path.name} is no zip archive that can be opened: {error}") from None


def copy(found: Found, into: Sink, *, password: str | None = None, told: Callable[[bytes], None]) -> int:
    """The unpacked content into a file, and each piece to `told`; its size.

    Raises `Refused` where it is broken, locked (`NeedsPassword`), or beyond its bounds; `Unavailable`.
    """
    if found.member is not None:
        with _zip(found.path) as archive:
            info = archive.getinfo(found.member)
            with _member(archive, info, found, password) as stream:
                return _copied(stream, into, told, packed=info.compress_size, name=found.source.rpartition("/")[2])
    kind = packing(first_bytes(found.path))
    try:
        with found.path.open("rb") as file:
            if kind not in _OPEN:
                return _copied(file, into, told, packed=None, name=found.path.name)
            stream = _OPEN[kind](file)
            return _copied(stream, into, told, packed=found.path.stat().st_size, name=found.path.name)
    except OSError as error:
        if kind in _OPEN and not error.errno:
            raise Refused(f"{found.path.name} is broken: {error}") from None
        raise Unavailable(f"{found.path} cannot be read: {error.strerror or error}") from None


@contextmanager
def _member(archive: Any, info: Any, found: Found, password: str | None) -> Iterator[IO[bytes]]:
    locked = bool(info.flag_bits & 1)
    where = f"{found.path.name}!{found.member}"
    if locked and password is None:
        raise NeedsPassword(f"{where} is locked: give its password (--password, or TELLTALE_IMPORT_PASSWORD)")
    try:
        with archive.open(info, pwd=password.encode() if locked and password else None) as stream:
            yield stream
    except RuntimeError as error:
        if "assword" in str(error):
            raise NeedsPassword(f"{where}: the password is not the right one") from None
        raise Refused(f"{where} is broken: {error}") from None


def _copied(stream: IO[bytes], into: Sink, told: Callable[[bytes], None], *, packed: int | None, name: str) -> int:
    size = 0
    try:
        while piece := stream.read(PIECE_BYTES):
            if size == 0 and packed is not None:
                _no_archive(piece, name)
            size += len(piece)
            if size > UNPACKED_BYTES_MAX and packed is not None:
                raise Refused(
                    f"{name} unpacks to more than {UNPACKED_BYTES_MAX >> 30} GB: unpack it yourself, if it is right"
                )
            if packed is not None and size > RATIO_FROM_BYTES and size > RATIO_MAX * max(1, packed):
                raise Refused(f"{name} unpacks to more than {RATIO_MAX} times its size: no logger file does")
            told(piece)
            into.write(piece)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise Refused(f"{name} is broken after {size:,} bytes unpacked: {error}") from None
    except Exception as error:
        if type(error).__name__ == "BadZipFile":
            raise Refused(f"{name} is broken: {error}") from None
        raise
    return size


def _no_archive(first: bytes, name: str) -> None:
    kind = packing(first)
    if kind is not None:
        raise Refused(f"{name} holds another packed file ({kind}): unpack it and import what is in it")
    if first[257:262] == b"ustar":
        raise Refused(f"{name} holds a tar archive: unpack it (tar xf) and import the folder")
