"""What all requests of one process share: settings, pools, limits. Made by `app.create_app`, kept on it."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import cast

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from dashboard.web.limits import CLIENTS_MAX, AtOnce, Rate
from dashboard.web.pools import Pools
from dashboard.web.settings import WebSettings
from infra.telemetry.health import Health


class Seen:
    """When something was last written down for a key, so that it is not done for each request."""

    def __init__(self) -> None:
        self._at: OrderedDict[str, float] = OrderedDict()

    def is_due(self, key: str, now: float, every_s: float) -> bool:
        if now - self._at.get(key, float("-inf")) < every_s:
            return False
        self._at[key] = now
        self._at.move_to_end(key)
        if len(self._at) > CLIENTS_MAX:
            self._at.popitem(last=False)
        return True


@dataclass(slots=True, kw_only=True)
class Web:
    """Of one application. `stopping` is set when the server is asked to end: whoever streams without end stops then."""

    settings: WebSettings
    database: str
    kafka: str | None
    pools: Pools
    rate: Rate
    downloads: AtOnce
    uploads: AtOnce
    live: AtOnce
    reading: asyncio.Semaphore
    health: Health = field(default_factory=lambda: Health("dashboard"))
    """What features know of themselves; the database is asked anew each time."""
    seen: Seen = field(default_factory=Seen)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


def make(settings: WebSettings, *, database: str, kafka: str | None) -> Web:
    """Opens nothing."""
    return Web(
        settings=settings,
        database=database,
        kafka=kafka,
        pools=Pools(database, settings),
        rate=Rate(per_s=settings.requests_per_s, burst=settings.requests_burst),
        downloads=AtOnce("data streams", of_one=settings.downloads_of_one_max, of_all=1_000),
        uploads=AtOnce("uploads", of_one=settings.uploads_max, of_all=settings.uploads_max),
        live=AtOnce("event streams", of_one=settings.live_clients_max, of_all=settings.live_clients_max),
        reading=asyncio.Semaphore(settings.downloads_max),
    )


def web_of(connection: HTTPConnection | FastAPI) -> Web:
    """The state of the application that a request or socket is for."""
    app = connection if isinstance(connection, FastAPI) else connection.app
    return cast("Web", app.state.web)


def reached_at(connection: HTTPConnection) -> str:
    """Where people reach the pages: as it is set, else as this one has come."""
    set_to = web_of(connection).settings.url
    return (set_to or f"{connection.url.scheme}://{connection.url.netloc}").rstrip("/")
