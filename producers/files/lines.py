"""Lines of a text file in bounded blocks, with their numbers. Knows bytes and encodings; knows no format."""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal, Protocol

from producers.files.refusal import RefusedAt
from schemas.errors import Refused, Unavailable

BLOCK_BYTES = 1 << 21
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
    """Whole lines."""

    data: bytes  # with their line ends
    first_line: int  # number of the first, from 1
    bytes_read: int  # of the file, up to the end of this block
    encoding: str  # a codec's name: what the bytes were found to be
    line_count: int
    cut: bool = False  # one line, the file's last, that has no line end

    @property
    def lines(self) -> list[str]:
        """Without their ends. LF and CRLF end a line."""
        return lines_of(self.data, self.encoding)


def encoding_of(raw: bytes) -> str:
    """Of text: UTF-8, or a Windows or latin-1 page where it is not; both are met in one family of files."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return name
    even, odd = raw[:512:2].count(0), raw[1:512:2].count(0)
    if max(even, odd) > len(raw[:512]) // 3 and min(even, odd) * 8 < max(even, odd):  # every other byte of ASCII
        return "utf-16-le" if odd > even else "utf-16-be"
    return _page(raw)


def _page(raw: bytes) -> str:
    if raw.isascii():
        return "utf-8"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw)  # a character may be cut at the end
    except UnicodeDecodeError:
        return "cp1252" if raw.translate(None, _NOT_C1) else "latin-1"
    return "utf-8"


_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_NOT_C1 = bytes(each for each in range(256) if not 0x80 <= each < 0xA0)  # latin-1 has no letters there, Windows has


def decode(raw: bytes, encoding: str | None) -> str:
    """`encoding`, or what it is found to be."""
    return raw.decode(encoding or encoding_of(raw), errors="replace")


def blocks(path: Readable, *, encoding: str | None = None, size: int | None = None) -> Iterator[Block]:
    """The file's lines, about `size` bytes at a time, in UTF-8 or a page of one byte a letter.

    CR alone ends lines where the file has no LF. Raises `Refused`, `Unavailable`.
    """
    number, done, rest = 1, 0, b""
    found: str | None = None
    to_utf8: codecs.IncrementalDecoder | None = None
    cr = False
    try:
        with path.open("rb") as file:
            while raw := file.read(size or BLOCK_BYTES):
                done += len(raw)
                if found is None:
                    found = encoding or encoding_of(raw)
                    if found.replace("_", "-").lower().startswith(("utf-16", "utf-32")):
                        to_utf8 = codecs.getincrementaldecoder(found)(errors="replace")
                if to_utf8 is not None:
                    raw = to_utf8.decode(raw).encode("utf-8", errors="replace")
                if number == 1 and b"\n" not in raw and b"\r" in raw.rstrip(b"\r"):
                    cr = True
                if cr:
                    raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
                whole, newline, rest = (rest + raw).rpartition(b"\n")
                if newline:
                    data = whole + newline
                    count = data.count(b"\n")
                    block = Block(data, number, done - len(rest), _of_block(found, data, told=encoding), count)
                    number += count
                    yield block
                elif len(rest) > LINE_BYTES_MAX:
                    raise RefusedAt(path.name, number, f"longer than {LINE_BYTES_MAX} bytes; no logger writes that")
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None
    if rest:
        yield Block(rest, number, done, _of_block(found or "utf-8", rest, told=encoding), 1, cut=True)


def _of_block(found: str, data: bytes, *, told: str | None) -> str:
    """Files of two pages in one are met: latin-1 takes any byte."""
    if told is not None or found.startswith("utf-16"):
        return found
    page = _page(data)
    return found if page == "utf-8" and found.startswith("utf-8") else page


def lines_of(raw: bytes, encoding: str) -> list[str]:
    """Whole lines of a block as text, without their ends."""
    raw = raw.removesuffix(b"\n")
    if encoding.startswith("utf-16"):
        encoding = "utf-8"  # as `blocks` made it
    text = raw.decode(encoding, errors="replace").removeprefix(BOM)
    lines = text.replace("\r\n", "\n").split("\n")
    # Files that were put together have a byte order mark at each former beginning.
    if raw.find(codecs.BOM_UTF8) >= 0:
        lines = [line.removeprefix(BOM).removeprefix("ï»¿") for line in lines]
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
