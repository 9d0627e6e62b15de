"""What `telltale edge` shows: progress on stderr, tables on stdout, JSON for scripts. Knows rich; decides nothing."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from infra.progress import counting_bar
from producers.delivery.link import Link
from producers.edge import Edge
from producers.files.codes import told_of
from producers.files.logger_file import LoggerFile
from producers.imports.reading import left_out_lines
from producers.sending import FileReport, Sending, Told
from producers.spool.look import Look

PLAIN_EVERY_S = 5.0  # between two lines where no bar can be drawn
PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Summary:
    """What `edge send` did."""

    device: str
    spool: str
    spool_id: str
    files: tuple[FileReport, ...]
    frames: int  # acknowledged by this call, those of earlier calls that still waited among them
    acknowledged: int
    waiting: int
    seconds: float

    @property
    def accepted(self) -> int:
        return sum(report.accepted for report in self.files)

    def print(self) -> None:
        console = Console(soft_wrap=True) if sys.stdout.isatty() else Console(width=160)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in (
            "file",
            "state",
            "rows",
            "readings",
            "missing",
            "repeated rows",
            "accepted",
            "acknowledged",
            "problems",
        ):
            table.add_column(name, justify="left" if name in ("file", "state") else "right")
        for each in self.files:
            counts = (each.rows, each.readings, each.missing, each.repeated_rows, each.accepted, each.acknowledged)
            table.add_row(each.file, each.state, *(f"{count:,}" for count in (*counts, each.problem_count)))
        console.print(table)
        for each in self.files:
            for line in left_out_lines(each.left_out):
                console.print(f"{each.file}: {line}", markup=False, highlight=False)
            if each.unchecked:
                console.print(
                    f"{each.file}: columns could not be checked against the device's configuration", markup=False
                )
            if each.looks_missing:
                console.print(f"{each.file}: {told_of(each.looks_missing)}", markup=False, highlight=False)
            for problem in each.problems[:PROBLEMS_SHOWN]:
                console.print(f"{each.file}, line {problem.line}: {problem.what}", markup=False, highlight=False)
            if each.problem_count > PROBLEMS_SHOWN:
                console.print(f"{each.file}: {each.problem_count - PROBLEMS_SHOWN} more problems (--json has them)")
        rate = self.acknowledged / self.seconds if self.seconds else 0.0
        console.print(
            f"{self.frames} frames, {self.acknowledged:,} readings acknowledged in {self.seconds:.1f} s "
            f"({rate:,.0f}/s); {self.waiting:,} wait in {self.spool}",
            highlight=False,
        )


def summary(sending: Sending, edge: Edge, *, seconds: float) -> Summary:
    """As things stand now, while the spool is open."""
    counts = [edge.spool.counts(device) for device in edge.spool.devices()]
    progress = edge.progress
    return Summary(
        device=edge.settings.device_id or "",
        spool=str(edge.spool.folder),
        spool_id=edge.spool.spool_id,
        files=tuple(sending.reports),
        frames=progress.frames,
        acknowledged=progress.readings,
        waiting=sum(each.accepted - each.sent - each.dropped for each in counts),
        seconds=seconds,
    )


def summary_json(made: Summary) -> str:
    return orjson.dumps({**asdict(made), "accepted": made.accepted}, option=orjson.OPT_INDENT_2).decode()


@contextmanager
def progress(edge: Edge) -> Iterator[Told]:
    """Yields what to call after each step: a bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _plain(edge)
        return
    with counting_bar() as bar:
        tasks: dict[str, Any] = {}

        def told(report: FileReport, file: LoggerFile | None) -> None:
            if report.file not in tasks:
                tasks[report.file] = bar.add_task(report.file, total=None, note="")
            link = edge.progress.link
            note = "" if link.link is Link.UP else f"{link.link}: {link.detail}"
            reading = f"row {file.tally.rows:,} " if file is not None else ""
            total = report.readings or None
            bar.update(tasks[report.file], completed=report.acknowledged, total=total, note=reading + note)

        yield told


def _plain(edge: Edge) -> Told:
    last = [time.monotonic()]

    def told(report: FileReport, _: LoggerFile | None) -> None:
        now = time.monotonic()
        if now - last[0] >= PLAIN_EVERY_S:
            last[0] = now
            link = edge.progress.link
            sys.stderr.write(
                f"{report.file}: {report.acknowledged:,} of {report.readings:,} readings acknowledged "
                f"({link.link}{': ' + link.detail if link.detail else ''})\n"
            )
            sys.stderr.flush()

    return told


def _utc(time_us: int | None) -> str | None:
    return None if time_us is None else datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="milliseconds")


def spools_json(looks: Sequence[Look]) -> str:
    records = [
        {
            "spool": str(each.folder),
            "spool_id": each.spool_id,
            "device": each.counts.device_id,
            "depth": each.counts.groups,
            "waiting": each.waiting,
            "bytes": each.counts.bytes,
            "file_bytes": each.file_bytes,
            "oldest": _utc(each.counts.oldest_us),
            "accepted": each.counts.accepted,
            "sent": each.counts.sent,
            "dropped": each.counts.dropped,
            "refused": each.counts.refused,
            "kept": each.kept,
            "kept_bytes": each.kept_bytes,
            "next_sequence": each.counts.next_sequence,
            "last_acknowledged": _utc(each.counts.acknowledged_us),
            "link": each.link,
            "link_detail": each.link_detail,
        }
        for each in looks
    ]
    return orjson.dumps(records, option=orjson.OPT_INDENT_2).decode()


def spools_table(looks: Sequence[Look], *, now_s: float, width: int | None) -> None:
    keeps = any(each.kept for each in looks)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (
        "device",
        "waiting",
        "depth",
        "bytes",
        "oldest",
        "accepted",
        "sent",
        "dropped",
        "refused",
        *(["kept"] if keeps else []),
        "last acknowledged",
    ):
        table.add_column(name, justify="left" if name == "device" else "right")
    for each in looks:
        counts = each.counts
        oldest = "-" if counts.oldest_us is None else f"{now_s - counts.oldest_us / 1e6:,.0f} s"
        numbers = (each.waiting, counts.groups, counts.bytes)
        totals = [counts.accepted, counts.sent, counts.dropped, counts.refused]
        if keeps:
            totals.append(each.kept)
        row = (*(f"{n:,}" for n in numbers), oldest, *(f"{n:,}" for n in totals), _utc(counts.acknowledged_us) or "-")
        table.add_row(counts.device_id, *row)
    console = Console(width=width)
    console.print(table)
    for folder, link, detail in dict.fromkeys((each.folder, each.link, each.link_detail) for each in looks):
        if link is not None:
            console.print(f"{folder}: link {link}{': ' + detail if detail else ''}", markup=False, highlight=False)
