"""Backups as they lie on disk: one folder each, complete as soon as it has its name. Knows files; knows no database.

    BACKUPS/telltale-20261123T113307Z/dump            pg_dump's custom format
                                     /manifest.json   what is in it; written last
                                     /verified.json   when a restored copy last equalled it
    BACKUPS/telltale-20261123T123307Z.partial/        being made, or left by one that was killed

All is private: a dump holds password hashes.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.backup.contents import Table
from infra.record_file import write
from schemas.errors import Refused, Unavailable
from schemas.records import Utc

PARTIAL = ".partial"
DUMP, MANIFEST, VERIFIED = "dump", "manifest.json", "verified.json"


class Manifest(BaseModel):
    """What a backup holds, as counted in the dump's own snapshot."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    database: str
    taken: Utc  # moment of the snapshot
    seconds: float
    server: str
    timescaledb: str | None
    migrations: tuple[str, ...]
    bytes: int
    sha256: str  # of the dump
    tables: dict[str, Table]

    @property
    def server_major(self) -> int:
        """15 of "15.18 (Debian 15.18-0)"; the 19 of "19beta2"."""
        return int(re.match(r"\d*", self.server)[0] or 0)  # type: ignore[index]  # it matches anything

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())


class Verified(BaseModel):
    """When and where a restored copy equalled the backup."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: Utc
    seconds: float
    server: str


@dataclass(frozen=True, slots=True)
class Backup:
    """A complete backup."""

    path: Path
    manifest: Manifest
    verified: Verified | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def dump(self) -> Path:
        return self.path / DUMP

    def told(self) -> dict[str, object]:
        """For people and scripts."""
        verified = self.verified.at.isoformat() if self.verified else None
        shown = self.manifest.model_dump(mode="json", exclude={"tables", "format"})
        return {"name": self.name, "path": str(self.path), "rows": self.manifest.rows, "verified": verified, **shown}


class Folder:
    """The folder that holds the backups. Made when something is first written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def backups(self, database: str | None = None) -> list[Backup]:
        """Complete backups that can be read, newest first; of one database, or of all."""
        found = []
        for path in self._folders():
            with suppress(Unavailable):
                found.append(self.read(path))
        chosen = [each for each in found if database in (None, each.manifest.database)]
        return sorted(chosen, key=lambda each: (each.manifest.taken, each.name), reverse=True)

    def damaged(self) -> list[str]:
        """What looks like a backup and is none, a line for each."""
        found = []
        for path in self._folders():
            try:
                self.read(path)
            except Unavailable as error:
                found.append(str(error))
        return found

    def named(self, name: str | None) -> Backup:
        """The backup of that name or path; without one, the newest. Raises `Refused`."""
        if name is None:
            if backups := self.backups():
                return backups[0]
            raise Refused(f"no backup in {self.path}; make one with: telltale backup create")
        path = Path(name) if os.sep in name else self.path / name
        if path.name.endswith(PARTIAL):
            raise Refused(f"{path.name} was never finished; it is no backup")
        if not path.is_dir():
            there = ", ".join(each.name for each in self.backups()[:5]) or "none"
            raise Refused(f"no backup {path}; expected one of: {there}")
        return self.read(path)

    @staticmethod
    def read(path: Path) -> Backup:
        """The backup in `path`. Raises `Unavailable` if it is damaged."""
        try:
            manifest = Manifest.model_validate_json((path / MANIFEST).read_bytes())
            verified = path / VERIFIED
            return Backup(
                path, manifest, Verified.model_validate_json(verified.read_bytes()) if verified.exists() else None
            )
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error.errors()[0]["msg"])
            raise Unavailable(f"backup {path} is damaged: {why}; move it away") from None

    @contextmanager
    def held(self) -> Iterator[int]:
        """Holds the folder against other makers of backups; yields the lock, which a child may inherit so that it
        holds on. What a killed maker left is removed. Raises `Refused`, `Unavailable`."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Refused(f"folder {self.path}: {error.strerror}; name another one with --folder") from None
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable(f"another backup is at work in {self.path}") from None
            for left in self.path.glob(f"*{PARTIAL}"):
                shutil.rmtree(left, ignore_errors=True)
            yield lock
        finally:
            os.close(lock)

    @contextmanager
    def making(self, database: str, taken: datetime) -> Iterator[Path]:
        """A folder to be filled; it becomes a backup when the block ends well, and vanishes when it does not."""
        stem = name = f"{re.sub(r'[^A-Za-z0-9_.-]', '_', database)}-{taken:%Y%m%dT%H%M%SZ}"
        number = 1
        while (self.path / name).exists():
            number += 1
            name = f"{stem}-{number}"
        partial = self.path / (name + PARTIAL)
        partial.mkdir(mode=0o700)
        try:
            yield partial
            for file in partial.iterdir():
                _to_disk(file)
            _to_disk(partial)
            partial.rename(self.path / name)
            _to_disk(self.path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def keep(self, count: int, *, database: str, now: datetime) -> list[str]:
        """Removes all but the newest `count` backups of a database, never the newest that was verified; their names.

        Those from the future, of a clock that was wrong, do not count until they are of the past.
        """
        backups = [each for each in self.backups(database) if each.manifest.taken <= now]
        last_verified = next((each for each in backups if each.verified), None)
        gone = [each for each in backups[count:] if each is not last_verified]
        for each in gone:
            # A half removed one must not look like a backup.
            going = each.path.with_name(each.name + PARTIAL)
            shutil.rmtree(going, ignore_errors=True)
            each.path.rename(going)
            shutil.rmtree(going, ignore_errors=True)
        return [each.name for each in gone]

    def _folders(self) -> list[Path]:
        if not self.path.is_dir():
            return []
        ours = {path.parent for name in (DUMP, MANIFEST) for path in self.path.glob(f"*/{name}")}
        return sorted(path for path in ours if not path.name.endswith(PARTIAL))


def note_verified(backup: Backup, verified: Verified) -> Backup:
    """Notes beside the backup that it was verified."""
    write(backup.path / VERIFIED, verified)
    return Backup(backup.path, backup.manifest, verified)


def forget_verified(backup: Backup) -> None:
    """What was true once is not any more."""
    (backup.path / VERIFIED).unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    place = os.open(path, os.O_RDONLY)
    try:
        os.fsync(place)
    finally:
        os.close(place)
