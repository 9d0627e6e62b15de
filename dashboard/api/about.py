"""How the service does, for those who use it: health, and who one is."""

import time
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from dashboard.api.paging import answer
from dashboard.web.access import Principal, Scope, database, need
from dashboard.web.pools import Database
from dashboard.web.state import web_of
from schemas.records import Utc

Db = Annotated[Database, Depends(database)]
router = APIRouter(tags=["about"])

HEALTH = """
SELECT now() AS time, current_setting('server_version') AS postgresql,
  (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb,
  (SELECT max(name) FROM migrations) AS migration,
  (SELECT max(updated_at) FROM sink_offsets) AS sink_moved,
  (SELECT count(*) FROM alarms WHERE state <> 'cleared') AS alarms_standing,
  (SELECT count(*) FROM devices WHERE active) AS devices"""


class Health(BaseModel):
    """The service and what it stands on."""

    time: Utc
    version: str
    postgresql: str
    timescaledb: str | None
    migration: str | None
    sink_moved: Utc | None = Field(description="When the sink stored something last.")
    alarms_standing: int
    devices: int
    answered_ms: float = Field(description="How long the database took for this.")
    live_clients: int = Field(description="Open event streams.")


class Me(BaseModel):
    """Who asks."""

    name: str
    way: str
    role: str | None
    scopes: list[str]


@router.get("/health", response_model=Health, dependencies=[Depends(need(Scope.READ))])
async def health(*, request: Request, db: Db) -> Response:
    """Whether the parts behind this service answer. For load balancers there is /readyz, without a token."""
    began = time.perf_counter()
    row = await db.one(HEALTH, None, what="the database")
    told = {"answered_ms": round(1000 * (time.perf_counter() - began), 2), "version": request.app.version}
    live = web_of(request).live.open
    return answer(request, Health.model_validate(row | told | {"live_clients": live}))


@router.get("/me", response_model=Me)
async def me(*, request: Request, principal: Annotated[Principal, Depends(need(Scope.READ))]) -> Response:
    """Whom your token or session stands for, and what it may do."""
    scopes = sorted(principal.scopes)
    return answer(request, Me(name=principal.name, way=principal.way, role=principal.role, scopes=[*map(str, scopes)]))
