"""A text file of rows below a header that may come again: the loop that every such format shares.

Knows blocks of lines, headers that begin with a mark, the last line that may be cut, and what a later header changes;
a format says what its header means.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from producers.files.lines import BOM, Block, Readable, blocks, lines_of
from producers.files.logger_file import Change, Chunk, Column, Identity, Stamping, Tally, Wanted
from producers.files.refusal import RefusedAt
from producers.files.table import Chosen, Layout, Piece, choose, is_whole, rows, without_last_cell
from schemas.errors import Refused

HEADER_BYTES_MAX = 4 << 20  # a header that has not ended by then is none
HEADER_BYTES = (1 << 13, 1 << 17)  # of most, and of the longest that was met
LINES_BEFORE = 6  # of those above a last line without end, to tell whether it is whole


@dataclass(frozen=True, slots=True)
class Header:
    """What one header says, and how many lines it has."""

    identity: Identity
    layout: Layout
    lines: int


class TextTable:
    """Base of text formats. See `LoggerFile`."""

    format = ""
    marks: tuple[bytes, ...] = ()  # what the first line of a header begins with, behind a byte order mark and a quote
    encoding: str | None = None

    def __init__(self, path: Readable) -> None:
        self._path = path
        self.tally = Tally()
        self.stamping = Stamping()
        self.custom = Stamping()
        self.questions: tuple[str, ...] = ()
        self.columns: tuple[Column, ...] = ()
        lines: list[str] = []
        for block in blocks(path, encoding=self.encoding):
            self.tally.met(block)
            lines += block.lines
            if len(lines) > 2 * LINES_BEFORE and block.bytes_read < HEADER_BYTES_MAX and self.read_header(lines, 1):
                break
            if block.bytes_read >= HEADER_BYTES_MAX:
                break
        header = self.read_header(lines, 1)
        if header is None:
            raise RefusedAt(path.name, max(1, len(lines)), "the file ends inside its header")
        self.first = self._with_texts(header, lines[header.lines :])
        self.identity = self.first.identity
        self.columns = self.first.layout.columns

    @property
    def zoned(self) -> bool:
        """Whether the stamps in the file end with Z."""
        return self.first.layout.zoned

    def read_header(self, lines: list[str], line: int) -> Header | None:
        """Of lines that begin with a header, the first being number `line`; None where more lines are needed.

        Raises `RefusedAt` where it is none.
        """
        raise NotImplementedError

    def _with_texts(self, header: Header, below: list[str]) -> Header:
        known = {column.name: column.kind for column in self.columns}
        layout = header.layout
        if not known.keys() >= {column.name for column in layout.columns}:
            layout = layout.with_text(below)
        columns = tuple(replace(each, kind=known.get(each.name, each.kind)) for each in layout.columns)
        return Header(header.identity, replace(layout, columns=columns), header.lines)

    def chunks(self, wanted: Wanted, *, texts: bool = False) -> Iterator[Chunk]:
        """See `LoggerFile`. A row that cannot be read is a problem with its line; the others go on."""
        if self.questions:
            raise Refused(f"{self._path.name}: {'; '.join(self.questions)}")
        yield from self.untimed_chunks(wanted, texts=texts)

    def untimed_chunks(self, wanted: Wanted, *, texts: bool = False) -> Iterator[Chunk]:
        """The same where `questions` are open: then what the stamps are is not known, and only the rest counts."""
        loop = _Reading(self, wanted, texts=texts)
        block: Block | None = None
        for block in blocks(self._path, encoding=self.encoding):
            self.tally.met(block)
            yield from loop.block(block)
        if block is not None:
            loop.end(block)
        self.tally.refuse_without_rows(self._path.name)

    def next_header(self, lines: list[str], line: int) -> Header | None:
        """A header met on the way; what it changes is told."""
        header = self.read_header(lines, line)
        if header is None:
            return None
        if self.tally.headers == 0:
            self.tally.headers = 1
            return self.first
        header = self._with_texts(header, lines[header.lines :])
        self.tally.headers += 1
        what = difference(self.identity, self.columns, header)
        if what:
            self.tally.changes.append(Change(line, header.identity, header.layout.columns, what))
        known = {column.name for column in self.columns}
        self.columns += tuple(column for column in header.layout.columns if column.name not in known)
        return header

    def starts(self, data: bytes, at: int) -> int:
        """Where in whole lines the next header begins, from `at` on; -1 for nowhere."""
        found = -1
        for mark in self.marks:
            place = data.find(mark, at)
            while place >= 0:
                line = data.rfind(b"\n", 0, place) + 1
                before = data[line:place].replace(BOM.encode(), b"")
                if before in (b"", b'"') and line >= at:
                    found = line if found < 0 else min(found, line)
                    break
                place = data.find(mark, place + 1)
        return found


class _Reading:
    """The way through one file's blocks."""

    def __init__(self, file: TextTable, wanted: Wanted, *, texts: bool) -> None:
        self.file, self.wanted, self.texts = file, wanted, texts
        self.layout: Layout | None = None
        self.chosen: Chosen | None = None
        self.pending = b""  # a header that goes on in the next block
        self.tail: list[str] = []
        self.told_below = False
        self.begun = False  # the first header is at the top, whatever it looks like

    def block(self, block: Block) -> Iterator[Chunk]:
        data = self.pending + block.data
        line = block.first_line - self.pending.count(b"\n")
        self.pending = b""
        if block.cut:
            cut = block.lines[0]
            if not cut.strip():
                return
            layout = self.layout
            if line == block.first_line and not (
                layout is not None and is_whole(cut, self.tail[-LINES_BEFORE:], layout.delimiter)
            ):
                kept = layout and without_last_cell(data, layout)
                what = "its last cell" if kept else "it"
                self.file.tally.trouble(line, f"the last line has no line end: {what} may be cut and is left out")
                if not kept:
                    return
                data = kept
            data += b"\n"
        at = 0
        while at < len(data):
            start = self.file.starts(data, at) if self.begun else at
            if start != at:
                upper = data[at:] if start < 0 else data[at:start]
                yield from self._rows(upper, block, line)
                if start < 0:
                    return
                at, line = start, line + upper.count(b"\n")
            size = self._header(data, at, block, line)
            if size is None:
                if len(data) - at < HEADER_BYTES_MAX and not block.cut:
                    self.pending = data[at:]
                    return
                self.file.tally.trouble(line, "a header begins here and does not end")
                size = data.find(b"\n", at) + 1 - at
                self.begun, self.layout = True, None
            line += data.count(b"\n", at, at + size)
            at += size

    def _header(self, data: bytes, at: int, block: Block, line: int) -> int | None:
        """Bytes of the header that begins at `at`; None where it is not whole."""
        header = None
        try:
            for size in (*HEADER_BYTES, len(data)):  # headers may stand close: not all that follows is looked at
                lines = lines_of(data[at : data.rfind(b"\n", at, at + size) + 1], block.encoding)
                header = self.file.next_header(lines, line)
                if header is not None or at + size >= len(data):
                    break
        except Refused as error:
            self.file.tally.trouble(line, getattr(error, "what", str(error)))
            self.begun, self.layout, self.told_below = True, None, False
            return data.find(b"\n", at) + 1 - at
        if header is None:
            return None
        self.begun = True
        self.layout, self.told_below = header.layout, False
        self.chosen = choose(header.layout, self.wanted, texts=self.texts)
        end = at
        for _ in range(header.lines):
            end = data.find(b"\n", end) + 1
        return end - at

    def _rows(self, data: bytes, block: Block, line: int) -> Iterator[Chunk]:
        if self.layout is None or self.chosen is None:
            if data.strip() and not self.told_below:
                self.told_below = True
                self.file.tally.trouble(line, "rows below a header that cannot be read are left out")
            return
        self.tail = data[data.rfind(b"\n", 0, max(0, len(data) - 4096)) + 1 :].decode("latin-1").splitlines()
        yield from rows(Piece(data, line, block.encoding), self.layout, self.chosen, self.file.tally)

    def end(self, block: Block) -> None:
        if self.pending:
            line = block.first_line + block.line_count - self.pending.count(b"\n")
            self.file.tally.trouble(max(1, line), "the file ends inside a header")


def difference(identity: Identity, columns: tuple[Column, ...], header: Header) -> str:
    """What a later header says differently; empty for nothing."""
    said = []
    for what in ("model", "serial", "program", "signature", "table"):
        before, after = getattr(identity, what), getattr(header.identity, what)
        if before != after:
            said.append(f"{what} {before or 'none'} became {after or 'none'}")
    before_names, after_names = [c.name for c in columns], [c.name for c in header.layout.columns]
    if new := [name for name in after_names if name not in before_names]:
        said.append(f"new columns {', '.join(new)}")
    if gone := [name for name in before_names if name not in after_names]:
        said.append(f"columns gone {', '.join(gone)}")
    both = [name for name in before_names if name in after_names]
    if both != [name for name in after_names if name in before_names]:
        said.append("columns moved")
    units = {c.name: (c.unit, c.statistic) for c in columns}
    if changed := [c.name for c in header.layout.columns if c.name in units and units[c.name] != (c.unit, c.statistic)]:
        said.append(f"unit or statistic changed of {', '.join(changed)}")
    return "; ".join(said)
