"""`GET /api/v1/stream`: readings, windows and alarms as server-sent events, resumed by Last-Event-ID."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from dashboard.api.events import Event, Kind, Positions, read, written
from dashboard.api.live import Client, Feed
from dashboard.api.params import Text
from dashboard.web.access import Need, Principal, Scope, need
from dashboard.web.problems import Problem, documented, unavailable
from dashboard.web.state import Web, web_of

ALIVE_S = 15.0
"""So often a client hears something, and its position, although nothing happens. Proxies give up after some 60 s."""
CHECK_S = 60.0
"""So often a token or session is looked at again: a stream does not outlive it by more."""
SEND_S_MAX = 30.0
"""A client that takes nothing for so long is gone."""
RETRY_MS = 2_000
DEVICES_MAX = 1_000

MAY_READ = need(Scope.READ)
router = APIRouter(tags=["what happens"])
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events `readings`, `windows`, `alarm`, with a position as id; `position` now and "
        "then; `lost` where the log no longer holds what was missed; `end` with the reason when we hang up.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@asynccontextmanager
async def feeding(app: FastAPI) -> AsyncIterator[None]:
    """The shared consumer's life; it starts when somebody listens."""
    web = web_of(app)
    app.state.feed = Feed(web.kafka, queue_max=web.settings.live_behind_max) if web.kafka else None
    try:
        yield
    finally:
        if app.state.feed is not None:
            await app.state.feed.close()


@router.get("/stream", response_class=Response, responses=_EVENTS | documented(404))
async def stream(
    *,
    request: Request,
    principal: Annotated[Principal, Depends(MAY_READ)],
    device: Annotated[
        list[Text] | None, Query(max_length=DEVICES_MAX, description="May be repeated; by default all devices.")
    ] = None,
    kind: Annotated[list[Kind] | None, Query(description="May be repeated; by default all kinds.")] = None,
    last_event_id: Annotated[str | None, Header(max_length=100_000)] = None,
    since: Annotated[str | None, Query(max_length=100_000, description="As Last-Event-ID, for the first try.")] = None,
) -> Response:
    """Events as they come, from now on or, with Last-Event-ID, from where you stood. Each committed record once."""
    feed: Feed | None = request.app.state.feed
    if feed is None:
        raise unavailable("this service runs without a broker")
    position = read(last_event_id or since or "")
    web = web_of(request)
    kinds, devices = frozenset(kind or Kind), frozenset(device) if device else None
    async with AsyncExitStack() as held:
        held.enter_context(web.live.one_more(principal.name))
        client, begins = await feed.join(kinds, devices)
        held.callback(feed.leave, client)
        pieces = _pieces(request, feed, client, since=position, begins=begins)
        held.push_async_callback(pieces.aclose)
        return EventStream(pieces, held.pop_all())


class EventStream(Response):
    """Sends pieces as they come, and gives up on whoever takes none. What is `held` is given back in the end, also if
    there was nobody any more to begin with."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncIterator[bytes], held: AsyncExitStack) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._pieces, self._held = pieces, held

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        async with self._held:
            await self._sent(receive, send)

    async def _sent(self, receive: Receive, send: Send) -> None:
        headers = [each for each in self.raw_headers if each[0] != b"content-length"]
        sending = asyncio.create_task(self._send_all(headers, send))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            done = await asyncio.gather(sending, leaving, return_exceptions=True)
        if isinstance(done[0], Exception) and not isinstance(done[0], TimeoutError):
            raise done[0]

    async def _send_all(self, headers: list[tuple[bytes, bytes]], send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in self._pieces:
            async with asyncio.timeout(SEND_S_MAX):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _pieces(
    request: Request, feed: Feed, client: Client, *, since: Positions, begins: Positions
) -> AsyncGenerator[bytes, None]:
    web = web_of(request)
    position = {at: since.get(at, offset) for at, offset in begins.items()}
    yield f"retry: {RETRY_MS}\n\n".encode() + _event("position", position, b"{}")
    lost: list[bytes] = []

    def tell(gone: Positions) -> None:
        where = [{"topic": topic, "partition": part, "from": offset} for (topic, part), offset in gone.items()]
        lost.append(_event("lost", None, orjson.dumps({"partitions": where})))

    try:
        async for events in feed.missed(client, since, begins, tell):
            while lost:
                yield lost.pop()
            if events:
                yield _written(events, position)
        while lost:
            yield lost.pop()
        position = dict(begins)
        yield _event("position", position, b"{}")
        checked = time.monotonic()
        while True:
            if client.let_go is None and not web.stopping.is_set():
                await _woken(client, web)
            if events := client.take():
                yield _written(events, position)
            if client.let_go is not None or web.stopping.is_set():
                raise unavailable(client.let_go or "the service stops; connect again")
            if not events:
                position = feed.position(client)
                yield _event("position", position, b"{}")
            if time.monotonic() - checked > CHECK_S:
                checked = time.monotonic()
                await _check_again(request, MAY_READ)
    except Problem as problem:  # the answer has begun: it is told as an event
        yield _event("end", None, orjson.dumps({"status": problem.status, "detail": problem.detail}))


async def _woken(client: Client, web: Web) -> None:
    """Something waits, the service stops, or time has passed."""
    waits = [asyncio.ensure_future(each.wait()) for each in (client.woken, web.stopping)]
    try:
        await asyncio.wait(waits, timeout=ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waits:
            each.cancel()


async def _check_again(request: Request, right: Need) -> None:
    del request.state.principal
    await right(request)


def _written(events: list[Event], position: Positions) -> bytes:
    """Events with the position behind each; `position` moves on."""
    pieces = []
    for event in events:
        position[event.at] = event.offset + 1
        name = "alarm" if event.kind is Kind.ALARMS else str(event.kind)
        pieces.append(_event(name, position, event.data))
    return b"".join(pieces)


def _event(name: str, position: Positions | None, data: bytes) -> bytes:
    identity = f"id: {written(position)}\n" if position else ""
    return f"event: {name}\n{identity}data: ".encode() + data + b"\n\n"
