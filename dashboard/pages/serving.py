"""What the pages need running: the live state, its monitor, the hub; and files. Knows how to start and stop them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import click
import psycopg
import structlog
from fastapi import FastAPI
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from dashboard.imports.backfills import Backfill
from dashboard.live.following import Live
from dashboard.live.hub import Hub
from dashboard.live.monitor import Monitor
from dashboard.pages import assets
from dashboard.pages.render import STATIC, STATIC_PATH
from dashboard.people import accounts
from dashboard.web.state import Web, web_of
from infra import log_lines
from infra.telemetry.health import Check
from schemas.errors import Unavailable

log = structlog.get_logger(__name__)

KEPT = "public, max-age=31536000, immutable"
"""For files whose address changes with their content."""
DAY = "public, max-age=86400"


@dataclass(slots=True)
class Running:
    """Of one application."""

    live: Live
    hub: Hub
    monitor: Monitor
    backfills: list[Backfill] = field(default_factory=list)
    at_work: set[asyncio.Task[None]] = field(default_factory=set)


def running_of(connection: HTTPConnection) -> Running:
    """What runs beside the application. Raises `Unavailable` where it was started without a broker."""
    found = getattr(connection.app.state, "running", None)
    if found is None:
        raise Unavailable("this dashboard was started without a broker: live states and actions are not here")
    return cast("Running", found)


class Files:
    """Files of a folder, kept by browsers. The folder may be named later; until then they are missing."""

    def __init__(self, *, kept: str, directory: str | None = None) -> None:
        self._kept = kept
        self._app: StaticFiles | None = None
        if directory is not None:
            self.serve(directory)

    def serve(self, directory: str) -> None:
        self._app = StaticFiles(directory=directory)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            answer = PlainTextResponse("not fetched yet: make assets", 503, {"Retry-After": "10"})
            await answer(scope, receive, send)
            return

        async def kept(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 304):
                message["headers"] = [*message["headers"], (b"cache-control", self._kept.encode())]
            await send(message)

        await self._app(scope, receive, kept)


OURS = Files(kept=KEPT, directory=str(STATIC))
LIBRARY = Files(kept=DAY)
MOUNTS = (Mount("/static/lib", app=LIBRARY), Mount(STATIC_PATH, app=OURS))


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Starts what follows Kafka; fetches the pages' scripts; says how the first administrator is made."""
    web = web_of(app)
    background = {asyncio.create_task(_library()), asyncio.create_task(_first_link(web))}
    running = _started(web)
    app.state.running = running
    stopping = asyncio.create_task(_close_at_end(web, running))
    try:
        yield
    finally:
        for task in (*background, stopping):
            task.cancel()
        if running is not None:
            running.hub.close()
            await asyncio.to_thread(running.live.stop)
            await asyncio.to_thread(running.monitor.stop)


def _started(web: Web) -> Running | None:
    if web.kafka is None:
        return None
    live = Live(web.kafka, web.database)
    hub = Hub(live.snapshot)
    monitor = Monitor(web.kafka, web.database, note=live.note)
    hub.open()
    live.start(hub.publish)
    monitor.start()

    def following() -> Check:
        return Check(live.is_following, live.trouble or "the pages follow the live topics", required=False)

    web.health.check("following", following)
    return Running(live, hub, monitor)


async def _close_at_end(web: Web, running: Running | None) -> None:
    """Open sockets would keep the server from ending."""
    await web.stopping.wait()
    if running is not None:
        running.hub.close()


async def _library() -> None:
    try:
        LIBRARY.serve(str(await asyncio.to_thread(assets.folder)))
    except Unavailable as error:
        log.warning("page_scripts_missing", detail=str(error))


FIRST_LINK_EVERY_S = 1.0


async def _first_link(web: Web) -> None:
    """Says once where the first administrator is made, if there is none; as soon as the database answers."""
    while True:
        try:
            if await accounts.is_new(web.pools.pages):
                secret = await accounts.first_link(web.pools.pages, created_by="first start")
                _say_first_link(web.settings.address, secret)
        except psycopg.Error:
            await asyncio.sleep(FIRST_LINK_EVERY_S)
        else:
            return


def _say_first_link(address: str, secret: str) -> None:
    if log_lines.chosen() is log_lines.Format.JSON:
        log.warning("no_administrator", link=f"{address}/welcome#{secret}", days=accounts.LINK_LIFE.days)
    else:
        click.echo(first_link_text(address, secret), err=True)


def first_link_text(address: str, secret: str) -> str:
    """What is printed."""
    return (
        "Nobody can administrate the dashboard yet. Make the first administrator here; the link works once, "
        f"for {accounts.LINK_LIFE.days} days:\n  {address}/welcome#{secret}"
    )
