"""The database's schema: numbered SQL files, applied once, in order, in one transaction; recorded with checksums.

`NNNN_name.sql` is for every database. `NNNN_name.FLAVOUR.sql` only where it fits: `plain` or `timescaledb` for tables
that grow with time, `views` or `aggregates` for statistics over them (continuous aggregates need TimescaleDB's own
licence). What a database was made with it keeps: a flavour is chosen at the first migration.
"""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg
import structlog

from schemas.errors import Refused

log = structlog.get_logger(__name__)

# The lock on this table lets one starter at a time go on, also where advisory locks exclude nobody (PGlite).
RECORD = """
CREATE TABLE IF NOT EXISTS migrations (
  name     text PRIMARY KEY,
  checksum text NOT NULL,
  applied  timestamptz NOT NULL DEFAULT now()
)"""
LOCK = "LOCK TABLE migrations IN SHARE ROW EXCLUSIVE MODE"
APPLIED = "SELECT name, checksum FROM migrations ORDER BY name"
NOTE = "INSERT INTO migrations (name, checksum) VALUES (%s, %s)"
HAS_RECORD = "SELECT to_regclass('migrations') IS NOT NULL"
OFFERED = "SELECT installed_version FROM pg_available_extensions WHERE name = 'timescaledb'"
LICENCE = "SELECT current_setting('timescaledb.license', true)"

PLAIN = frozenset({"plain", "views"})
TIMESCALE_APACHE = frozenset({"timescaledb", "views"})
TIMESCALE = frozenset({"timescaledb", "aggregates"})


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def flavour(self) -> str | None:
        """None: for every database."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 2 else None


def migrations() -> list[Migration]:
    """All files of the package, in order."""
    folder = files("sinks.timescale") / "migrations"
    found = [Migration(file.name, file.read_text()) for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(found, key=lambda migration: migration.name)


def pending(applied: Mapping[str, str], *, flavours: frozenset[str], known: Iterable[Migration]) -> list[Migration]:
    """What is still to be applied. Raises `Refused` for a schema that is newer than ours or was edited."""
    by_name = {migration.name: migration for migration in known}
    for name, checksum in applied.items():
        if name not in by_name:
            raise Refused(
                f"the database has migration {name}, which this Telltale does not know: it is newer; update Telltale"
            )
        if by_name[name].checksum != checksum:
            raise Refused(
                f"migration {name} is not the one that was applied to the database (checksum "
                f"{by_name[name].checksum[:12]}, applied {checksum[:12]}): a file was edited after it was applied"
            )
    fitting = [m for m in by_name.values() if m.flavour is None or m.flavour in flavours]
    missing = [migration for migration in fitting if migration.name not in applied]
    if applied and missing and missing[0].name.split(".")[0] < max(applied).split(".")[0]:
        raise Refused(f"migration {missing[0].name} is missing before {max(applied)}, which is applied")
    return missing


def applied(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Checksums by name of what the database has."""
    there = connection.execute(HAS_RECORD).fetchone()
    return dict(connection.execute(APPLIED).fetchall()) if there and there[0] else {}


def flavours(connection: psycopg.Connection[Any], had: Iterable[str]) -> frozenset[str]:
    """What the database was made with; for a new one, what it can do."""
    known = frozenset(migration.flavour for migration in migrations() if migration.name in set(had)) - {None}
    for each in (PLAIN, TIMESCALE_APACHE, TIMESCALE):
        if known and known <= each:
            return each
    offered = connection.execute(OFFERED).fetchone()
    if offered is None or offered[0] is None:
        return PLAIN
    licence = connection.execute(LICENCE).fetchone()
    return TIMESCALE if licence and licence[0] == "timescale" else TIMESCALE_APACHE


def _load_timescaledb(dsn: str) -> None:
    """Creates the extension in a new database where the server has it.

    On a connection of its own, which the server ends if it has the extension and does not preload it; then the
    database is made as a plain one.
    """
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None, connect_timeout=10) as connection:
        offered = connection.execute(OFFERED).fetchone()
        if offered is None or offered[0] is not None or applied(connection):
            return
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except psycopg.errors.InsufficientPrivilege:
            raise Refused(
                "the server has TimescaleDB, and this role may not create the extension; "
                "let the database's owner run: CREATE EXTENSION timescaledb"
            ) from None
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            pass  # another starter made it in the same moment
        except psycopg.Error as error:
            if "preload" not in str(error):
                raise
            log.warning(
                "timescaledb_not_preloaded",
                detail="the database is made as a plain PostgreSQL one and stays so; for TimescaleDB put it into "
                "shared_preload_libraries, restart the server, and begin with a new database",
            )


def migrate(dsn: str) -> list[str]:
    """Brings the schema up to date; the names of what was applied. All or nothing.

    Raises `Refused`, `psycopg.Error`.
    """
    _load_timescaledb(dsn)
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None, connect_timeout=10) as connection:
        with suppress(psycopg.errors.UniqueViolation):  # another starter made it in the same moment
            connection.execute(RECORD)
        with connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '60s'")
            connection.execute(LOCK)
            had = applied(connection)
            todo = pending(had, flavours=flavours(connection, had), known=migrations())
            for migration in todo:
                try:
                    connection.execute(migration.text.encode())
                except (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateFunction) as error:
                    raise Refused(
                        f"{migration.name}: {error.diag.message_primary}, and Telltale has not made it"
                    ) from None
                connection.execute(NOTE, (migration.name, migration.checksum))
    return [migration.name for migration in todo]
