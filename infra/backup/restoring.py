"""A backup becomes a database again: filled into a scratch database, compared with what was counted when it was made,
given to the schema's own check; then dropped (verification) or exchanged with the one it replaces (restore).

So a restore that fails has touched nothing. TimescaleDB is in its restoring mode until all is compared: its jobs
(retention, compression, refreshes) would change a copy of last month at once.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from infra.backup import server
from infra.backup.contents import contents, differences, settle, tables
from infra.backup.folder import Backup, Verified, forget_verified, note_verified, sha256
from infra.database import first_line
from infra.postgres.programs import find_clients
from infra.readiness import READY_FILE
from schemas.errors import Refused, Unavailable

S_MAX = 12 * 3600.0
"""Above it, something hangs. A restore builds indexes and takes some three times as long as the dump."""
SCRATCH = "_telltale_scratch"
REPLACED = "_telltale_replaced"
NAME_BYTES_MAX = 63
JOBS_MAX = 4
SCHEMA_CHECK = ("db", "migrate")
"""The command that brings a schema up to date, and refuses one that is newer than this Telltale or was edited."""


class Unverifiable(Unavailable):
    """The backup does not give back what it was made of."""


def verify(dsn: str, backup: Backup, *, clock: Callable[[], datetime], s_max: float = S_MAX) -> Backup:
    """Restores into a scratch database on the server of `dsn` and compares every table. Raises `Unverifiable` when the
    backup is bad, `Unavailable` or `Refused` when it could not be tried."""
    began = time.monotonic()
    with server.maintaining(dsn) as beside:
        try:
            with _scratch(beside, dsn, backup, s_max=s_max, privileges=False):
                told = Verified(at=clock(), seconds=round(time.monotonic() - began, 2), server=_version(beside))
        except Unverifiable:
            forget_verified(backup)
            raise
    return note_verified(backup, told)


def restore(
    dsn: str, backup: Backup, *, into: str | None, force: bool, privileges: bool = True, s_max: float = S_MAX
) -> str:
    """Restores into the database of `dsn`, or beside it into database `into`; its name.

    A database that holds tables is replaced only with `force`, and only when the restored one equals the backup.
    Its sessions are ended. Raises `Refused`, `Unavailable`, `Unverifiable`.
    """
    if into is not None and not into.strip():  # of a script's empty variable; the database of `dsn` is not meant
        raise Refused(f'--into: expected the name of a database, got "{into}"')
    database = into or server.database_of(dsn)
    if len(database.encode()) > NAME_BYTES_MAX:
        raise Refused(f"--into: a database's name has {NAME_BYTES_MAX} bytes at most, got {len(database.encode())}")
    if database in server.MAINTENANCE:
        raise Refused(f"{database} is the server's own database; name another one with --into")
    target = server.at(dsn, database)
    with server.maintaining(target) as beside:
        if server.exists(beside, database) and not force:
            with server.connect(target) as connection:
                held = tables(connection)
            if held:
                raise Refused(
                    f"database {database} holds {len(held)} tables; "
                    "--force replaces it once the backup is restored, --into NAME restores beside it"
                )
        with _scratch(beside, target, backup, s_max=s_max, privileges=privileges) as scratch:
            with server.connect(server.at(dsn, scratch)) as connection:
                connection.execute("ANALYZE")
            replaced = _beside(database, REPLACED)
            server.drop(beside, replaced)
            server.exchange(beside, new=scratch, database=database, old=replaced)
            server.drop(beside, replaced)
    return database


@contextmanager
def _scratch(
    beside: psycopg.Connection[Any], dsn: str, backup: Backup, *, s_max: float, privileges: bool
) -> Iterator[str]:
    """The name of a new database that equals the backup; dropped in the end, if it still has that name."""
    if not backup.dump.is_file():
        raise Unverifiable(f"{backup.name}: the dump is not there")
    if sha256(backup.dump) != backup.manifest.sha256:
        raise Unverifiable(f"{backup.name}: the dump's bytes are not those that were written (SHA-256 differs)")
    name = _beside(server.database_of(dsn), SCRATCH)
    address = server.at(dsn, name)
    server.drop(beside, name)  # left by one that was killed
    server.make(beside, name)
    try:
        _fill(address, backup, s_max=s_max, privileges=privileges)
        _compare(address, backup)
        _end_restoring(address, backup)
        _check_schema(address, backup)
        yield name
    except psycopg.Error as error:
        raise Unavailable(f"database: {first_line(error)}") from None
    finally:
        if not beside.broken:
            server.drop(beside, name)


def _beside(database: str, ending: str) -> str:
    return database.encode()[: NAME_BYTES_MAX - len(ending)].decode(errors="ignore") + ending


def _version(connection: psycopg.Connection[Any]) -> str:
    return connection.info.parameter_status("server_version") or ""


def _fill(dsn: str, backup: Backup, *, s_max: float, privileges: bool) -> None:
    """pg_restore, with TimescaleDB's steps around it where the backup has the extension."""
    wants = backup.manifest.timescaledb
    if wants:
        _begin_restoring(dsn, wants)
    with server.connect(dsn) as connection:
        major = max(connection.info.server_version // 10_000, backup.manifest.server_major)
    # TimescaleDB's catalogue does not survive parallel jobs.
    jobs = 1 if wants else min(JOBS_MAX, os.cpu_count() or 1)
    arguments = ["--exit-on-error", "--no-owner", f"--jobs={jobs}", str(backup.dump)]
    if not privileges:
        arguments.insert(0, "--no-privileges")
    program = find_clients(major=major).program("pg_restore")
    with server.run(program, arguments, dsn=dsn, s_max=s_max) as restoring:
        restoring.finish()


def _begin_restoring(dsn: str, version: str) -> None:
    with server.connect(dsn) as connection:
        known = [
            name for (name,) in connection.execute(
                "SELECT version FROM pg_available_extension_versions WHERE name = 'timescaledb' ORDER BY 1"
            )
        ]  # fmt: skip
        if version not in known:
            raise Refused(
                f"the backup was made with TimescaleDB {version}; this server offers {', '.join(known) or 'none'}"
            )
        statement = sql.SQL("CREATE EXTENSION timescaledb VERSION {}").format(sql.Literal(version))
        connection.execute(statement)
    with server.connect(dsn) as connection:
        connection.execute("SELECT timescaledb_pre_restore()")


def _compare(dsn: str, backup: Backup) -> None:
    """Raises `Unverifiable` unless each table holds what the manifest says."""
    with server.connect(dsn) as connection:
        settle(connection)
        if backup.manifest.timescaledb:
            # For this session alone the extension works; its jobs still do not.
            connection.execute("SET timescaledb.restoring = off")
        found = contents(connection)
    wrong = list(differences(backup.manifest.tables, found))
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise Unverifiable(f"{backup.name} does not give back what it was made of: {'; '.join(wrong[:3])}{more}")


def _end_restoring(dsn: str, backup: Backup) -> None:
    if backup.manifest.timescaledb:
        with server.connect(dsn) as connection:
            connection.execute("SELECT timescaledb_post_restore()")


def _check_schema(dsn: str, backup: Backup) -> None:
    """Lets the schema's owner look at it, as a service would at its start. Raises `Refused`."""
    command = [sys.executable, "-P", "-m", "infra.command", *SCHEMA_CHECK]
    # As of a service: this is no deed of a person for the audit log, and still less for the scratch database's.
    environment = {**os.environ, "TELLTALE_DATABASE": dsn, READY_FILE: os.devnull}
    asked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if asked.returncode != 0:
        said = (asked.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")
        raise (Refused if asked.returncode == Refused.exit_code else Unavailable)(f"{backup.name}: {said}")
