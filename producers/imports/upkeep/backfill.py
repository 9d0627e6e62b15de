"""What the database lacks, read again: from the archive, from where files were found, from edges that keep it.

Gaps come from `telltale imports gaps --json`, the command of the service that knows the tables: services meet by
commands, topics and tables, not by imports.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from infra.counted import counted
from infra.stack import folder
from producers.files.logger_file import Stamping
from producers.imports.archive import Archive
from producers.imports.finding import found_in
from producers.imports.importer import Outcome
from producers.imports.run import Run, import_found, record
from producers.imports.settings import ImportSettings
from producers.imports.statuses import read_statuses
from producers.imports.unpacking import Found
from producers.spool.kept import ask
from producers.spool.look import spools
from producers.stations.devices import read_devices
from schemas.errors import Refused, Unavailable
from schemas.records import ImportState, ImportStatus

READ_AGAIN = (ImportState.SENDING, ImportState.SENT, ImportState.STORED)
RANGES_MAX = 2_000  # of one device at once; beyond it neighbours are joined, and somewhat more is read again

Range = tuple[int, int]  # [from, to) in UTC microseconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which gaps."""

    device: str | None = None
    station: str | None = None
    begin: str | None = None
    end: str | None = None
    database: str | None = None
    sources: Sequence[Path] = ()


@dataclass(slots=True)
class Report:
    """What was found and done."""

    gaps: int = 0
    missing: int = 0  # rows
    files: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)  # commands for edges on other machines
    left: int | None = None  # rows that are missing afterwards


def backfill_gaps(kafka: str, wanted: Wanted, *, dry_run: bool) -> Report:
    """Raises `Refused` and `Unavailable`."""
    configured = read_devices(kafka)

    def lacking() -> list[dict[str, Any]]:
        """Of a device that was removed nothing is wanted any more, unless somebody names it."""
        return [each for each in gaps(wanted) if each["device"] in configured or wanted.device is not None]

    found = lacking()
    report = Report(len(found), sum(each["missing"] for each in found))
    by_device: dict[str, list[Range]] = {}
    for each in found:
        by_device.setdefault(each["device"], []).append((_us(each["from"]), _us(each["to"])))
    settings = ImportSettings()
    statuses = read_statuses(kafka)
    run = Run(kafka, settings, again=True, jobs=settings.jobs)
    for device_id, ranges in by_device.items():
        ranges = joined(ranges)  # noqa: PLW2901 - of one device from here on
        files = [
            *_known(settings, statuses, device_id, ranges),
            *(one for one, why in found_in(wanted.sources) if not why),
        ]
        if dry_run:
            report.files += [{"file": one.source, "device": device_id, "state": "would be read again"} for one in files]
        elif files:
            importer, _, _ = import_found(
                replace(run, device_id=device_id, within=ranges, told=Stamping()), list(dict.fromkeys(files))
            )
            report.files += [_told(each) for each in importer.outcomes]
        _ask_edges(report, device_id, ranges, dry_run=dry_run)
    if found and not dry_run:
        report.left = sum(each["missing"] for each in lacking())
    return report


def _told(outcome: Outcome) -> dict[str, Any]:
    said = record(outcome)
    return {name: said[name] for name in ("file", "device_id", "state", "readings", "reason")}


def gaps(wanted: Wanted) -> list[dict[str, Any]]:
    """As `telltale imports gaps --json` has them. Raises what it says."""
    command = [sys.executable, "-P", "-m", "infra.command", "imports", "gaps", "--json", "--no-calendar"]
    for option, value in (
        ("--device", wanted.device),
        ("--station", wanted.station),
        ("--from", wanted.begin),
        ("--to", wanted.end),
        ("--database", wanted.database),
    ):
        command += [option, value] if value is not None else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no word"])[-1].removeprefix("error: ")
        raise (Refused if done.returncode == Refused.exit_code else Unavailable)(why)
    found: list[dict[str, Any]] = json.loads(done.stdout)["gaps"]
    return found


