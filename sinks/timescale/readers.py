"""Roles for notebooks: they see what people may see and change nothing. SQL on a given connection.

A reader sees views and the tables of what is configured; not the raw table of readings (flags and quality would be
passed over), nor people, tokens, offsets or payloads. Privileges keep it from writing; time-outs are set on the role
and are a rail, not a wall: a session can lift its own. The number of its connections cannot be lifted.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from schemas.errors import Refused

READABLE = (
    *("stations", "devices", "sensors", "calibrations", "flag_categories"),
    *("readings_good", "statistics_10min", "statistics_hourly", "statistics_daily"),
    *("devices_now", "alarms_now"),
    *("sensors_now", "data_recovery", "gaps", "sensor_lives", "flag_history"),
)
"""What a reader may SELECT from. A new view is added here when it holds nothing that is not everybody's."""
MARK = "made by telltale db grant-reader"
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
RESERVED = ("pg_", "postgres", "public", "none")

# Whether there is a role, and its remark.
ROLE = """
SELECT r.rolname, shobj_description(r.oid, 'pg_authid') FROM pg_roles r WHERE r.rolname = %s"""
READERS = """
SELECT r.rolname, r.rolconnlimit,
  (SELECT substring(word FROM '=(.*)') FROM unnest(r.rolconfig) word WHERE word LIKE 'statement_timeout=%%'),
  (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = r.rolname)
FROM pg_roles r WHERE shobj_description(r.oid, 'pg_authid') = %s ORDER BY r.rolname"""


@dataclass(frozen=True, slots=True)
class Granted:
    """A reader. `password` only where one was made: it is kept nowhere."""

    name: str
    password: str | None
    statement_timeout_s: int
    connections: int
    readable: tuple[str, ...]


def grant(
    connection: psycopg.Connection[Any],
    name: str,
    *,
    statement_timeout_s: int,
    connections: int,
    new_password: bool = False,
    password: str | None = None,
) -> Granted:
    """Makes a reader, or brings one up to date with today's views and limits. Raises `Refused`.

    `password` is used instead of one that is made.
    """
    if not NAME.fullmatch(name) or name.startswith(RESERVED):
        raise Refused(f"role {name}: expected a name of a-z, 0-9 and _, such as analyst")
    with connection.transaction():
        known = connection.execute(ROLE, (name,)).fetchone()
        if known is not None and known[1] != MARK:
            raise Refused(
                f"role {name} is there, and was not made by grant-reader: it is left as it is; choose another name"
            )
        made = secrets.token_urlsafe(24) if password is None and (known is None or new_password) else None
        password = password or made
        role = sql.Identifier(name)
        try:
            if known is None:
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOINHERIT").format(role))
                connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(MARK)))
            if password is not None:  # a verifier: the password itself is in no log
                verifier = connection.pgconn.encrypt_password(
                    password.encode(), name.encode(), b"scram-sha-256"
                ).decode()
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(verifier)))
            connection.execute(
                sql.SQL(
                    "ALTER ROLE {} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT {}"
                ).format(role, sql.Literal(connections))
            )
        except psycopg.errors.InsufficientPrivilege:
            raise Refused("this account may not make roles; connect as the database's owner or a superuser") from None
        settings = {
            "statement_timeout": f"{statement_timeout_s}s",
            "idle_in_transaction_session_timeout": f"{statement_timeout_s}s",
            "lock_timeout": "5s",
            "default_transaction_read_only": "on",
            "work_mem": "32MB",
        }
        for setting, value in settings.items():
            connection.execute(
                sql.SQL("ALTER ROLE {} SET {} TO {}").format(role, sql.Identifier(setting), sql.Literal(value))
            )
        _privileges(connection, name)
    return Granted(name, made, statement_timeout_s, connections, READABLE)


def _privileges(connection: psycopg.Connection[Any], name: str) -> None:
    """Of this database: anew, so that what was readable once and is not any more goes."""
    role, database = sql.Identifier(name), sql.Identifier(connection.info.dbname)
    tables = sql.SQL(", ").join(map(sql.Identifier, READABLE))
    for statement in (
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}",
        # Everybody may make temporary tables by default, which fill the disk.
        "REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        "GRANT CONNECT ON DATABASE {database} TO {role}",
        "GRANT USAGE ON SCHEMA public TO {role}",
        "GRANT SELECT ON {tables} TO {role}",
    ):
        connection.execute(sql.SQL(statement).format(role=role, database=database, tables=tables))


def revoke(connection: psycopg.Connection[Any], name: str) -> None:
    """Ends its sessions and removes it, its privileges in this database included. Raises `Refused`."""
    known = connection.execute(ROLE, (name,)).fetchone()
    if known is None:
        raise Refused(
            f"role {name}: there is none; readers are {', '.join(each[0] for each in listed(connection)) or 'none'}"
        )
    if known[1] != MARK:
        raise Refused(f"role {name} was not made by grant-reader: it is left as it is")
    role = sql.Identifier(name)
    connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(role))
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (name,))
    try:
        with connection.transaction():
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
    except psycopg.errors.DependentObjectsStillExist as error:
        detail = error.diag.message_detail or "it has privileges in another database"
        raise Refused(
            f"role {name} cannot sign in any more, but stays: {detail}; run this for that database too"
        ) from None


def listed(connection: psycopg.Connection[Any]) -> list[tuple[str, int, str | None, int]]:
    """Readers: name, connections allowed, statement timeout, connections now."""
    return connection.execute(READERS, (MARK,)).fetchall()
