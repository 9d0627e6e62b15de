"""Gaps on the page of imports: what is missing, what could bring it back, and that started from here.

Files that were imported, and spools on this machine, can be read again from here; for an edge elsewhere the page shows
what must be typed there, since nothing leads from the server to an edge.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import psycopg
from fastapi import APIRouter, Depends, Query, Request
from psycopg.rows import DictRow
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse, JSONResponse, Response

from dashboard.imports.backfills import GAPS_READ_MAX, LARGEST, MOVED, Backfill, lacking
from dashboard.pages import commands
from dashboard.pages.render import fragment
from dashboard.pages.serving import running_of
from dashboard.web import audit
from dashboard.web.access import Principal, Role, database, need
from dashboard.web.pools import Database
from dashboard.web.problems import Problem
from schemas.errors import Refused, Unavailable

router = APIRouter(prefix="/imports", include_in_schema=False)
Viewer = Annotated[Principal, Depends(need(Role.VIEWER))]
Operator = Annotated[Principal, Depends(need(Role.OPERATOR))]
Db = Annotated[Database, Depends(database)]

PREVIEW_S_MAX = 120.0
DEVICES_SHOWN = 50
DAYS_INSTEAD = 30
"""Looked through where looking through all readings takes the database too long."""
KEPT = 20
"""Backfills that are remembered."""


class Filling(BaseModel):
    """Of which device; without `dry_run` it begins."""

    model_config = ConfigDict(extra="forbid")

    device: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^-\x00][^\x00]*$")]
    dry_run: bool = True


@router.get("/gaps")
async def gaps(
    principal: Viewer,
    db: Db,
    device: Annotated[str, Query(max_length=200)] = "",
    days: Annotated[int, Query(ge=0, le=36_600)] = 0,
) -> Response:
    """The part of the page; gaps of years take some seconds to find, so the page comes without them.

    Of the last `days`; 0: of all readings."""
    instead = None
    try:
        rows = await _largest(db, device, days)
    except psycopg.errors.QueryCanceled:
        if 0 < days <= DAYS_INSTEAD:
            raise
        instead = DAYS_INSTEAD
        rows = await _largest(db, device, instead)
    told = lacking(rows[:GAPS_READ_MAX])
    return HTMLResponse(
        fragment(
            "gap_list.html",
            devices=told[:DEVICES_SHOWN],
            more=max(0, len(told) - DEVICES_SHOWN),
            is_cut=len(rows) > GAPS_READ_MAX,
            instead=instead,
            days=instead or days,
            may=lambda right: principal.may(Role(right)),
        )
    )


async def _largest(db: Database, device: str, days: int) -> list[DictRow]:
    begin = datetime.now(UTC) - timedelta(days=days) if days else None
    return await db.rows(LARGEST, {"device": device or None, "begin": begin})


@router.get("/backfills")
async def backfills(request: Request, _: Viewer, db: Db) -> Response:
    """Those that were started here, the newest first, and how far they are."""
    found = running_of(request).backfills
    told = [
        {
            "number": each.number,
            "device": each.device_id,
            "who": each.who,
            "began": each.began.isoformat(),
            "ended": each.ended and each.ended.isoformat(),
            "words": each.words(),
            "failed": each.trouble is not None,
            "elsewhere": each.report["elsewhere"] if each.report and each.report["left"] else [],
            "moved": None if each.ended else await db.first(MOVED, {"device": each.device_id, "since": each.began}),
        }
        for each in reversed(found)
    ]
    return JSONResponse(told)


@router.post("/backfills")
async def backfill(request: Request, told: Filling, principal: Operator, db: Db) -> Response:
    """What could fill a device's gaps; or the work itself, which goes on when the page is left."""
    running = running_of(request)
    if running.live.device(told.device) is None:
        raise Problem(404, f"device {told.device} is not known here")
    words = ["imports", "backfill", "--device", told.device, "--json"]
    if told.dry_run:
        process = await commands.start(request, [*words, "--dry-run"], who=principal.name)
        return JSONResponse(await commands.answer_within(process, PREVIEW_S_MAX, remedy=" ".join(["telltale", *words])))
    if any(each.device_id == told.device and not each.ended for each in running.backfills):
        raise Problem(409, f"gaps of {told.device} are being filled already")
    number = running.backfills[-1].number + 1 if running.backfills else 1
    begun = Backfill(number, told.device, principal.name, datetime.now(UTC))
    running.backfills[:] = [*running.backfills[1 - KEPT :], begun]
    process = await commands.start(request, words, who=principal.name)
    running.at_work.add(task := asyncio.create_task(_followed(begun, process)))
    task.add_done_callback(running.at_work.discard)
    await audit.note(db, request, principal, "imports.backfill", subject=told.device)
    return JSONResponse({"number": number, "message": f"gaps of {told.device} are being filled", "tone": "good"}, 202)


async def _followed(begun: Backfill, process: commands.Process) -> None:
    try:
        begun.report = await commands.answer(process)
    except (Refused, Unavailable, ValueError) as error:
        begun.trouble = str(error)
    finally:
        begun.ended = datetime.now(UTC)
