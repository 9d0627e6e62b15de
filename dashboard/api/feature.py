"""The API as a part of the web service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from dashboard.api import about, configuration, data, exporting, flagging, history, line, stream, uploading, watching
from dashboard.web.feature import Feature
from dashboard.web.problems import documented

PREFIX = "/api/v1"
BODY_BYTES_MAX = 1_000_000
"""Of a request that is no upload."""

ROUTERS = (configuration, data, line, watching, stream, flagging, history, uploading, exporting, about)
API = APIRouter(prefix=PREFIX, responses=documented(401, 403, 422, 429, 503), max_body_size=BODY_BYTES_MAX)
for _each in ROUTERS:
    API.include_router(_each.router)


@asynccontextmanager
async def _running(app: FastAPI) -> AsyncIterator[None]:
    async with stream.feeding(app), exporting.working(app):
        yield


FEATURE = Feature(name="api", routers=(API,), lifespan=_running)
