"""Export jobs: started, followed, cancelled, fetched. What an export holds and how it is made: `dashboard.exports`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response
from starlette.responses import FileResponse

from dashboard.api.paging import After, Limit, Page, answer, packed, unpacked
from dashboard.api.params import Text
from dashboard.exports.jobs import Job, Jobs, JobState, Worker
from dashboard.exports.request import ExportRequest
from dashboard.exports.settings import ExportSettings
from dashboard.people.names import person
from dashboard.web.access import Principal, Role, Scope, database, need
from dashboard.web.audit import note
from dashboard.web.pools import Database
from dashboard.web.problems import Problem, documented, not_found, too_many
from dashboard.web.state import web_of
from schemas.errors import Refused

Db = Annotated[Database, Depends(database)]
MayExport = Annotated[Principal, Depends(need(Scope.EXPORT))]
Number = Annotated[int, Path(ge=1, le=2**63 - 1)]

router = APIRouter(tags=["exports"])


@asynccontextmanager
async def working(app: FastAPI) -> AsyncIterator[None]:
    """Jobs are made beside this service, one after another, in processes of their own."""
    web, settings = web_of(app), ExportSettings()
    app.state.jobs = Jobs(
        web.database,
        settings.place(),
        queued_max=settings.queued_max,
        queued_of_one_max=settings.queued_of_one_max,
    )
    worker = Worker(app.state.jobs, settings, kafka=web.kafka)
    worker.start()
    try:
        yield
    finally:
        await asyncio.to_thread(worker.stop)


def jobs_of(request: Request) -> Jobs:
    """The queue of this service."""
    jobs: Jobs = request.app.state.jobs
    return jobs


async def _known(request: Request, number: int) -> Job:
    try:
        return await asyncio.to_thread(jobs_of(request).job, number)
    except Refused:
        raise not_found(f"export {number}") from None


@router.get("/exports", response_model=Page[Job])
async def exports(
    *,
    request: Request,
    _: MayExport,
    state: Annotated[JobState | None, Query()] = None,
    author: Annotated[Text | None, Query(description="Who has started them.")] = None,
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """Export jobs, newest first."""
    before = unpacked(after, [int])[0] if after is not None else None
    if before is not None and not 0 <= before < 2**63:
        raise Problem(422, "after: no cursor of this list; take `next` of a page")
    found = await asyncio.to_thread(jobs_of(request).listed, limit=limit + 1, before=before, author=author, state=state)
    cursor = packed([found[limit - 1].export_id]) if len(found) > limit else None
    return answer(request, Page[Job](items=found[:limit], next=cursor), next_cursor=cursor)


@router.post("/exports", response_model=Job, status_code=202, responses=documented(413))
async def start(*, request: Request, db: Db, principal: MayExport, wanted: ExportRequest) -> Response:
    """Start an export. Ask for the job until it is done, then fetch its file."""
    try:
        job = await asyncio.to_thread(jobs_of(request).start, wanted, author=principal.name)
    except Refused as full:
        raise too_many(str(full), after_s=60) from None
    await note(db, request, principal, "export.start", subject=str(job.export_id), format=str(wanted.format))
    made = answer(request, job)
    made.status_code = 202
    made.headers["Location"] = f"/api/v1/exports/{job.export_id}"
    return made


@router.get("/exports/{export_id}", response_model=Job, responses=documented(404))
async def export(*, request: Request, _: MayExport, export_id: Number) -> Response:
    """One job: its state, rows, share done and seconds left."""
    return answer(request, await _known(request, export_id))


@router.delete("/exports/{export_id}", response_model=Job, responses=documented(404, 409))
async def cancel(*, request: Request, db: Db, principal: MayExport, export_id: Number) -> Response:
    """Cancel a job that waits or runs; nothing is left of it. For who has asked for it, operators and admins."""
    asked = await _known(request, export_id)
    is_own = person(asked.author) == person(principal.name)
    if not (is_own or principal.may(Role.OPERATOR) or principal.may(Scope.ADMIN)):
        raise Problem(
            403, f"export {export_id} is not yours: {asked.author} may cancel it, or somebody who is operator or more"
        )
    try:
        job = await asyncio.to_thread(jobs_of(request).cancel, export_id)
    except Refused as over:
        raise Problem(409, str(over)) from None
    await note(db, request, principal, "export.cancel", subject=str(export_id))
    return answer(request, job)


_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file; ask for a range to go on where a download broke off.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {
        "description": "A range of it.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    416: {"description": "The file has no such range."},
}


@router.get("/exports/{export_id}/file", response_class=FileResponse, responses={**_FILE, **documented(400, 404, 409)})
async def file(
    *,
    request: Request,
    _: MayExport,
    export_id: Number,
    name: Annotated[Text | None, Query(description="Of a file beside the first, as the job's summary has it.")] = None,
) -> Response:
    """The file of a job that is done. It never changes, so a download can be resumed."""
    await _known(request, export_id)
    try:
        path = await asyncio.to_thread(jobs_of(request).file, export_id, name)
    except Refused as gone:
        raise Problem(409, str(gone)) from None
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)
