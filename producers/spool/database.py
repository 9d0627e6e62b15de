"""The spool's SQLite file: how it is made, opened and, when damaged, set aside. Knows files and pragmas.

WAL with `synchronous=FULL`: a commit has returned means it is on disk. The opening scan reads every group's record,
so a damaged page is met here and not in the middle of sending; the bodies have a checksum of their own.
"""

import os
import shutil
import sqlite3
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

from schemas.errors import Refused, Unavailable

NAME = "spool.db"
SCHEMA_VERSION = 1
WAITS = "to-recover"
"""Lies beside a database that was set aside until what can be read of it is in the new one."""
RESERVE = "reserve"
RESERVE_BYTES = 8 * 1024 * 1024
"""Given up when the disk is full, so that a spool can still be opened, sent and emptied: SQLite needs room even to
delete. Twice what the WAL grows to before its pages move into the database, which must find room for them."""

WAL_BYTES_KEPT = 16 * 1024 * 1024  # a WAL that a long transaction blew up is cut back to this

_PRAGMAS = (
    "pragma auto_vacuum = incremental",  # only takes effect in a new file
    "pragma journal_mode = wal",
    "pragma synchronous = full",
    f"pragma journal_size_limit = {WAL_BYTES_KEPT}",
    "pragma wal_autocheckpoint = 1000",
    "pragma cache_size = -2000",
    "pragma temp_store = memory",
)


def connect(folder: Path, *, created_us: int) -> sqlite3.Connection:
    """The writer's connection. Raises `sqlite3.DatabaseError` on a damaged file, `Refused` on another version."""
    path = folder / NAME
    connection = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
    try:
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        version = connection.execute("pragma user_version").fetchone()[0]
        if version == 0:
            _create(connection, created_us)
            _sync_folder(folder)
        elif version != SCHEMA_VERSION:
            raise Refused(
                f"{path} is of version {version}, this Telltale reads version {SCHEMA_VERSION}: update Telltale"
            )
        # Also in spools that were made before anything could be kept; with the table there, nothing is written.
        connection.executescript((files("producers.spool") / "kept.sql").read_text())
        connection.execute("select count(*), sum(readings), sum(length(body)) from groups").fetchone()
        connection.execute("select count(*), sum(sequence) from framed").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection, created_us: int) -> None:
    """All or nothing: a kill in the middle leaves version 0."""
    schema = (files("producers.spool") / "schema.sql").read_text()
    connection.executescript(f"begin immediate;\n{schema}")
    connection.execute("insert into spools (spool_id, created_us) values (?, ?)", (uuid4().hex, created_us))
    connection.execute("commit")


def _sync_folder(folder: Path) -> None:
    """The new file's name on disk too, where the system can do that."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def reader(folder: Path) -> sqlite3.Connection:
    """A connection that looks on and never writes. Raises `Refused` where there is no spool."""
    path = folder / NAME
    if not path.is_file():
        raise Refused(f"no spool in {folder}")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=10)
    connection.execute("pragma query_only = on")
    return connection


def keeps(connection: sqlite3.Connection) -> bool:
    """Whether the spool's file knows of keeping: one made by an earlier Telltale learns it when its writer opens it."""
    return connection.execute("select 1 from sqlite_master where name = 'kept'").fetchone() is not None


def set_aside(folder: Path, *, stamp: str) -> None:
    """Move a damaged database out of the way, into a folder that waits to be recovered from."""
    aside = folder / f"damaged-{stamp}"
    try:
        aside.mkdir()
        (aside / WAITS).touch()
        _sync_folder(aside)
        _move(folder, aside)
    except OSError as error:
        raise Unavailable(f"spool {folder} is damaged and cannot be set aside: {error}") from None


def waiting_aside(folder: Path) -> list[Path]:
    """Where damaged databases lie that have not been recovered from, the oldest first: a full disk or a kill may come
    in between. A move that was cut short is finished."""
    found = sorted(path.parent for path in folder.glob(f"damaged-*/{WAITS}"))
    for aside in found:
        if not (aside / NAME).exists():
            _move(folder, aside)
    return found


def _move(folder: Path, aside: Path) -> None:
    """The file itself last: where it is not, the move is not over."""
    for suffix in ("-wal", "-shm", ""):
        part = folder / f"{NAME}{suffix}"
        if part.exists():
            part.rename(aside / part.name)
    _sync_folder(aside)
    _sync_folder(folder)


def make_reserve(folder: Path) -> None:
    """Takes room while there is plenty; says nothing when there is not."""
    path = folder / RESERVE
    if not path.exists() and shutil.disk_usage(folder).free > 2 * RESERVE_BYTES:
        with suppress(OSError):
            path.write_bytes(os.urandom(RESERVE_BYTES))  # no file system can make a hole of it


def free_reserve(folder: Path, connection: sqlite3.Connection | None = None) -> bool:
    """Whether there was any room left to free. With it the WAL is emptied, which gives back its own room."""
    try:
        (folder / RESERVE).unlink()
    except OSError:
        return False
    if connection is not None:
        with suppress(sqlite3.OperationalError):
            connection.execute("pragma wal_checkpoint(truncate)").fetchall()
    return True
