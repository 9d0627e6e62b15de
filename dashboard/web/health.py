"""Whether this process lives, and whether it can do its work; its metrics. For supervisors, load balancers and
Prometheus; tells no secrets."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from ipaddress import ip_address
from typing import Annotated, Any

import psycopg
from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from prometheus_client import Metric
from prometheus_client.registry import Collector
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from dashboard.web import measured
from dashboard.web.access import Need, Principal, Scope, public
from dashboard.web.state import Web, web_of
from infra.telemetry import probing
from infra.telemetry.health import Check
from infra.telemetry.registry import BUILD
from infra.telemetry.serving import HealthMetrics, exposition, serving

READY = "SELECT to_regclass('tokens') IS NOT NULL AS migrated"
READY_S_MAX = 3.0
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
LOCAL = Principal(name="this machine", way="loopback", scopes=frozenset({Scope.READ}))

router = APIRouter(include_in_schema=False)


async def trouble(web: Web) -> str | None:
    """Why this process cannot serve; None: it can."""
    try:
        async with asyncio.timeout(READY_S_MAX):
            row = await web.pools.pages.first(READY)
    except (psycopg.Error, TimeoutError):
        return "the database does not answer"
    if row is None or not row["migrated"]:
        return "the database lacks tables; make them with: telltale db migrate"
    return None


@router.get("/healthz", dependencies=[Depends(public)])
async def healthz() -> dict[str, Any]:
    """This process answers."""
    return {"service": "dashboard", "alive": True, "said": "lives"}


@router.get("/readyz", dependencies=[Depends(public)])
async def readyz(request: Request) -> Response:
    """This process can serve: the database answers and has its tables. What else it knows is told."""
    web = web_of(request)
    found = await trouble(web)
    told = web.health.readiness()
    told["checks"]["database"] = asdict(Check(found is None, found or "the database answers and has its tables"))
    told["ready"] = told["ready"] and found is None
    return JSONResponse(told, 200 if told["ready"] else 503, headers=None if told["ready"] else {"Retry-After": "5"})


class NeedUnlessLocal(Need):
    """A scope, but of this machine's own programs none: they can read our memory anyway. Behind a proxy everybody
    seems to be local, so that nobody is."""

    async def __call__(self, connection: HTTPConnection) -> Principal:
        settings, headers = web_of(connection).settings, connection.headers
        behind_proxy = settings.behind_tls or settings.url is not None or any(name in headers for name in FORWARDED)
        if not behind_proxy and _is_loopback(connection):
            return LOCAL
        return await super().__call__(connection)


def _is_loopback(connection: HTTPConnection) -> bool:
    try:
        return connection.client is not None and ip_address(connection.client.host).is_loopback
    except ValueError:
        return False


@router.get("/metrics", dependencies=[Depends(NeedUnlessLocal(Scope.READ))])
async def metrics(request: Request, accept: Annotated[str | None, Header()] = None) -> Response:
    """This process in figures, for Prometheus: from this machine, or with a token that may read."""
    web = web_of(request)
    measured.look(web)
    BUILD.labels(web.health.service, request.app.version).set(1)
    body, kind = exposition(accept, HealthMetrics(web.health))
    return Response(body, headers={"Content-Type": kind})


class _Looking(Collector):
    """The gauges that are read when they are asked for."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def collect(self) -> Iterable[Metric]:
        measured.look(self._web)
        return ()


@contextmanager
def also_apart(app: FastAPI) -> Iterator[None]:
    """The same at TELLTALE_METRICS_PORT, where one is set: a listener for Prometheus alone, which needs no token."""
    web = web_of(app)
    with serving(web.health, _Looking(web), probes={"database": probing.database(web.database)}):
        yield
