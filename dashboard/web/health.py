"""Whether this process lives, and whether it can do its work. For supervisors and load balancers; tells no secrets."""

import asyncio
from typing import Any

import psycopg
from fastapi import APIRouter, Depends, Request, Response

from dashboard.web.access import public
from dashboard.web.problems import Problem
from dashboard.web.state import Web, web_of

READY = "SELECT to_regclass('tokens') IS NOT NULL AS migrated"
READY_S_MAX = 3.0

router = APIRouter(dependencies=[Depends(public)], include_in_schema=False)


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


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> Any:
    """This process can serve: the database answers and has its tables."""
    found = await trouble(web_of(request))
    if found:
        raise Problem(503, found, headers={"Retry-After": "5"})
    return Response(b'{"status":"ready"}', media_type="application/json")
