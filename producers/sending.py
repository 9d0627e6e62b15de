"""`telltale edge send` without its printing: files into the spool, the spool to the broker, and what became of it.

Knows an open edge and files. Waits with a bound: `timeout_s` without an acknowledgement ends it, and nothing is lost.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from infra.printable import storable
from producers.delivery.link import Link
from producers.edge import Edge
from producers.files.described import Description
from producers.files.logger_file import LoggerFile, Problem, Stamping
from producers.files.recognise import recognise
from producers.files.stamps import span_of
from producers.imports.reading import Import, plan, sha256_of
from producers.spool import FileMark, Rows, SpoolFull
from schemas.codec import Codec
from schemas.devices import Device
from schemas.errors import Refused, Unavailable
from schemas.records import ImportStatus
from schemas.topics import IMPORTS

LOOK_S = 0.05  # between two looks at how far the sender is


@dataclass(slots=True)
class FileReport:
    """What became of one file. Counts in readings where not said otherwise."""

    file: str
    state: str = "found"
    format: str | None = None
    sha256: str | None = None
    rows: int = 0
    readings: int = 0
    missing: int = 0
    repeated_rows: int = 0
    accepted: int = 0
    acknowledged: int = 0
    rows_acknowledged: int = 0
    last_sequence: int | None = None
    columns: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    unchecked: bool = False
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    looks_missing: list[str] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the person said."""

    device_id: str
    told: Stamping
    description: Description | None = None
    again: bool = False
    timeout_s: float = 60.0


Told = Callable[[FileReport, LoggerFile | None], None]
"""Called after each step, for a progress bar."""


class Sending:
    """Sends files one after another through one edge."""

    def __init__(self, edge: Edge, asked: Asked, *, device: Device | None, told: Told) -> None:
        self._edge = edge
        self._asked = asked
        self._device = device
        self._told = told
        self._codec = Codec()
        self.reports: list[FileReport] = []

    def send(self, path: Path) -> FileReport:
        """Into the spool. A file that cannot be taken is told in its report, not raised; the next one goes on."""
        report = FileReport(storable(path.name))
        self.reports.append(report)
        file: LoggerFile | None = None
        try:
            file = recognise(path, self._asked.description, told=self._asked.told)
            report.format, report.sha256 = file.format, sha256_of(path)
            self._publish(report)
            self._import(file, path, report)
        except Refused as error:
            if isinstance(error, SpoolFull):
                raise
            report.state, report.reason = "refused", storable(str(error))
            self._publish(report)
        finally:
            if file is not None:
                tally = file.tally
                report.problem_count, report.problems = tally.problem_count, tally.problems
                report.looks_missing = [storable(str(each)) for each in tally.codes.met(but=tally.texts)]
        self._told(report, file)
        return report

    def _import(self, file: LoggerFile, path: Path, report: FileReport) -> None:
        assert report.sha256 is not None  # noqa: S101 - set by the only caller, one line earlier
        asked, spool = self._asked, self._edge.spool
        if asked.again:
            spool.forget(report.sha256, asked.device_id)
        known = spool.mark(report.sha256, asked.device_id)
        if known is not None and known.complete:
            self._from_mark(report, known)
            report.state = "already sent" if known.readings_acknowledged >= known.readings_accepted else "sending"
            return
        made = plan(
            file,
            name=path.name,
            device_id=asked.device_id,
            device=self._device,
            told=asked.told,
            sha256=report.sha256,
            span=lambda: span_of(recognise(path, asked.description, told=asked.told)),
        )
        report.columns, report.unchecked = list(made.channels.values()), not made.checked
        one = Import.begin(file, made, known)
        before = one.mark.readings_accepted
        report.state = "sending"
        try:
            for mark in one.run(self._accept):
                report.rows, report.missing = file.tally.rows, file.tally.missing
                report.readings = mark.readings_accepted
                report.accepted = mark.readings_accepted - before
                report.repeated_rows = one.repeats.repeated
                self._told(report, file)
        finally:
            report.left_out = one.left_out
        self._publish(report)

    def _from_mark(self, report: FileReport, mark: FileMark) -> None:
        report.rows, report.readings = mark.rows_accepted, mark.readings_accepted
        report.acknowledged, report.rows_acknowledged = mark.readings_acknowledged, mark.rows_acknowledged
        report.last_sequence = mark.last_sequence

    def _accept(self, rows: list[Rows], mark: FileMark) -> None:
        """A full spool makes a file wait: it can, for it stays where it is."""
        while True:
            try:
                self._edge.accept_rows(rows, mark=mark, waits=True)
                return
            except SpoolFull as full:
                if self._edge.spool.bytes == 0 or self._is_stuck():
                    raise Unavailable(f"{full}; {self.why_stuck()}") from None
                time.sleep(LOOK_S)

    def drain(self) -> bool:
        """Wait until the broker has all of it. False if nothing has moved for `timeout_s`."""
        while not self._edge.drained:
            if self._is_stuck():
                self.settle()
                return False
            self.settle()
            time.sleep(LOOK_S)
        self.settle()
        return True

    def _is_stuck(self) -> bool:
        progress = self._edge.progress
        if progress.link.link is Link.TOO_LARGE and progress.frames and self._quiet_s() > LOOK_S * 20:
            return True
        return self._quiet_s() > self._asked.timeout_s

    def _quiet_s(self) -> float:
        return time.monotonic() - self._edge.progress.moved_at

    def why_stuck(self) -> str:
        link = self._edge.progress.link
        if link.link in (Link.UP, Link.CONNECTING):
            return f"{self._edge.address} has not answered for {self._quiet_s():.0f} s"
        return link.detail

    def settle(self) -> None:
        """What the spool knows of each file by now."""
        for report in self.reports:
            if report.state != "sending" or report.sha256 is None:
                continue
            mark = self._edge.spool.mark(report.sha256, self._asked.device_id)
            if mark is None:
                continue
            report.acknowledged, report.rows_acknowledged = mark.readings_acknowledged, mark.rows_acknowledged
            report.last_sequence = mark.last_sequence
            if mark.complete and mark.readings_acknowledged >= mark.readings_accepted:
                report.state = "sent"
                self._publish(report)
            self._told(report, None)

    def _publish(self, report: FileReport) -> None:
        if report.sha256 is None:
            return
        state = "sent" if report.state == "already sent" else report.state
        line = report.problems[0].line if report.reason and report.problems else None
        status = ImportStatus(
            sha256=report.sha256,
            name=report.file,
            device_id=self._asked.device_id,
            format=report.format,
            state=state,
            rows=report.rows,
            readings=report.readings,
            sent=report.rows_acknowledged,
            spool_id=self._edge.spool.spool_id,
            last_sequence=report.last_sequence,
            reason=report.reason,
            line=line,
            time=datetime.now(UTC),
        )
        self._edge.publish(IMPORTS, report.sha256, self._codec.encode(status))


def told_stamping(
    utc_offset_minutes: int | None, stamp: str | None, interval_s: float | None, date_order: str | None = None
) -> Stamping:
    """What options say, as a file would."""
    return Stamping(utc_offset_minutes, stamp, interval_s, date_order)
