"""Making a backup: a dump, and what it holds, both of one snapshot. The source may be written to all the while."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from infra.backup import server
from infra.backup.contents import Table, contents, settle, tables, timescaledb
from infra.backup.folder import DUMP, MANIFEST, Backup, Folder, Manifest, sha256
from infra.database import first_line
from infra.postgres.programs import Programs, find_clients
from infra.record_file import write
from schemas.errors import Refused, Unavailable

S_MAX = 6 * 3600.0
"""Above it, something hangs; a database that takes longer wants a physical backup."""

# gzip's quickest level: 2.5 times quicker than the default for a tenth more bytes, and every pg_dump has it.
ARGUMENTS = ("--format=custom", "--compress=1", "--no-sync", "--lock-wait-timeout=60s")

MIGRATIONS = "SELECT name FROM public.migrations ORDER BY name"


def create(dsn: str, folder: Folder, *, clock: Callable[[], datetime], s_max: float = S_MAX) -> Backup:
    """Makes a backup of the database. Raises `Refused`, `Unavailable`; then there is none."""
    began = time.monotonic()
    with folder.held() as lock, server.connect(dsn) as connection:
        programs = find_clients(major=connection.info.server_version // 10_000)
        settle(connection)
        try:
            migrations = [name for (name,) in connection.execute(MIGRATIONS)]
        except psycopg.errors.UndefinedTable:
            raise Refused(
                f"database {connection.info.dbname} has no schema of Telltale's: nothing to back up"
            ) from None
        taken = clock()
        with folder.making(connection.info.dbname, taken) as place:
            try:
                connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{s_max:.0f}s",))
                found = _dump(connection, programs, dsn=dsn, place=place, lock=lock, s_max=s_max)
                manifest = Manifest(
                    database=connection.info.dbname,
                    taken=taken,
                    seconds=round(time.monotonic() - began, 2),
                    server=connection.info.parameter_status("server_version") or "",
                    timescaledb=timescaledb(connection),
                    migrations=tuple(migrations),
                    bytes=(place / DUMP).stat().st_size,
                    sha256=sha256(place / DUMP),
                    tables=found,
                )
                write(place / MANIFEST, manifest)
            except psycopg.Error as error:
                raise Unavailable(f"database: {first_line(error)}") from None
            except OSError as error:
                raise Unavailable(f"{folder.path}: {error.strerror or error}") from None
            name = place.name.removesuffix(".partial")
        return folder.read(folder.path / name)


def _dump(
    connection: psycopg.Connection[Any], programs: Programs, *, dsn: str, place: Path, lock: int, s_max: float
) -> dict[str, Table]:
    """Dumps and counts at the same time: pg_dump joins our snapshot."""
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM
        # Retention may drop what the snapshot still has, and pg_dump needs a while to lock all it wants.
        names = sql.SQL(", ").join(sql.Identifier(schema, name) for schema, name in tables(connection))
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names))
        arguments = [*ARGUMENTS, f"--snapshot={row[0]}", f"--file={place / DUMP}"]
        program = programs.program("pg_dump")
        with server.run(program, arguments, dsn=dsn, s_max=s_max, inherit=lock) as dump:
            found = contents(connection)
            dump.finish()
    return found
