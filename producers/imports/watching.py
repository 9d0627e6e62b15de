"""`telltale import watch`: folders as LoggerNet and the like write them, looked at again and again until it is stopped.

Files that grow are read on (`tails`); other files are imported whole when they have not changed between two looks.
A broker that is away stops nobody: rows wait in the spool, and what it knows of devices is asked again later.
"""

import hashlib
import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from producers.edge import Edge
from producers.files.described import Description
from producers.files.logger_file import Stamping
from producers.imports.archive import Archive
from producers.imports.finding import files_below
from producers.imports.growing import Growing
from producers.imports.identifying import learned
from producers.imports.importer import FLUSH_S, Importer
from producers.imports.one_file import Asked
from producers.imports.run import Run, open_spool
from producers.imports.settings import ImportSettings
from producers.imports.statuses import Statuses, read_statuses
from producers.imports.storage import Storage
from producers.imports.tails import Inode, grows
from producers.imports.unpacking import Found, first_bytes, members, packing
from producers.imports.upkeep.alarms import blocked, kept_alarms, reconcile
from producers.settings import default_spool
from producers.spool import DiskTrouble
from producers.stations.devices import read_devices
from producers.stopping import sigterm_is_ctrl_c
from schemas.errors import Refused, Unavailable
from schemas.records import ImportStatus

DEVICES_S = 10.0  # between two looks at how devices are configured
AWAY_S = 5.0  # between two tries of a broker that is away at the start
DRAIN_S = 5.0  # at the end; the rest waits in the spool

State = tuple[int, int]
Say = Callable[[ImportStatus], None]


@dataclass(frozen=True, slots=True)
class Watch:
    """What is asked for."""

    kafka: str
    settings: ImportSettings
    folders: Sequence[Path]
    pattern: str = "*"
    every_s: float = 5.0
    once: bool = False
    device_id: str | None = None
    told: Stamping = field(default_factory=Stamping)
    description: Description | None = None
    password: str | None = None
    uploaded_by: str | None = None

    def run(self) -> Run:
        """The same as an import, with a spool of its own: imports and other watches go on beside it."""
        first = str(self.folders[0].absolute())
        name = f"watch-{hashlib.sha256(first.encode(errors='replace')).hexdigest()[:12]}"
        settings = self.settings
        if settings.spool is None:
            settings = settings.model_copy(update={"spool": default_spool(name)})
        return Run(
            self.kafka,
            settings,
            device_id=self.device_id,
            told=self.told,
            description=self.description,
            password=self.password,
            uploaded_by=self.uploaded_by,
        )


def watch_folders(watch: Watch, *, as_json: bool) -> None:
    """Until Ctrl-C or SIGTERM. Raises `Refused` for folders that are none."""
    for folder in watch.folders:
        if not folder.is_dir():
            raise Refused(f"no such folder: {folder}")

    def say(status: ImportStatus) -> None:
        click.echo(status.model_dump_json() if as_json else _line(status))

    with sigterm_is_ctrl_c():
        try:
            watching = _opened(watch, say)
        except KeyboardInterrupt:
            return
        try:
            watching.run()
        except KeyboardInterrupt:
            click.echo(
                "stopped; what was read is in the spool or sent, and the next watch goes on from there", err=True
            )
        finally:
            watching.close()


def _line(status: ImportStatus) -> str:
    words = [f"{status.source or status.name}: {status.state}"]
    if status.device_id:
        words.append(f"device {status.device_id}")
    if status.rows:
        words.append(f"{status.sent:,} of {status.rows:,} rows")
    if status.reason:
        words.append(status.reason)
    return ", ".join(words)


def _opened(watch: Watch, say: Say) -> "Watching":
    """Waits for a broker that is away, as long as it takes."""
    told = False
    while True:
        try:
            statuses = Statuses(watch.kafka, known=read_statuses(watch.kafka))
            asked = watch.run().asked(statuses.known)
            break
        except Unavailable as error:
            if watch.once:
                raise
            if not told:
                click.echo(f"{error}; waiting for it", err=True)
                told = True
            time.sleep(AWAY_S)
    return Watching(watch, open_spool(watch.run()), statuses, asked, say)


