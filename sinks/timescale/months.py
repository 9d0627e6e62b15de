"""Partitions of `readings` on plain PostgreSQL, one a month, made when first needed. SQL on a given connection."""

from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

EXIST = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'readings'::regclass"

# LIKE and ATTACH take a lighter lock on `readings` than CREATE TABLE ... PARTITION OF, which waits for
# every reader.
MAKE = "CREATE TABLE {name} (LIKE readings INCLUDING ALL)"
ATTACH = "ALTER TABLE readings ATTACH PARTITION {name} FOR VALUES FROM ({first}) TO ({next})"


# Two makers at once: which of the catalogue's tables notices first is chance.
_MADE_BY_ANOTHER = (psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation)


class Months:
    """The months that have a partition."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def ensure(self, connection: psycopg.Connection[Any], months: set[str]) -> None:
        """Each month, such as `2016-12`, has its partition. Each is made in a transaction of its own."""
        if months <= self._made:
            return
        self._made = {name.removeprefix("readings_").replace("_", "-") for (name,) in connection.execute(EXIST)}
        for month in sorted(months - self._made):
            with suppress(*_MADE_BY_ANOTHER):
                self._make(connection, month)
            self._made.add(month)

    def forget(self) -> None:
        """Look again."""
        self._made.clear()

    @staticmethod
    def _make(connection: psycopg.Connection[Any], month: str) -> None:
        year, number = map(int, month.split("-"))
        following = f"{year + number // 12}-{number % 12 + 1:02}"
        names = {
            "name": sql.Identifier(f"readings_{month.replace('-', '_')}"),
            "first": sql.Literal(f"{month}-01 00:00+00"),
            "next": sql.Literal(f"{following}-01 00:00+00"),
        }
        with connection.transaction():
            connection.execute(sql.SQL(MAKE).format(**names))
            connection.execute(sql.SQL(ATTACH).format(**names))
