"""What a logger file holds and what must still be told, without sending anything. Knows files; knows no broker.

The whole file is read, in bounded memory. What is printed is JSON as `Inspection.record` has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infra.counted import counted
from infra.printable import storable
from producers.files.codes import Met, how_to
from producers.files.described import Description
from producers.files.lines import Readable
from producers.files.logger_file import Chunk, Column, Identity, Kind, LoggerFile, Problem, Stamping
from producers.files.recognise import recognise
from producers.files.refusal import RefusedAt
from producers.files.stamps import merged, open_questions, shift_us
from producers.files.text_table import TextTable
from schemas.errors import Refused


@dataclass(slots=True)
class Inspection:
    """One file. Stamps are microseconds of the file's own calendar, times are UTC."""

    file: str
    format: str | None = None
    identity: Identity = field(default_factory=Identity)
    encoding: str | None = None
    rows: int = 0
    columns: tuple[Column, ...] = ()  # measured values
    left_out: dict[str, Kind] = field(default_factory=dict)  # the others
    first_stamp_us: int | None = None
    last_stamp_us: int | None = None
    first_row: list[float | None] = field(default_factory=list)
    stamping: Stamping = field(default_factory=Stamping)
    stamp_suffix: str = ""
    missing: int = 0
    repeated: int = 0
    out_of_order: int = 0
    changes: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    looks_missing: list[Met] = field(default_factory=list)  # and is taken as numbers
    refused: str | None = None

    @property
    def status(self) -> str:
        if self.refused is not None:
            return "refused"
        return "needs an answer" if self.questions else "ok"

    def record(self) -> dict[str, Any]:
        """As JSON."""
        problems = self.problems or ([] if self.refused is None else [Problem(1, self.refused)])
        shift = None if open_questions(self.stamping) or self.questions else shift_us(self.stamping)
        return {
            "file": self.file,
            "format": self.format,
            "maker": self.identity.maker or None,
            "logger": {
                "model": self.identity.model or None,
                "serial": self.identity.serial or None,
                "program": self.identity.program or None,
                "table": self.identity.table or None,
            },
            "encoding": self.encoding,
            "rows": self.rows,
            "channels": [{"name": c.name, "unit": c.unit, "statistic": c.statistic} for c in self.columns],
            "left_out": [{"name": name, "why": str(kind)} for name, kind in self.left_out.items()],
            "first_stamp": _iso(self.first_stamp_us, self.stamp_suffix),
            "last_stamp": _iso(self.last_stamp_us, self.stamp_suffix),
            "first_time": _utc(self.first_stamp_us, shift),
            "last_time": _utc(self.last_stamp_us, shift),
            "time_zone": _zone(self.stamping.utc_offset_minutes),
            "first_row": self.first_row,
            "missing": self.missing,
            "repeated": self.repeated,
            "out_of_order": self.out_of_order,
            "status": self.status,
            "questions": self.questions,
            "problems": [{"line": each.line, "what": each.what} for each in problems],
            "problem_count": self.problem_count,
            "changes": self.changes,
            "looks_missing": [
                {"channel": each.channel, "value": each.code, "count": each.count, "first_line": each.first_line}
                for each in self.looks_missing
            ],
        }


def inspect(
    path: Readable, *, name: str | None = None, description: Description | None = None, told: Stamping | None = None
) -> Inspection:
    """Reads the whole file. A file that cannot be taken is told in `refused`, not raised. May raise `Unavailable`."""
    found = Inspection(storable(name or (str(path) if isinstance(path, Path) else path.name)))
    file: LoggerFile | None = None
    try:
        file = recognise(path, description, told=told)
        _read(file, found, told or Stamping())
    except Refused as error:
        found.refused = str(error)
        line, what = (error.line, error.what) if isinstance(error, RefusedAt) else (1, str(error))
        if not any(each.line == line and each.what in what for each in found.problems):
            found.problems.insert(0, Problem(line, what))
            found.problem_count += 1
        found.questions = []
    return found