class Watching:
    """One watch. `look` is one look at everything."""

    def __init__(self, watch: Watch, edge: Edge, statuses: Statuses, asked: Asked, say: Say) -> None:
        self._watch, self._edge, self._statuses, self._say = watch, edge, statuses, say
        self._storage = Storage(watch.kafka)
        self._importer = Importer(edge, statuses, self._storage, asked)
        self._growing = Growing(
            edge,
            statuses,
            self._importer,
            Archive(asked.archive),
            description=watch.description,
            told=watch.told,
            uploaded_by=watch.uploaded_by,
            say=self._tell_people,
            settle=self._turn,
        )
        self._seen: dict[Path, State] = {}
        self._done: dict[Path, State] = {}
        self._said: dict[str, tuple[str, str | None]] = {}
        self._devices_at = time.monotonic()
        self._alarms = kept_alarms(watch.kafka, edge.spool.folder.name)
        self._disk = ""  # what is wrong with it, as last told
        self._growing.recall()

    def run(self) -> None:
        """Looks, until it is stopped; with `once`, until all that is there is stored."""
        looks = 0
        while True:
            self.look()
            looks += 1
            if self._watch.once and looks >= 2:
                self._finish()
                return
            self._pause(self._watch.every_s)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._turn()
            time.sleep(min(left, 0.5))

    def _turn(self) -> None:
        """What has become of what is on its way."""
        self._importer.settle()
        with suppress(Unavailable):  # told by the statuses that do not move on
            self._importer.look_stored()
        for status in self._importer.under_way():
            self._tell_people(status)

    def _tell_people(self, status: ImportStatus) -> None:
        now = (str(status.state), status.reason)
        if self._said.get(status.sha256) != now:
            self._said[status.sha256] = now
            self._say(status)

    def _finish(self) -> None:
        settings = self._watch.settings
        if not self._importer.drain():
            raise Unavailable(f"{self._importer.why_stuck()}; what was read waits in {self._edge.spool.folder}")
        self._importer.wait_stored(settings.stored_s)
        self._turn()

    def close(self) -> None:
        self._edge.close(drain_s=DRAIN_S)
        self._importer.settle_quietly()
        self._storage.close()
        self._statuses.flush(FLUSH_S)

    # one look

    def look(self) -> None:
        """At all files of all folders, the oldest change first."""
        self._ask_devices()
        there: dict[Path, tuple[int, int, Inode]] = {}
        for folder in self._watch.folders:
            for path in files_below(folder, self._watch.pattern):
                with suppress(OSError):
                    about = path.stat()
                    there[path] = (about.st_mtime_ns, about.st_size, (about.st_dev, about.st_ino))
        inodes = {inode for _, _, inode in there.values()}
        disk, self._disk = self._disk, ""
        for path, (changed, size, _) in sorted(there.items(), key=lambda each: (each[1][0], each[0])):
            if size and self._done.get(path) != (size, changed):
                self._take(path, (size, changed), inodes)
        self._seen = {path: (size, changed) for path, (changed, size, _) in there.items()}
        self._done = {path: state for path, state in self._done.items() if path in there}
        self._growing.archive_gone(there=inodes.__contains__)
        self._turn()
        self._importer.forget_settled()
        if self._disk and not disk:
            click.echo(self._disk, err=True)
        source = f"imports/{self._watch.folders[0].absolute()}"
        found = [blocked(self._disk, source=source)] if self._disk else []
        reconcile(self._alarms, found, now=datetime.now(UTC))
        self._alarms.ring()

    def _take(self, path: Path, state: State, inodes: Set[Inode]) -> None:
        try:
            first = first_bytes(path, 65_536)
            if packing(first) is None and grows(path, first, self._watch.description):
                if self._growing.read_on(path, there=inodes.__contains__):
                    self._done[path] = state
            elif self._seen.get(path) == state:
                self._import_whole(path)
                self._done[path] = state
        except FileNotFoundError:
            return  # renamed between two looks
        except DiskTrouble as trouble:
            self._disk = str(trouble)
        except Unavailable as error:
            if path.exists():
                click.echo(f"{path}: {error}", err=True)

    def _import_whole(self, path: Path) -> None:
        try:
            found = members(path)
        except Refused as error:
            self._importer.refuse(Found(path), str(error))
            found = []
        if found:
            self._importer.read(found, jobs=1)
        for outcome in self._importer.outcomes:
            self._tell_people(outcome.status)

    def _ask_devices(self) -> None:
        if time.monotonic() - self._devices_at < DEVICES_S and self._importer.asked.devices:
            return
        self._devices_at = time.monotonic()
        with suppress(Unavailable):
            devices = read_devices(self._watch.kafka)
            if devices != self._importer.asked.devices:
                self._done = {}
            taken = learned(self._statuses.known.values())
            self._importer.asked = replace(self._importer.asked, devices=devices, taken=taken)
