"""A logger file into the spool, once. Knows files and the spool; knows no broker.

The file's mark (how many of its rows are in the spool) is committed with those rows. After a kill in the middle the
file is read again from its start and its first rows are passed over, so that none is in the spool twice.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from infra.printable import storable
from producers.files.logger_file import Chunk, Column, Kind, LoggerFile, Stamping
from producers.files.stamps import Clock, Span, merged
from producers.spool import FileMark, Rows
from schemas.columnar import Longs
from schemas.devices import Device
from schemas.errors import Refused, Unavailable

REMEMBERED_ROWS = 100_000
"""Of a file, to tell repeated ones: two years of ten-minute rows. Loggers repeat what they sent last, not years ago."""

Accept = Callable[[list[Rows], FileMark], None]


def sha256_of(path: Path) -> str:
    """Of the file's content, in hex."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None


class Unanswered(Refused):
    """Something must be told before the file can be read."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a file is going to be read for a device."""

    device_id: str
    name: str
    sha256: str
    clock: Clock
    channels: Mapping[str, str]  # column: channel
    left_out: Mapping[str, str]  # column: why
    checked: bool  # whether the device's configuration was there to check the columns by

    @property
    def options(self) -> str:
        """What decides the readings besides the file's bytes."""
        eras = [[era.shift_us, era.from_us, era.to_us] for era in self.clock.eras]
        return json.dumps({"eras": eras, "channels": dict(self.channels)}, sort_keys=True)


def plan(
    file: LoggerFile,
    *,
    name: str,
    device_id: str,
    device: Device | None,
    told: Stamping,
    sha256: str = "",
    span: Callable[[], Span] | None = None,
    later: Sequence[Column] = (),
) -> Plan:
    """`later` are columns of headers further down in the file.

    Raises `Unanswered` with the exact question where something must be known and is not, `Refused` for no column.
    """
    try:
        clock = Clock.of(merged(told, file.stamping), device=device, name=name, span=span, custom=file.custom)
    except Refused as error:
        raise Unanswered(str(error)) from None
    configured = None if device is None else {sensor.channel for sensor in device.sensors}
    channels: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for column in (*file.columns, *later):
        why = _why_not(column, configured)
        if why:
            left_out[column.name] = why
        else:
            channels[column.name] = column.name
    if not channels:
        raise Refused(
            f"{name}: none of its columns is a channel of device {device_id}; "
            f"it has {', '.join(list(left_out)[:20]) or 'no columns'}"
        )
    return Plan(device_id, name, sha256, clock, channels, left_out, checked=device is not None)


def _why_not(column: Column, configured: set[str] | None) -> str | None:
    if column.kind is Kind.RECORD:
        return "the logger's row number"
    if column.kind is Kind.TIME:
        return "times"
    if column.kind is Kind.UNUSED:
        return "not used by the logger"
    if column.kind is Kind.TEXT:
        return "text"
    if configured is not None and column.name not in configured:
        return "not configured"
    return None


@dataclass(slots=True)
class Repeats:
    """Rows of one file that were there before. Two generations, so that memory is bounded."""

    repeated: int = 0
    _seen: dict[int, int] = field(default_factory=dict)
    _before: dict[int, int] = field(default_factory=dict)

    def fresh(self, times: Longs, chunk: Chunk) -> tuple[np.ndarray, list[int]]:
        """(mask of rows that are no exact repetition, lines whose time was there with other values)."""
        keep = np.ones(len(times), bool)
        conflicts = []
        channels = hash(chunk.columns)
        width = chunk.values.shape[1] * 8
        body = np.ascontiguousarray(chunk.values).tobytes()
        for index, time in enumerate(times.tolist()):
            row = hash((channels, body[index * width : (index + 1) * width]))
            known = self._seen.get(time)
            if known is None:
                known = self._before.get(time)
            if known == row:
                keep[index] = False
                continue
            if known is not None:
                conflicts.append(int(chunk.lines[index]))
            self._seen[time] = row
        self.repeated += int((~keep).sum())
        if len(self._seen) > REMEMBERED_ROWS:
            self._before, self._seen = self._seen, {}
        return keep, conflicts


