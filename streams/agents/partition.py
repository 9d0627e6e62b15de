"""The pile of one partition, and the task that commits all of it in one transaction after another.

Small load makes small transactions (3 to 4 ms each), heavy load large ones. Beyond its bound the pile lets nobody
add to it, and with that fetching waits.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import structlog

from schemas.errors import Unavailable
from streams.agents.batches import Record, bytes_of
from streams.agents.ownership import Ownership
from streams.settings import StreamsSettings

log = structlog.get_logger()

ANSWER_S = 2.0
"""How much longer than the broker keeps a transaction we wait for the client to say so."""
OPEN_TIMES = 15
"""What opening may take, in transaction timeouts: reading the states may take ten."""


class Stuck(Unavailable):
    """A call of the Kafka client that does not come back.

    librdkafka (2.16, its issue 5456) keeps no time while a transaction's offsets are added and the broker goes away:
    the call may never return. After `transaction_timeout_s` the broker aborts the transaction, so nothing is lost.
    """


class Waiting(NamedTuple):
    """What a partition has in hand."""

    records: int
    bytes: int
    oldest_ms: int | None  # when the oldest was appended


class Partition:
    """One owned partition from the time it was assigned to the time it is revoked."""

    def __init__(
        self,
        ownership: Ownership,
        settings: StreamsSettings,
        executor: Executor,
        *,
        turn: threading.Lock,
        failed: Callable[[BaseException], None],
    ) -> None:
        self.ownership = ownership
        self.opened = asyncio.Event()
        self._settings = settings
        self._executor = executor
        self._turn = turn
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._taking = threading.Lock()  # of what is on the pile
        self._pile: list[Record] = []
        self._bytes = 0
        self._asked_s: float | None = None  # monotonic; since when the Kafka client is to answer
        self._working_since_ms: int | None = None  # when the oldest record in work was appended
        self._ends: tuple[dict[str, int], int] | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._closing = False
        self._task = asyncio.create_task(self._run())

    async def put(self, records: Sequence[Record]) -> None:
        """Add to the pile; waits while it is full."""
        size = bytes_of(records)
        with self._taking:
            self._pile.extend(records)
            self._bytes += size
            full = self._settings.waiting_records_max, self._settings.waiting_bytes_max
            if len(self._pile) > full[0] or self._bytes > full[1]:
                self._room.clear()
        self._wake.set()
        await self._room.wait()

    def look_for_silence(self, ends: dict[str, int], now_us: int) -> None:
        """Judge silence after what is on the pile."""
        self._ends = ends, now_us
        self._wake.set()

    def waiting(self) -> Waiting:
        """From any thread: what has been fetched and is not committed."""
        pile, oldest_ms = self._pile, self._working_since_ms
        if oldest_ms is None and pile:
            oldest_ms = pile[0].timestamp
        return Waiting(len(pile), self._bytes, oldest_ms)

    async def close(self) -> None:
        """Let the transaction under way end; what is on the pile is the next owner's."""
        self._closing = True
        self._room.set()
        self._wake.set()
        await asyncio.wait([self._task], timeout=2 * self._settings.transaction_timeout_s)

    async def _run(self) -> None:
        try:
            timeout_s = self._settings.transaction_timeout_s
            await self._in_thread(OPEN_TIMES * timeout_s, lambda: self.ownership.open(transaction_timeout_s=timeout_s))
            self.opened.set()
            while not self._closing:
                await self._wake.wait()
                self._wake.clear()
                ends, self._ends = self._ends, None
                if ends and not self._closing:
                    await self._transact(lambda ends=ends: self._look_behind(*ends))  # type: ignore[misc]
                if self._pile and not self._closing:
                    await self._transact(self._apply)
                if ends and not self._pile and not self._closing:
                    await self._transact(lambda ends=ends: self._look(*ends))  # type: ignore[misc]
        except asyncio.CancelledError:  # the worker stops: what is on the pile is the next owner's
            self._closing = True
        except BaseException as error:  # noqa: BLE001 - fenced, broker gone for too long, or our bug
            if not self._closing or isinstance(error, Stuck):  # whose thread and client would stay
                self._failed(error)
            else:
                log.info("partition.ended", partition=self.ownership.number, error=repr(error))

    # -- in a thread --

    def _apply(self) -> None:
        """One transaction for what is on the pile when its turn comes.

        Python works for one partition at a time anyway. Taking turns, the piles of the others grow meanwhile and cost
        less a record; commits, which wait for the broker, go on beside. Both in one go: the loop, where everything
        passes, need not be asked between them.
        """
        self._asked_s = None
        with self._turn:
            worked = None if self._closing else self.ownership.work_out(self._take())
        if worked is not None:
            self._asked_s = time.monotonic()
            self.ownership.commit(worked)
        self._working_since_ms = None

    def _take(self) -> list[Record]:
        with self._taking:
            pile, self._pile, self._bytes = self._pile, [], 0
            self._working_since_ms = pile[0].timestamp
            full = not self._room.is_set()
        if full:
            self._loop.call_soon_threadsafe(self._room.set)
        return pile

    def _look(self, ends: dict[str, int], now_us: int) -> None:
        every_us = int(self._settings.silence_check_s * 1e6)
        self.ownership.look_for_silence(ends, now_us=now_us, look_every_us=every_us)

    def _look_behind(self, ends: dict[str, int], now_us: int) -> None:
        limit_us = int(self._settings.behind_limit_s * 1e6)
        self.ownership.look_behind(ends, now_us=now_us, limit_us=limit_us)

    # -- from the loop --

    async def _transact(self, work: Callable[[], None]) -> None:
        """At most one transaction. Raises `Stuck`."""
        await self._in_thread(self._settings.transaction_timeout_s + ANSWER_S, work)

    async def _in_thread(self, seconds: float, work: Callable[[], None]) -> None:
        """Work that waits for the broker. Raises `Stuck` where the client does not answer in time."""
        self._asked_s = time.monotonic()
        working = self._loop.run_in_executor(self._executor, work)
        left_s = seconds
        while not (await asyncio.wait([working], timeout=left_s))[0]:
            asked_s = self._asked_s
            left_s = seconds if asked_s is None else seconds - (time.monotonic() - asked_s)
            if left_s <= 0:
                where = f"partition {self.ownership.number}"
                raise Stuck(
                    f"{where}: the Kafka client has not answered for {seconds:g} s; a new worker goes on from here"
                )
        working.result()
