"""Databases of a server: addressed, made, dropped, exchanged; PostgreSQL's own programs run against them.

Passwords go by the environment: arguments are seen by everybody on the machine.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.database import first_line
from schemas.errors import Refused, Unavailable

MAINTENANCE = ("postgres", "template1")
CONNECT_S = 10
POLL_S = 0.1
# One restore or verification at a time on a server, whoever runs it. The key is arbitrary, and ours.
ONE_AT_A_TIME = "SELECT pg_try_advisory_lock(7265637572)"
END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
EXCHANGE_TRIES = 50
"""Of 0.1 s: how long sessions that are told to end may take."""


def connect(dsn: str, **options: Any) -> psycopg.Connection[Any]:
    """A session for our purposes. Raises `Unavailable` in one line."""
    try:
        return psycopg.connect(
            dsn,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=CONNECT_S,
            application_name="telltale-backup",
            keepalives_idle=30,
            **options,
        )
    except psycopg.OperationalError as error:
        raise Unavailable(f"database: {first_line(error)}") from None
    except psycopg.ProgrammingError as error:
        raise Refused(f"database: {str(error).strip()}") from None


def database_of(dsn: str) -> str:
    """The database's name in an address. Raises `Refused`."""
    try:
        named = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        raise Refused(f"database: {str(error).strip()}") from None
    name = named.get("dbname") or os.environ.get("PGDATABASE") or named.get("user")
    if not name:
        raise Refused("the database's address names no database")
    return str(name)


def at(dsn: str, database: str) -> str:
    """The same server, another database."""
    return make_conninfo(dsn, dbname=database)


@contextmanager
def maintaining(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session beside the database, from which databases are made and exchanged; one such at a time."""
    trouble: Unavailable | None = None
    for name in MAINTENANCE:
        if name == database_of(dsn):
            continue
        try:
            connection = connect(at(dsn, name))
        except Unavailable as error:
            trouble = trouble or error
            continue
        with connection:
            row = connection.execute(ONE_AT_A_TIME).fetchone()
            if row is None or not row[0]:
                raise Unavailable("another restore or verification is at work on this server")
            yield connection
        return
    raise trouble or Unavailable("the server has no database beside the one to be restored")


def exists(connection: psycopg.Connection[Any], database: str) -> bool:
    """Whether the server has a database of that name."""
    return connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is not None


def make(connection: psycopg.Connection[Any], database: str) -> None:
    """Makes an empty database. Raises `Refused` where the role may not."""
    try:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(database)))
    except psycopg.errors.InsufficientPrivilege:
        raise Refused(
            "the database's role may not make databases; let an administrator: ALTER ROLE ... CREATEDB"
        ) from None


def drop(connection: psycopg.Connection[Any], database: str) -> None:
    """Drops a database and whoever is connected to it, if it is there."""
    connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


def exchange(connection: psycopg.Connection[Any], *, new: str, database: str, old: str) -> None:
    """Gives `new` the name of `database`, which becomes `old`; both at once, or neither. Ends their sessions.

    Raises `Unavailable` if sessions do not end.
    """
    replaced = exists(connection, database)
    _shut(connection, database, replaced, shut=True)
    try:
        for tries_left in reversed(range(EXCHANGE_TRIES)):
            for name in (new, database):
                connection.execute(END_SESSIONS, (name,))
            try:
                with connection.transaction():
                    if replaced:
                        _rename(connection, database, old)
                    _rename(connection, new, database)
                return
            except psycopg.errors.ObjectInUse as error:
                if not tries_left:
                    raise Unavailable(f"sessions of database {database} do not end: {error}") from None
                time.sleep(POLL_S)
    finally:
        _shut(connection, old if exists(connection, old) else database, replaced, shut=False)


def _rename(connection: psycopg.Connection[Any], name: str, to: str) -> None:
    connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(to)))


def _shut(connection: psycopg.Connection[Any], database: str, there: bool, *, shut: bool) -> None:
    """Lets nobody connect: services that lose their sessions would be back before the name has changed."""
    if there:
        allowed = sql.SQL("false" if shut else "true")
        statement = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(statement.format(sql.Identifier(database), allowed))


def run(program: str, arguments: Sequence[str], *, dsn: str, s_max: float, inherit: int | None = None) -> "Program":
    """Starts one of PostgreSQL's programs against a database."""
    secret: dict[str, Any] = dict(conninfo_to_dict(dsn))
    password = secret.pop("password", None)
    environment = {**os.environ, "PGAPPNAME": "telltale-backup", "PGCONNECT_TIMEOUT": str(CONNECT_S)}
    # What is being filled is no database yet: if the machine dies, it is made again.
    environment["PGOPTIONS"] = "-c synchronous_commit=off -c maintenance_work_mem=256MB"
    if password:
        environment["PGPASSWORD"] = str(password)
    words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `Program`. Not beside the dump: that disk may be full
    process = subprocess.Popen(
        [program, "--no-password", f"--dbname={make_conninfo(**secret)}", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=words,
        stderr=words,
        pass_fds=() if inherit is None else (inherit,),
    )
    return Program(Path(program).name, process, words=words, s_max=s_max)


class Program:
    """One running program. Ends with the `with` block, however that ends."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]", *, words: IO[bytes], s_max: float) -> None:
        self._name, self._process, self._words = name, process, words
        self._s_max, self._until = s_max, time.monotonic() + s_max

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._words.close()

    def finish(self) -> None:
        """Waits for its good end. Raises `Unavailable` with its last words."""
        try:
            code = self._process.wait(max(0.0, self._until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{self._name} did not end within {self._s_max:.0f} s") from None
        if code != 0:
            raise Unavailable(f"{self._name}: {self._complaint() or f'ended with exit code {code}'}")

    def _complaint(self) -> str:
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").splitlines()
        errors = [line.partition("error: ")[2] for line in lines if "error: " in line]
        return (errors or lines or [""])[0]
