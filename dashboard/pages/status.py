"""The status page, and the socket that keeps every page live."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Depends, Request, WebSocket, WebSocketDisconnect
from starlette.responses import RedirectResponse, Response

from dashboard.pages.render import page
from dashboard.pages.serving import Running, running_of
from dashboard.web.access import SESSION_COOKIE, Principal, Role, hashed, need
from dashboard.web.state import Web, web_of

router = APIRouter(include_in_schema=False)
Viewer = Depends(need(Role.VIEWER))

RECHECK_S = 3.0
"""How long a revoked session may still watch."""
SPARKS_MAX = 400
"""Spark lines in one question: some ten screens of rows."""
SIGNED_OUT = 4401
ALIVE = """
SELECT s.revoked IS NULL AND s.expires > now() AND NOT u.disabled AS alive
FROM sessions s JOIN users u USING (user_id) WHERE s.session_hash = %s"""


@router.get("/", dependencies=[Viewer])
async def home() -> Response:
    return RedirectResponse("/status", 303)


@router.get("/status", dependencies=[Viewer])
async def status(request: Request) -> Response:
    return page(request, "status.html", title="Status", live="all")


@router.websocket("/live")
async def live(
    socket: WebSocket,
    principal: Annotated[Principal, Depends(need(Role.VIEWER))],
    what: Literal["all", "alarms"] = "alarms",
) -> None:
    """The whole picture, then what changes. Ends when the session does."""
    running, web = running_of(socket), web_of(socket)
    if running.hub.is_full:
        await socket.close(1013, "too many open pages")
        return
    await socket.accept()
    work = {
        asyncio.create_task(_tell(socket, running, full=what == "all")),
        asyncio.create_task(_hear(socket, running)),
        asyncio.create_task(_watch(socket, web, principal)),
    }
    try:
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in work:
            task.cancel()
        ended = await asyncio.gather(*work, return_exceptions=True)
        for each in ended:
            if isinstance(each, Exception) and not isinstance(each, WebSocketDisconnect | RuntimeError):
                raise each


async def _tell(socket: WebSocket, running: Running, *, full: bool) -> None:
    async with running.hub.page(full=full) as messages:
        async for message in messages:
            await socket.send_text(message.decode())
    with suppress(RuntimeError):
        await socket.close(1012, "the server restarts")


async def _hear(socket: WebSocket, running: Running) -> None:
    """Answers questions for spark lines."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        numbers = wanted(message.get("text") or "")
        if numbers:
            await socket.send_text((await asyncio.to_thread(running.live.sparks, numbers)).decode())


def wanted(text: str) -> list[int]:
    """The sensors that a page asks for; nothing of what makes no sense."""
    try:
        told: Any = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    asked = told.get("want") if isinstance(told, dict) else None
    if not isinstance(asked, list):
        return []
    return [number for number in asked[:SPARKS_MAX] if type(number) is int]  # true is an int, too


async def _watch(socket: WebSocket, web: Web, principal: Principal) -> None:
    """Ends the socket soon after its session has ended."""
    secret = principal.session_hash or hashed(socket.cookies.get(SESSION_COOKIE, ""))
    while True:
        await asyncio.sleep(RECHECK_S)
        with suppress(Exception):  # the database is away: look again; nobody is signed out for that
            row = await web.pools.pages.first(ALIVE, (secret,))
            if row is None or not row["alive"]:
                break
    with suppress(RuntimeError):
        await socket.close(SIGNED_OUT, "signed out")
