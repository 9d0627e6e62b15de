"""One `telltale import`: composes an edge, statuses and readers, shows progress, and tells what became of each file."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from infra.counted import counted
from infra.progress import counting_bar
from producers.edge import Edge
from producers.files.codes import told_of
from producers.files.described import Description
from producers.files.logger_file import Stamping
from producers.imports.finding import found_in
from producers.imports.identifying import learned
from producers.imports.importer import FLUSH_S, Importer, Outcome, Progress, Shown, open_edge
from producers.imports.one_file import Asked
from producers.imports.remembering import remember
from producers.imports.settings import ImportSettings
from producers.imports.statuses import Statuses, read_statuses
from producers.imports.storage import Storage
from producers.imports.unpacking import Found
from producers.settings import EdgeSettings
from producers.stations.devices import publish, read_devices
from producers.stopping import sigterm_is_ctrl_c
from schemas.devices import Device
from schemas.errors import Refused, Unavailable
from schemas.records import ImportState, ImportStatus

LINES_MAX = 40  # of files, for a person
PLAIN_EVERY_S = 5.0  # between two lines where no bar can be drawn


@dataclass(frozen=True, slots=True)
class Run:
    """What is asked for."""

    kafka: str
    settings: ImportSettings
    device_id: str | None = None
    told: Stamping = field(default_factory=Stamping)
    description: Description | None = None
    password: str | None = None
    uploaded_by: str | None = None
    again: bool = False
    jobs: int = 1
    timeout_s: float = 60.0
    stored_s: float = 60.0
    within: Sequence[tuple[int, int]] | None = None

    def asked(self, statuses: dict[str, ImportStatus]) -> Asked:
        """With what the broker knows now. Raises `Unavailable`, and `Refused` for a device that is not there."""
        devices = read_devices(self.kafka)
        if self.device_id is not None and self.device_id not in devices:
            names = ", ".join(sorted(devices)[:10]) or "none"
            raise Refused(
                f"device {self.device_id} is not configured (configured: {names}); "
                "configure it with: telltale stations import FILE, or telltale stations adopt FILE"
            )
        return Asked(
            self.settings.archive_folder(),
            devices,
            learned(statuses.values()),
            device_id=self.device_id,
            told=self.told,
            description=self.description,
            password=self.password,
            uploaded_by=self.uploaded_by,
            within=self.within,
        )


def import_files(run: Run, paths: Sequence[Path], *, as_json: bool) -> None:
    """All of it. Raises `Refused` when a file was not taken, `Unavailable` when not all could be sent."""
    found: list[Found] = []
    broken: list[tuple[Found, str]] = []
    for one, why_not in found_in(paths):
        if why_not is None:
            found.append(one)
        else:
            broken.append((one, why_not))
    if not found and not broken:
        raise Refused(f"no file in {', '.join(map(str, paths))}")
    importer, finished, seconds = import_found(run, found, broken)
    if as_json:
        for each in importer.outcomes:
            click.echo(json.dumps(record(each), ensure_ascii=False))
    else:
        print_outcomes(importer, seconds)
    left = [each for each in importer.outcomes if each.status.state in _NOT_TAKEN]
    if not finished:
        raise Unavailable(
            f"{importer.why_stuck()}; what was read waits in {importer.edge.spool.folder}: "
            "run the same command again to go on where it ended"
        )
    if left:
        more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
        raise Refused(f"{left[0].status.reason}{more}")


_NOT_TAKEN = (ImportState.REFUSED, ImportState.UNKNOWN, ImportState.NEEDS_AN_ANSWER)


def import_found(
    run: Run, found: Sequence[Found], broken: Sequence[tuple[Found, str]] = ()
) -> tuple[Importer, bool, float]:
    """The importer when it is done, whether the broker has all, and how long it took."""
    started = time.monotonic()
    statuses = Statuses(run.kafka, known=read_statuses(run.kafka))
    asked = run.asked(statuses.known)
    edge = open_spool(run)
    storage = Storage(run.kafka)
    finished = False
    try:
        with sigterm_is_ctrl_c(), progress_bar(started) as shown:
            importer = Importer(edge, statuses, storage, asked, again=run.again, timeout_s=run.timeout_s, shown=shown)
            for one, why_not in broken:
                importer.refuse(one, why_not)
            importer.read(found, jobs=run.jobs)
            finished = importer.drain()
            _remember(run, importer)
            if finished and run.stored_s:
                importer.wait_stored(run.stored_s)
    except KeyboardInterrupt:
        raise Unavailable("stopped; run the same command again to go on where it ended") from None
    finally:
        edge.close(drain_s=1.0 if finished else 0.0)
        storage.close()
        untold = statuses.flush(FLUSH_S)
        if untold:
            click.echo(f"warning: {counted(untold, 'status', 'statuses')} could not be told to the broker", err=True)
    return importer, finished, time.monotonic() - started


def open_spool(run: Run) -> Edge:
    settings = EdgeSettings().model_copy(
        update={
            "device_id": None,
            "spool": run.settings.spool_folder(),
            "linger_s": 0.01,  # rows of a file are many at once: nothing is gained by waiting for more
            "live_share": 0.0,  # files are sent in the order in which they were read
        }
    )
    return open_edge(
        lambda: Edge(settings, address=run.kafka, beats=False),
        within_s=run.timeout_s,
        waits=lambda: click.echo("another import is at work; waiting for it to end", err=True),
    )


def _remember(run: Run, importer: Importer) -> None:
    """What a person said of a logger's clock goes into its device's configuration, for the next file."""
    changed: dict[str, Device] = {}
    configured = read_devices(run.kafka) if importer.learned else {}  # as it is now: files may have taken hours
    for (device_id, serial), told in importer.learned.items():
        device = changed.get(device_id) or configured.get(device_id)
        better = remember(device, serial, told) if device else None
        if better is not None:
            changed[device_id] = better
    if changed:
        publish(run.kafka, changed.values())
        click.echo(f"remembered what was said of the loggers of {', '.join(sorted(changed))}", err=True)


def record(outcome: Outcome) -> dict[str, Any]:
    """For scripts: the status, as the topic has it, and what was special about it in this run."""
    return {"file": outcome.found.source, **outcome.status.model_dump(mode="json"), "note": outcome.note or None}


def print_outcomes(importer: Importer, seconds: float) -> None:
    """A line for each file that needs somebody, and the sums."""
    counts: dict[str, int] = {}
    lines: list[str] = []
    for each in importer.outcomes:
        status = each.status
        word = "imported before" if each.note == "imported before" else status.state
        counts[word] = counts.get(word, 0) + 1
        said = f"{each.found.source}: {status.state}"
        if status.device_id:
            said += f", device {status.device_id}"
        if status.rows:
            said += f", {counted(status.rows, 'row')}, {counted(status.readings, 'reading')}"
        notes = [each.note, status.reason or ""]
        if status.left_out:
            notes.append(f"left out: {', '.join(status.left_out)}")
        if status.problems:
            notes.append(
                f"{counted(status.problems, 'line or cell', 'lines or cells')} could not be read, "
                f"the first in line {status.line}"
            )
        if status.looks_missing:
            notes.append(told_of(status.looks_missing))
        if len(importer.outcomes) <= LINES_MAX or any(notes[1:]):
            lines.append("; ".join([said, *filter(None, notes)]))
    for line in lines[:LINES_MAX]:
        click.echo(line)
    if len(lines) > LINES_MAX:
        click.echo(f"and {len(lines) - LINES_MAX:,} more that were not taken as they are: telltale imports list")
    rows = importer.progress.rows
    sums = ", ".join(f"{count:,} {word}" for word, count in sorted(counts.items()))
    click.echo(
        f"{counted(len(importer.outcomes), 'file')} in {seconds:.1f} s: {sums}; "
        f"{counted(rows, 'row')} read ({rows / seconds:,.0f}/s)"
    )


@contextmanager
def progress_bar(started: float) -> Iterator[Shown]:
    """What to call after each step: a bar on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _plain(started)
        return
    with counting_bar() as bar:
        task = bar.add_task("files", total=None, note="")

        def shown(at: Progress) -> None:
            rate = at.rows / max(0.1, time.monotonic() - started)
            note = f"{counted(at.rows, 'row')}, {rate:,.0f}/s, {counted(at.acknowledged, 'reading')} sent"
            note += f", {counted(at.stored, 'file')} stored"
            bar.update(task, completed=at.files, total=at.of, note=f"{note}  {at.name}")

        yield shown


def _plain(started: float) -> Shown:
    last = [time.monotonic()]

    def shown(at: Progress) -> None:
        now = time.monotonic()
        if now - last[0] < PLAIN_EVERY_S:
            return
        last[0] = now
        passed = now - started
        left = f", {passed / at.files * (at.of - at.files):,.0f} s left" if 0 < at.files < at.of else ""
        sys.stderr.write(
            f"{at.files:,} of {counted(at.of, 'file')} read, "
            f"{counted(at.rows, 'row')} ({at.rows / passed:,.0f}/s){left}; "
            f"{counted(at.acknowledged, 'reading')} sent, {counted(at.stored, 'file')} stored\n"
        )
        sys.stderr.flush()

    return shown
