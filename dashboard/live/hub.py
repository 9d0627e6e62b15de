"""From the live state to every open page: one message, encoded once, for all. Knows queues; knows no topic, no page.

Each page has a bounded queue. One that does not keep up loses what lies in it and gets the whole picture instead, so
that a page that never reads costs one queue and no more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

QUEUED_MAX = 16
"""Eight seconds of ticks. Fewer, and a page that paints for a moment starts anew; more, and what it shows is old."""
PAGES_MAX = 500
"""Open pages of one process: more would be a mistake or an attack, and each costs a socket."""

Picture = Callable[[bool], bytes]
"""The whole picture; in full, or only alarms and tiles."""


class Hub:
    """Pages that listen. Lives in one event loop; only `publish` may be called from other threads."""

    def __init__(self, picture: Picture) -> None:
        self._picture = picture
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queues: dict[bool, set[asyncio.Queue[bytes | None]]] = {True: set(), False: set()}
        self.restarts = 0
        """How often a page was too slow and got the whole picture again."""

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()

    def close(self) -> None:
        """No more messages; every page's stream ends."""
        self._loop = None
        for queues in self._queues.values():
            for queue in queues:
                _emptied(queue).put_nowait(None)

    def publish(self, full: bytes, light: bytes | None) -> None:
        """To all pages: `full` to those that show the fleet, `light` (None: nothing) to the others. Never waits."""
        loop = self._loop
        if loop is not None and len(self) and not loop.is_closed():
            loop.call_soon_threadsafe(self._deliver, full, light)

    def _deliver(self, full: bytes, light: bytes | None) -> None:
        for is_full, message in ((True, full), (False, light)):
            for queue in self._queues[is_full] if message is not None else ():
                if queue.full():
                    self.restarts += 1
                    _emptied(queue).put_nowait(_AGAIN)
                else:
                    queue.put_nowait(message)

    @asynccontextmanager
    async def page(self, *, full: bool) -> AsyncIterator[AsyncIterator[bytes]]:
        """A page's messages, the whole picture first, until the hub closes."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUED_MAX)
        queue.put_nowait(_AGAIN)
        self._queues[full].add(queue)
        try:
            yield self._messages(queue, full=full)
        finally:
            self._queues[full].discard(queue)

    async def _messages(self, queue: asyncio.Queue[bytes | None], *, full: bool) -> AsyncIterator[bytes]:
        while True:
            message = await queue.get()
            if message is None:
                return
            yield await asyncio.to_thread(self._picture, full) if message is _AGAIN else message

    @property
    def is_full(self) -> bool:
        return len(self) >= PAGES_MAX


_AGAIN = b""


def _emptied(queue: asyncio.Queue[bytes | None]) -> asyncio.Queue[bytes | None]:
    while not queue.empty():
        queue.get_nowait()
    return queue
