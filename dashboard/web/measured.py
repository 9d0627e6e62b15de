"""The dashboard's metrics, and the middleware that counts requests. Labels are routes as declared, no paths."""

import time

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.web.state import Web
from infra.telemetry.registry import REGISTRY, SECONDS

REQUESTS = Counter(
    "telltale_dashboard_requests_total", "Requests answered.", ["method", "route", "status"], registry=REGISTRY
)
ANSWER = Histogram(
    "telltale_dashboard_answer_seconds", "From a request to the first byte of its answer.", ["area"],
    registry=REGISTRY, buckets=SECONDS,
)  # fmt: skip
OPEN = Gauge("telltale_dashboard_open", "Streams, downloads and uploads that are open.", ["what"], registry=REGISTRY)
CONNECTIONS = Gauge(
    "telltale_dashboard_connections", "Connections to the database.", ["pool", "state"], registry=REGISTRY
)
WAITING = Gauge("telltale_dashboard_pool_waiting", "Requests that wait for a connection.", ["pool"], registry=REGISTRY)

AREAS = ("api", "sta", "assets")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Requests:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                ANSWER.labels(_area(scope)).observe(time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUESTS.labels(method, _route(scope), status).inc()


def _route(scope: Scope) -> str:
    """As it is declared; files and what does not exist are one each."""
    route = scope.get("route")
    if route is not None:
        return str(getattr(route, "path", "other"))
    return "files" if scope.get("endpoint") is not None else "none"


def _area(scope: Scope) -> str:
    first = _route(scope).strip("/").partition("/")[0]
    return first if first in AREAS else "files" if first == "files" else "pages"


def look(web: Web) -> None:
    """What is read when it is asked for."""
    for what, open_ in (("events", web.live), ("downloads", web.downloads), ("uploads", web.uploads)):
        OPEN.labels(what).set(open_.open)
    for name, pool in (("pages", web.pools.pages), ("api", web.pools.api)):
        figures = pool.figures()
        size, idle = figures.get("pool_size", 0), figures.get("pool_available", 0)
        CONNECTIONS.labels(name, "idle").set(idle)
        CONNECTIONS.labels(name, "busy").set(size - idle)
        WAITING.labels(name).set(figures.get("requests_waiting", 0))