def _read(file: LoggerFile, found: Inspection, told: Stamping) -> None:
    found.format, found.identity = file.format, file.identity
    found.stamping = merged(told, file.stamping, file.custom)
    timed = not file.questions
    found.questions += file.questions
    try:
        if timed:
            _read_rows(file, file.chunks(_by_name), found)
        elif isinstance(file, TextTable):
            _read_rows(file, file.untimed_chunks(_by_name), found)
    finally:
        tally = file.tally
        found.format, found.identity = file.format, file.identity
        found.stamp_suffix = "Z" if file.zoned else ""
        found.columns = tuple(column for column in file.columns if column.kind is Kind.VALUE)
        found.left_out = {column.name: column.kind for column in file.columns if column.kind is not Kind.VALUE}
        found.encoding = tally.encoding or None
        found.rows, found.missing = tally.rows, tally.missing
        if timed:
            found.repeated, found.out_of_order = tally.repeated, tally.out_of_order
            found.first_stamp_us, found.last_stamp_us = tally.first_stamp, tally.last_stamp
        found.problem_count = tally.problem_count
        found.problems = sorted(tally.problems, key=lambda each: (each.line, each.what))
        found.changes = [f"line {change.line}: {change.what}" for change in tally.changes]
    found.looks_missing = file.tally.codes.met(but=file.tally.texts)
    _leave_out_texts(file, found)
    if found.rows or file.questions:  # without rows there is no stamp to be asked about
        found.questions += open_questions(found.stamping)


def _by_name(column: Column) -> str:
    return column.name


def _read_rows(file: LoggerFile, chunks: Iterator[Chunk], found: Inspection) -> None:
    first: dict[str, float] | None = None
    for chunk in chunks:
        if first is None:
            first = dict(zip(chunk.columns, chunk.values[0].tolist(), strict=True))
    if first is not None:
        names = (column.name for column in file.columns if column.kind is Kind.VALUE)
        found.first_row = [None if (value := first.get(name, np.nan)) != value else value for name in names]


def _leave_out_texts(file: LoggerFile, found: Inspection) -> None:
    """Columns of text whose first cells were empty: known as such only when the whole file has been read."""
    tally = file.tally
    texts = tally.texts
    for name in [each.name for each in found.columns if each.name in texts]:
        if found.first_row:
            del found.first_row[[each.name for each in found.columns].index(name)]
        found.columns = tuple(each for each in found.columns if each.name != name)
        found.left_out[name] = Kind.TEXT
        found.missing -= tally.missing_of[name]
        found.problems = [each for each in found.problems if not each.what.startswith(f"column {name!r}: ")]
        found.problem_count -= tally.odd_of[name]


def _iso(stamp_us: int | None, suffix: str = "") -> str | None:
    if stamp_us is None:
        return None
    text = str(np.datetime64(stamp_us, "us"))
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0")
    return whole + (f".{fraction}" if fraction else "") + suffix


def _utc(stamp_us: int | None, shift: int | None) -> str | None:
    return None if stamp_us is None or shift is None else _iso(stamp_us - shift, "Z")


def _zone(minutes: int | None) -> str | None:
    if minutes is None:
        return None
    if minutes == 0:
        return "UTC"
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{'-' if minutes < 0 else '+'}{hours:02}:{rest:02}"


def summary_lines(found: Inspection) -> list[str]:
    """For a person."""
    about = found.record()
    said = " ".join(filter(None, (found.identity.maker, found.identity.model, found.identity.serial)))
    lines = [f"{found.file}: {found.status}" + (f" ({found.format}, {said})" if found.format else "")]
    if found.refused is not None:
        return [*lines, f"  {found.refused}"]
    lines.append(
        f"  {counted(found.rows, 'row')}, {counted(len(found.columns), 'channel')}, "
        f"{counted(found.missing, 'value')} missing, {counted(found.repeated, 'stamp')} repeated, "
        f"{found.out_of_order:,} out of order"
    )
    lines += [
        f"  no channels ({kind}): {', '.join(name for name, of in found.left_out.items() if of is kind)}"
        for kind in dict.fromkeys(found.left_out.values())
    ]
    if found.rows:
        lines.append(
            f"  stamps {about['first_stamp']} to {about['last_stamp']} ({about['time_zone'] or 'zone unknown'})"
        )
    if about["first_time"]:
        lines.append(f"  times  {about['first_time']} to {about['last_time']}, beginning of interval")
    lines += [f"  may mean missing, taken as a number: {each}" for each in found.looks_missing]
    if found.looks_missing:
        lines.append(f"  {how_to(found.looks_missing, found.format)}")
    lines += [f"  change in {each}" for each in found.changes]
    lines += [f"  needs an answer: {question}" for question in found.questions]
    lines += [f"  line {each.line}: {each.what}" for each in found.problems[:10]]
    if found.problem_count > 10:
        lines.append(f"  and {found.problem_count - 10} more problems")
    return lines
