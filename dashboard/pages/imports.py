"""Imported files: what became of each, what it asks, why it was refused. Uploads and answers go through the API."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import HTMLResponse, Response

from dashboard.imports.files import STORED
from dashboard.pages.render import fragment, page
from dashboard.pages.serving import running_of
from dashboard.web.access import Role, database, need
from dashboard.web.pools import Database
from infra.database import holding
from schemas.records import ImportState

router = APIRouter(prefix="/imports", include_in_schema=False, dependencies=[Depends(need(Role.VIEWER))])
Db = Annotated[Database, Depends(database)]
Words = Annotated[str, Query(max_length=200)]

SHOWN = 100
LIST = """
SELECT sha256, name, device_id, format, state, rows, readings, sent, reason, line, time, questions, problems, bytes,
  uploaded_by, first_time, last_time, missing, rejected
FROM imports
WHERE (%(device)s::text IS NULL OR device_id = %(device)s) AND (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(words)s::text IS NULL OR name ILIKE %(words)s)
ORDER BY (state IN ('needs an answer', 'unknown')) DESC, time DESC, sha256 LIMIT %(limit)s"""
ONE = "SELECT * FROM imports WHERE sha256 = %s"
COUNTS = "SELECT state, count(*)::int AS count FROM imports GROUP BY state"


@router.get("")
async def imports(request: Request, db: Db, device: Words = "", state: Words = "", q: Words = "") -> Response:
    """The page; its list comes with it and anew when a file moves on."""
    live = running_of(request).live
    return page(
        request,
        "imports.html",
        title="Imports",
        states=list(ImportState),
        devices=[each.device_id for devices in live.stations().values() for each in devices],
        **await _listed(db, device=device, state=state, q=q),
    )


@router.get("/list")
async def import_list(db: Db, device: Words = "", state: Words = "", q: Words = "") -> Response:
    """The list alone."""
    return HTMLResponse(fragment("import_list.html", **await _listed(db, device=device, state=state, q=q)))


async def _listed(db: Database, *, device: str, state: str, q: str) -> dict[str, Any]:
    wanted = state if state in set(ImportState) else None
    words = holding(q.strip()) if q.strip() else None
    rows = await db.rows(LIST, {"device": device or None, "state": wanted, "words": words, "limit": SHOWN + 1})
    counts = {row["state"]: row["count"] for row in await db.rows(COUNTS)}
    waiting = counts.get("needs an answer", 0) + counts.get("unknown", 0)
    told = {"rows": rows[:SHOWN], "more": len(rows) > SHOWN, "counts": counts, "waiting": waiting, "tone": tone}
    return told | {"device": device, "state": state, "q": q}


def tone(state: str) -> str:
    """How a state looks; the word says it, too."""
    if state == ImportState.STORED:
        return "good"
    if state == ImportState.REFUSED:
        return "bad"
    return "late" if state in (ImportState.NEEDS_AN_ANSWER, ImportState.UNKNOWN) else ""


@router.get("/{sha256}")
async def one(request: Request, sha256: str, db: Db) -> Response:
    """One file."""
    live = running_of(request).live
    devices = [each.device_id for found in live.stations().values() for each in found]
    told = await _one(db, sha256)
    return page(request, "import.html", title=told["file"]["name"], devices=devices, **told)


@router.get("/{sha256}/facts")
async def facts(sha256: str, db: Db) -> Response:
    """What changes of it."""
    return HTMLResponse(fragment("import_facts.html", **await _one(db, sha256)))


async def _one(db: Database, sha256: str) -> dict[str, Any]:
    file = await db.one(ONE, (sha256,), what=f"file {sha256[:12]}")
    stored = None
    if file["device_id"] and file["first_time"] and file["state"] == ImportState.STORED:
        row = await db.first(STORED, file)
        stored = row["count"] if row else None
    return {"file": file, "stored": stored, "tone": tone}
