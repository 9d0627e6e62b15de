"""Lines of a text file in bounded blocks, with their numbers. Knows bytes and encodings; knows no format."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal, Protocol

from schemas.errors import Refused, Unavailable

BLOCK_BYTES = 1 << 20
LINE_BYTES_MAX = 1 << 20
"""No logger writes a longer line; a binary file that got this far has none at all."""

BOM = "\ufeff"


class Readable(Protocol):
    """A file, or a part of one that looks like it. `pathlib.Path` is one."""

    @property
    def name(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    def is_dir(self) -> bool: ...
    def open(self, mode: Literal["rb"], /) -> IO[bytes]: ...


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines, without their ends."""

    lines: list[str]
    first_line: int  # number of lines[0], from 1
    bytes_read: int  # of the file, up to the end of this block
    cut: bool = False  # lines[-1] is the file's last and has no line end


def decode(raw: bytes, encoding: str | None) -> str:
    """UTF-8, or latin-1 where it is not: both are met in one family of files, and latin-1 takes any byte."""
    if encoding is not None:
        return raw.decode(encoding, errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def blocks(path: Readable, *, encoding: str | None = None) -> Iterator[Block]:
    """The file's lines, about a megabyte at a time. LF and CRLF end a line. Raises `Refused`, `Unavailable`."""
    number, done, rest = 1, 0, b""
    try:
        with path.open("rb") as file:
            while raw := file.read(BLOCK_BYTES):
                done += len(raw)
                whole, newline, rest = (rest + raw).rpartition(b"\n")
                if newline:
                    block = Block(_split(whole, encoding), number, done - len(rest))
                    number += len(block.lines)
                    yield block
                elif len(rest) > LINE_BYTES_MAX:
                    raise Refused(
                        f"{path.name}, line {number}: longer than {LINE_BYTES_MAX} bytes; no logger writes that"
                    )
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None
    if rest:
        yield Block(_split(rest, encoding), number, done, cut=True)


def _split(raw: bytes, encoding: str | None) -> list[str]:
    lines = decode(raw, encoding).replace("\r\n", "\n").split("\n")
    # Files that were put together have a byte order mark at each former beginning.
    if raw.find(b"\xef\xbb\xbf") >= 0:
        lines = [line.removeprefix(BOM) for line in lines]
    lines[-1] = lines[-1].removesuffix("\r")
    return lines


def cells(lines: list[str], delimiter: str) -> list[list[str]]:
    """Each line's cells. A quote that is never closed stays within its line."""
    try:
        rows = list(csv.reader(lines, delimiter=delimiter))
        if len(rows) == len(lines):
            return rows
    except csv.Error:
        pass
    return [_cells_of_one(line, delimiter) for line in lines]


def _cells_of_one(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return [line]


def head(path: Readable, size: int = 65_536) -> bytes:
    """The first bytes. Raises `Refused` where there is no file to read."""
    try:
        if path.is_dir():
            raise Refused(f"{path} is a folder, not a file")
        with path.open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        raise Refused(f"no such file: {path}") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