def joined(ranges: Sequence[Range], *, most: int = RANGES_MAX) -> list[Range]:
    """Ranges without overlap, in order; the nearest neighbours are joined until there are few enough."""
    out: list[Range] = []
    for begin, end in sorted(ranges):
        if out and begin <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((begin, end))
    while len(out) > most:
        holes = sorted(out[at + 1][0] - out[at][1] for at in range(len(out) - 1))
        width = holes[len(out) - most - 1]
        nearer: list[Range] = [out[0]]
        for begin, end in out[1:]:
            if begin - nearer[-1][1] <= width:
                nearer[-1] = (nearer[-1][0], end)
            else:
                nearer.append((begin, end))
        out = nearer
    return out


def _known(
    settings: ImportSettings, statuses: dict[str, ImportStatus], device_id: str, ranges: Sequence[Range]
) -> list[Found]:
    """Files of the device with rows in those ranges: as archived, else where they were found."""
    archive = Archive(settings.archive_folder())
    files = []
    for status in statuses.values():
        if status.device_id != device_id or status.state not in READ_AGAIN or status.first_time is None:
            continue
        first, last = _of(status.first_time), _of(status.last_time or status.first_time)
        if not any(begin <= last and first < end for begin, end in ranges):
            continue
        kept = None if status.archive is None else archive.path_of(status.archive)
        name, _, member = (status.source or "").partition("!")
        if kept is not None and kept.exists():
            files.append(Found(kept, label=status.source or status.name))
        elif name and Path(name).exists():
            files.append(Found(Path(name), member or None))
    return files


def _ask_edges(report: Report, device_id: str, ranges: Sequence[Range], *, dry_run: bool) -> None:
    """Spools on this machine that keep readings of the device; for others, what to type there."""
    begin, end = ranges[0][0], ranges[-1][1]
    for place in spools(folder() / "edge"):
        try:
            asked = ask(place, from_us=begin, to_us=end, device_id=device_id, dry_run=dry_run)
        except (Refused, Unavailable):
            continue  # it keeps nothing, or nothing of that time and device
        report.edges.append(
            {"spool": str(place), "device": device_id, "frames": asked.frames, "readings": asked.readings}
        )
    report.elsewhere.append(f"telltale edge spool resend --device {device_id} --from {_iso(begin)} --to {_iso(end)}")


def print_report(report: Report, *, as_json: bool, dry_run: bool) -> None:
    """What was done, and what is left to do by people."""
    if as_json:
        click.echo(
            json.dumps(
                {
                    "gaps": report.gaps,
                    "missing": report.missing,
                    "files": report.files,
                    "edges": report.edges,
                    "elsewhere": report.elsewhere,
                    "left": report.left,
                },
                ensure_ascii=False,
            )
        )
        return
    if not report.gaps:
        click.echo("no gap")
        return
    click.echo(f"{counted(report.gaps, 'gap')}, {counted(report.missing, 'row')} missing")
    for each in report.files:
        counts = f", {counted(each['readings'], 'reading')}" if each.get("readings") else ""
        reason = f" ({each['reason']})" if each.get("reason") else ""
        click.echo(f"{each['file']}: {each['state']}{counts}{reason}")
    for each in report.edges:
        verb = "would send" if dry_run else "sends"
        click.echo(f"{each['spool']} {verb} {counted(each['readings'], 'kept reading')} of {each['device']} again")
    if not report.files:
        click.echo("no imported file has rows of that time")
    if report.left is not None:
        click.echo(f"{counted(report.missing - report.left, 'row')} came back, {report.left:,} still missing")
    if report.left or dry_run:
        click.echo("an edge elsewhere that keeps readings (keep_s in edge.toml) sends them again with, there:")
        for command in report.elsewhere:
            click.echo(f"  {command}")


def _us(text: str) -> int:
    return _of(datetime.fromisoformat(text))


def _of(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)


def _iso(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat().replace("+00:00", "Z")