@dataclass(slots=True)
class Import:
    """One file on its way into the spool."""

    file: LoggerFile
    plan: Plan
    mark: FileMark
    repeats: Repeats = field(default_factory=Repeats)
    left_out: dict[str, str] = field(default_factory=dict)
    within: Sequence[tuple[int, int]] | None = None  # only rows of these times, [from, to) in UTC microseconds
    first_us: int | None = None  # of the rows met, whether they are taken or were before
    last_us: int | None = None

    @classmethod
    def begin(
        cls,
        file: LoggerFile,
        made: Plan,
        known: FileMark | None,
        *,
        within: Sequence[tuple[int, int]] | None = None,
    ) -> "Import":
        """Goes on where an earlier one ended. Raises `Refused` if that one read the file in another way."""
        if known is not None and not known.complete and known.options != made.options:
            raise Refused(
                f"{made.name} is half sent for device {made.device_id}, read with other options or columns; "
                "finish with those, or start over with --again"
            )
        fresh = FileMark(made.sha256, made.device_id, storable(made.name), file.format, made.options)
        return cls(file, made, known or fresh, left_out=dict(made.left_out), within=within)

    def run(self, accept: Accept) -> Iterator[FileMark]:
        """Hand all rows to `accept`, yielding the mark after each step. Nothing is done for a file that is complete."""
        if self.mark.complete:
            return
        passed = 0
        for chunk in self.file.chunks(self._wanted):
            times = self.plan.clock.begin_utc(chunk.stamps, chunk.lines)
            keep, conflicts = self.repeats.fresh(times, chunk)
            for line in conflicts:
                self.file.tally.trouble(line, "its time was there before with other values; the later row stands")
            self._met(times)
            if self.within is not None:
                keep &= _inside(times, self.within)
            count = len(times)
            skip = min(count, max(0, self.mark.rows_accepted - passed))
            passed += count
            if skip == count:
                continue
            rows = self._rows(chunk, times, keep, skip)
            mark = replace(
                self.mark,
                rows_accepted=passed,
                readings_accepted=self.mark.readings_accepted + sum(part.readings for part in rows),
            )
            accept(rows, mark)
            self.mark = mark
            yield mark
        self.mark = replace(self.mark, complete=True)
        accept([], self.mark)
        yield self.mark

    def _met(self, times: Longs) -> None:
        low, high = int(times.min()), int(times.max())
        self.first_us = low if self.first_us is None else min(self.first_us, low)
        self.last_us = high if self.last_us is None else max(self.last_us, high)

    def _wanted(self, column: Column) -> str | None:
        channel = self.plan.channels.get(column.name)
        if channel is None and column.name not in self.left_out:  # from a header in the middle of the file
            self.left_out[column.name] = "only in a later header; send that part as a file of its own"
        return channel

    def _rows(self, chunk: Chunk, times: Longs, keep: np.ndarray, skip: int) -> list[Rows]:
        if not chunk.columns:
            return []
        keep = keep.copy()
        keep[:skip] = False
        if not keep.any():
            return []
        return [Rows(self.plan.device_id, times[keep], chunk.columns, chunk.values[keep])]


def _inside(times: Longs, within: Sequence[tuple[int, int]]) -> np.ndarray:
    inside = np.zeros(len(times), bool)
    for begin, end in within:
        inside |= (times >= begin) & (times < end)
    return inside


def left_out_lines(left_out: Mapping[str, str]) -> Iterable[str]:
    """Every column by name, those of one reason in one line."""
    reasons: dict[str, list[str]] = {}
    for column, why in left_out.items():
        reasons.setdefault(why, []).append(column)
    for why, columns in reasons.items():
        yield f"left out ({why}): {', '.join(columns)}"
