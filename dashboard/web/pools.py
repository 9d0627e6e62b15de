"""Connections to the database: one pool for tokens, one for people, so that no notebook keeps a page waiting.

Knows psycopg; knows no route. Each session is read-committed, in UTC, and bounded by a statement timeout.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import PQGen
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from dashboard.web.problems import not_found
from dashboard.web.settings import WebSettings

T = TypeVar("T")
Connection = AsyncConnection[Any]
IDLE_S = 300.0
PREPARE_AFTER: int | None = 3
"""Planning over years of monthly partitions takes longer than most of our questions."""


class Database:
    """A pool and the questions that are asked again and again. Raises `psycopg.Error`."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for one piece of work; never held while a client is waited for."""
        self._busy += 1
        self._idle.clear()
        try:
            async with self._pool.connection() as connection:
                yield connection
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def quiet(self, s_max: float) -> None:
        """Waits until nobody has work here, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(s_max):
                await self._idle.wait()

    async def rows(self, statement: LiteralString, arguments: Any = None) -> list[DictRow]:
        async with self.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(statement, arguments)
            return await cursor.fetchall()

    async def first(self, statement: LiteralString, arguments: Any = None) -> DictRow | None:
        found = await self.rows(statement, arguments)
        return found[0] if found else None

    async def one(self, statement: LiteralString, arguments: Any, *, what: str) -> DictRow:
        """The only row. Raises `Problem` 404 where there is none; `what` names it."""
        found = await self.first(statement, arguments)
        if found is None:
            raise not_found(what)
        return found

    def figures(self) -> dict[str, int]:
        """What the pool says of itself."""
        return self._pool.get_stats()


class Pools:
    """Both pools. `open` returns at once, also when the database is away: they connect when it is there."""

    def __init__(self, dsn: str, settings: WebSettings) -> None:
        self._pools = {
            "pages": _pool(dsn, settings, "pages", settings.pages_connections, settings.pages_statement_s),
            "api": _pool(dsn, settings, "api", settings.api_connections, settings.api_statement_s),
        }
        self.pages, self.api = Database(self._pools["pages"]), Database(self._pools["api"])

    async def open(self) -> None:
        for pool in self._pools.values():
            await pool.open(wait=False)

    async def close(self) -> None:
        for pool in self._pools.values():
            await pool.close(timeout=2)


def _answering(within_s: float) -> type[Connection]:
    """Connections whose line is cut when the server says nothing for so long: a frozen one keeps none of its own
    limits, and would be waited for without end."""

    class Answering(AsyncConnection[Any]):
        async def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:
            late = asyncio.get_running_loop().call_later(within_s, self._cut)
            try:
                return await super().wait(gen, *args, **options)
            finally:
                late.cancel()

        def _cut(self) -> None:
            with suppress(OSError, psycopg.OperationalError), socket.socket(fileno=os.dup(self.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)

    return Answering


def _pool(dsn: str, settings: WebSettings, name: str, size: int, statement_s: float) -> AsyncConnectionPool[Connection]:
    async def configure(connection: Connection) -> None:
        await connection.execute("SET timezone = 'UTC'")
        await connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{statement_s * 1000:.0f}",))

    return AsyncConnectionPool(
        dsn,
        connection_class=_answering(statement_s + settings.wait_s_max),
        name=name,
        min_size=1,
        max_size=size,
        open=False,
        configure=configure,
        timeout=settings.wait_s_max,
        max_waiting=settings.waiting_max,
        max_idle=IDLE_S,
        reconnect_timeout=10,
        kwargs={
            "autocommit": True,
            "prepare_threshold": PREPARE_AFTER,
            "connect_timeout": 5,
            "application_name": f"telltale-dashboard-{name}",
        },
    )
