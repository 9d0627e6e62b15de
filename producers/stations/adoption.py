"""`telltale stations adopt` without its printing: opens the file, finds the device, makes the proposal."""

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from infra.counted import counted
from producers.files.described import Description
from producers.files.logger_file import LoggerFile, Stamping
from producers.files.recognise import recognise
from producers.files.stamps import merged, open_questions
from producers.imports.archive import Archive, Kept
from producers.imports.identifying import same_serial, value_columns
from producers.imports.settings import ImportSettings
from producers.imports.unpacking import members
from producers.stations.adopting import Proposal, propose
from schemas.devices import Device
from schemas.errors import Refused

ROWS_LOOKED_AT = 20_000  # for the step between rows


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the person said."""

    device_id: str | None = None
    station: str | None = None
    told: Stamping = field(default_factory=Stamping)
    leave_out: frozenset[str] = frozenset()
    leave_out_new: bool = False
    description: Description | None = None
    who: str = ""


@dataclass(frozen=True, slots=True)
class Adoption:
    """The proposal, and what is still open about it."""

    proposal: Proposal
    questions: tuple[str, ...]

    def lines(self, *, dry_run: bool) -> Iterator[str]:
        """For a person, below the table."""
        made = self.proposal
        done = "would be " if dry_run else ""
        if made.is_known:
            new = f"{len(made.new)} new channels ({', '.join(made.new)})" if made.new else "no new channel"
            yield f"device {made.device.device_id} {done}extended: {new}, and the program of the file accepted"
        else:
            yield f"device {made.device.device_id} {done}configured: {counted(len(made.new), 'channel')}"
        if made.left_out:
            yield f"left out: {', '.join(made.left_out)}"
        for question in self.questions:
            yield f"still open, files wait for it: {question}"


def adoption(file: str, devices: Mapping[str, Device], wanted: Wanted, *, now: datetime) -> Adoption:
    """Raises `Refused` for a file that cannot be read or a device that cannot be meant."""
    with tempfile.TemporaryDirectory(prefix="telltale-adopt-") as folder:
        kept = opened(file, Path(folder))
        read = recognise(kept, wanted.description, told=wanted.told)
        rows = recognise(kept, wanted.description, told=wanted.told)
        interval_s = None if read.questions else step_of(rows)
        known = _known(read, devices, wanted, interval_s)
        leave_out = set(wanted.leave_out)
        unheard = leave_out - set(value_columns(read.columns))
        if unheard:
            raise Refused(f"--leave-out {', '.join(sorted(unheard))}: {kept.name} has no such column")
        if wanted.leave_out_new:
            if known is None:
                raise Refused("--leave-out-new is for devices that are configured; this logger is not known yet")
            leave_out |= set(value_columns(read.columns)) - {sensor.channel for sensor in known.sensors}
        leave_out |= rows.tally.texts - {sensor.channel for sensor in (known.sensors if known else ())}
        stamping = merged(wanted.told, read.stamping, read.custom)
        made = propose(
            read.identity,
            read.columns,
            stamping=stamping,
            interval_s=interval_s,
            known=known,
            device_id=wanted.device_id,
            station=wanted.station,
            leave_out=leave_out,
            now=now,
            who=wanted.who,
        )
    logger = made.device.loggers[-1]
    said = merged(
        Stamping(logger.utc_offset_minutes, logger.stamp, logger.interval_s or made.device.interval_s), stamping
    )
    return Adoption(made, (*read.questions, *open_questions(said)))


def _known(read: LoggerFile, devices: Mapping[str, Device], wanted: Wanted, interval_s: float | None) -> Device | None:
    """The device that is extended. One logger with tables of different steps is several devices."""
    if wanted.device_id is not None:
        return devices.get(wanted.device_id)
    serial = read.identity.serial
    mine = [one for one in devices.values() if any(same_serial(each.serial, serial) for each in one.loggers)]
    same_step = [one for one in mine if None in (one.interval_s, interval_s) or one.interval_s == interval_s]
    if len(same_step) > 1:
        names = ", ".join(sorted(one.device_id for one in same_step))
        raise Refused(f"several devices have this logger ({names}): say which one with --device ID")
    return same_step[0] if same_step else None


def opened(file: str, folder: Path) -> Kept:
    """A file by its path, by `archive!member`, or by the beginning of its hash. Raises `Refused`."""
    name, _, member = file.partition("!")
    path = Path(name)
    if path.exists():
        inside = [one for one in members(path) if member in ("", one.member)]
        if len(inside) != 1:
            names = ", ".join(str(one.member) for one in inside[:10]) or "none"
            raise Refused(f"which of the members of {path.name}? Write {path.name}!MEMBER; there are: {names}")
        return Archive(folder).keep(inside[0])
    archive = Archive(ImportSettings().archive_folder())
    if all(letter in "0123456789abcdef" for letter in name) and len(name) >= 4:
        return archive.find(name)
    raise Refused(f"no such file: {file}")


def step_of(file: LoggerFile) -> float | None:
    """The most common step between rows, seconds; None for fewer than two."""
    stamps = []
    count = 0
    for chunk in file.chunks(lambda column: column.name):
        stamps.append(chunk.stamps)
        count += len(chunk.stamps)
        if count > ROWS_LOOKED_AT:
            break
    if not stamps:
        return None
    steps = np.diff(np.concatenate(stamps))
    steps = steps[steps > 0]
    if not len(steps):
        return None
    return float(Counter(steps.tolist()).most_common(1)[0][0] / 1e6)
