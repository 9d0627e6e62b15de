"""Composes the web service: features, pools, errors, headers. Made by `telltale dashboard run` and by tests.

How to add a part:

1. Write an `APIRouter`. Every route depends on `need(...)` or `public` of `dashboard.web.access`, at best all at once:
   `APIRouter(prefix="/alarms", dependencies=[Depends(need(Role.VIEWER))])`; a route that changes something adds its
   own `Depends(need(Role.OPERATOR))`. `tests/unit/test_web_routes.py` looks at all routes and refuses one without.
2. Ask the database through `db: Annotated[Database, Depends(database)]` (both from `dashboard.web.access`), which is
   the pool for whoever asks, by its `rows`, `first`, `one`, `connection()`. Never hold a connection while a client is
   waited for. `web_of(request)` has the settings and the broker's address.
3. Raise `Problem`, `Refused` or `Unavailable`; they become RFC 9457 answers, or a page where the feature has `page`.
4. Note what people did with `dashboard.web.audit.note`.
5. Gather it as a `Feature` (routers, mounts, a lifespan for what runs beside) in a module of your own and add it to
   `FEATURES` below.

Security headers are on every answer; a route that needs another policy sets the header itself. Secrets never go into
a URL. Blocking work (Kafka clients, hashing) goes into `asyncio.to_thread`.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse

from dashboard.api import feature as api
from dashboard.pages.feature import PAGES
from dashboard.sensorthings import routes as sensorthings
from dashboard.web import health, measured, problems, state
from dashboard.web.access import public
from dashboard.web.bodies import Bodies
from dashboard.web.compression import Compression
from dashboard.web.feature import Feature
from dashboard.web.headers import SecurityHeaders
from dashboard.web.heads import Heads
from dashboard.web.settings import WebSettings
from infra import readiness
from infra.version import our_version

HEALTH = Feature(name="health", routers=(health.router,))
FEATURES: tuple[Feature, ...] = (HEALTH, api.FEATURE, sensorthings.FEATURE, PAGES)
READY_EVERY_S = 0.2
FILES = "/api/v1/imports"
"""Where files are uploaded."""
EVENTS = "/api/v1/stream"


def create_app(
    settings: WebSettings, *, database: str, kafka: str | None, features: Sequence[Feature] = FEATURES
) -> FastAPI:
    """The application. Connects to nothing before it is started."""
    web = state.make(settings, database=database, kafka=kafka)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await web.pools.open()
            stack.push_async_callback(web.pools.close)
            for feature in features:
                if feature.lifespan is not None:
                    await stack.enter_async_context(feature.lifespan(app))
            telling = asyncio.create_task(_tell_when_ready(web))
            stack.push_async_callback(_end, telling)
            yield

    app = FastAPI(
        title="Telltale",
        version=our_version(),
        description="Sensor readings, alarms and everything around them. Times have a zone; errors are RFC 9457.",
        openapi_url=None,
        docs_url=None,  # their scripts come from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.web = web
    pages = [feature.page for feature in features if feature.page]
    problems.install(app, pages[0] if pages else None)
    app.add_middleware(Bodies, files=(FILES,))
    app.add_middleware(Compression)
    app.add_middleware(SecurityHeaders, behind_tls=settings.behind_tls)
    app.add_middleware(measured.Requests)
    app.add_middleware(Heads, endless=(EVENTS,))
    for feature in features:
        for router in feature.routers:
            app.include_router(router)
        app.router.routes.extend(feature.mounts)
    app.include_router(_document(app))
    return app


def _document(app: FastAPI) -> APIRouter:
    """`/openapi.json`: the API's description, without pages."""
    router = APIRouter(dependencies=[Depends(public)], include_in_schema=False)
    made: list[dict[str, Any]] = []

    @router.get("/openapi.json")
    async def openapi() -> JSONResponse:
        if not made:
            made.append(document(app))
        return JSONResponse(made[0])

    return router


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    made = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas["ProblemDetails"] = problems.ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    made["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "telltale token create"}
    }
    made["security"] = [{"token": []}]
    return made


async def _tell_when_ready(web: state.Web) -> None:
    while await health.trouble(web):  # noqa: ASYNC110 - the database rings no bell
        await asyncio.sleep(READY_EVERY_S)
    readiness.announce()


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
