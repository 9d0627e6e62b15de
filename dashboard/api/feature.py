"""The API as a part of the web service."""

from fastapi import APIRouter

from dashboard.api import about, configuration, data, flagging, history, stream, watching
from dashboard.web.feature import Feature
from dashboard.web.problems import documented

PREFIX = "/api/v1"
BODY_BYTES_MAX = 1_000_000
"""Of a request that is no upload."""

ROUTERS = (configuration, data, watching, stream, flagging, history, about)
API = APIRouter(prefix=PREFIX, responses=documented(401, 403, 422, 429, 503), max_body_size=BODY_BYTES_MAX)
for _each in ROUTERS:
    API.include_router(_each.router)

FEATURE = Feature(name="api", routers=(API,), lifespan=stream.feeding)
