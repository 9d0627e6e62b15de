"""What a database holds: rows and a checksum for each table, on a connection that is given. Changes nothing.

The tables are those that the database lists. A checksum is the sum of the rows' 64-bit hashes, so the order of rows
does not count and a row that is there twice does. PostgreSQL keeps these hashes the same from version to version, for
hash partitioning lives by them; they are compared between a database and its copy, not between byte orders.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict

from infra.counted import counted

# Tables that are no partition, no part of an extension and not TimescaleDB's own; partitions count with their parent.
TABLES = r"""
SELECT n.nspname, c.relname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\_%'
  AND n.nspname NOT LIKE '\_timescaledb%' AND n.nspname NOT LIKE 'timescaledb%'
  AND NOT EXISTS (SELECT FROM pg_depend
                  WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
ORDER BY 1, 2"""

# What continuous aggregates keep lies in TimescaleDB's own schema.
AGGREGATES = """
SELECT materialization_hypertable_schema, materialization_hypertable_name
FROM timescaledb_information.continuous_aggregates ORDER BY 1, 2"""

TIMESCALEDB = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"

BY_RECORD = "SELECT count(*), coalesce(sum(hash_record_extended(t, 0)), 0)::text FROM {} AS t"
# Where a column's type has no hash: the same by what it looks like.
BY_TEXT = "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0)::text FROM {} AS t"

SETTINGS = (
    ("timezone", "UTC"),
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
    ("idle_in_transaction_session_timeout", "0"),
    ("statement_timeout", "0"),
    ("lock_timeout", "60s"),
    ("search_path", "pg_catalog"),
)
"""What values look like, the same in every database; and no limits but ours."""


class Table(BaseModel):
    """What a table holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int
    checksum: str


def settle(connection: psycopg.Connection[Any]) -> None:
    """Makes the session one in which contents can be compared."""
    for name, value in SETTINGS:
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def timescaledb(connection: psycopg.Connection[Any]) -> str | None:
    """The extension's version, if the database has it."""
    row = connection.execute(TIMESCALEDB).fetchone()
    return None if row is None else str(row[0])


def tables(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Schema and name of each table that holds something of its own."""
    found = connection.execute(TABLES).fetchall()
    if timescaledb(connection):
        found += connection.execute(AGGREGATES).fetchall()
    return [(str(schema), str(name)) for schema, name in found]


def contents(connection: psycopg.Connection[Any]) -> dict[str, Table]:
    """All tables by `schema.name`. Reads every row. The connection's session must be settled.

    Run in a transaction of its snapshot: READ COMMITTED would see each table at another moment.
    """
    return {f"{schema}.{name}": _table(connection, schema, name) for schema, name in tables(connection)}


def _table(connection: psycopg.Connection[Any], schema: str, name: str) -> Table:
    which = sql.Identifier(schema, name)
    try:
        with connection.transaction():
            row = connection.execute(sql.SQL(BY_RECORD).format(which)).fetchone()
    except psycopg.errors.UndefinedFunction:
        row = connection.execute(sql.SQL(BY_TEXT).format(which)).fetchone()
    assert row is not None  # noqa: S101 - an aggregate without GROUP BY
    return Table(rows=row[0], checksum=row[1])


def differences(expected: Mapping[str, Table], found: Mapping[str, Table]) -> Iterator[str]:
    """How what was found is not what was expected, one line a table."""
    for name in sorted(expected.keys() | found.keys()):
        there, here = expected.get(name), found.get(name)
        if here is None:
            yield f"{name} is missing"
        elif there is None:
            yield f"{name} is not in the backup"
        elif there.rows != here.rows:
            yield f"{name} has {counted(here.rows, 'row')}, expected {there.rows:,}"
        elif there.checksum != here.checksum:
            yield f"{name} has other values in its {counted(here.rows, 'row')}"
