"""Logger files: uploaded, and their questions answered. The import service reads them; their status is at /imports."""

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from dashboard.api.history import IMPORTS, Import
from dashboard.api.paging import answer
from dashboard.api.params import Text
from dashboard.imports.uploads import Upload, plain_name, sweep, tell
from dashboard.web.access import Principal, Scope, database, need
from dashboard.web.audit import note
from dashboard.web.pools import Database
from dashboard.web.problems import Problem, documented
from dashboard.web.state import web_of
from infra import stack
from schemas.devices import DeviceId
from schemas.errors import Refused

Db = Annotated[Database, Depends(database)]
MayImport = Annotated[Principal, Depends(need(Scope.IMPORT))]
BYTES_MAX = 2**62
"""Of the framework; the setting `upload_bytes_max` is what counts, and it counts while the file comes."""
PIECE_S_MAX = 60.0
"""A client that sends nothing for so long has gone."""

router = APIRouter(tags=["what came in"], max_body_size=BYTES_MAX)


class Answers(BaseModel):
    """What is said of a file that does not say it itself."""

    model_config = ConfigDict(extra="forbid")

    device: DeviceId | None = None
    utc_offset_minutes: Annotated[int, Field(ge=-840, le=840)] | None = None
    stamp: Literal["begin", "end"] | None = None
    interval_s: Annotated[float, Field(gt=0, le=366 * 86_400)] | None = None
    date_order: Literal["dmy", "mdy", "ymd"] | None = None
    password: Annotated[str, Field(max_length=200)] | None = None
    again: bool = False


class Taken(BaseModel):
    """A file that is whole here and will be read."""

    sha256: str
    name: str
    bytes: int


def incoming(request: Request) -> Path:
    """The folder that the import service watches."""
    return web_of(request).settings.incoming or stack.folder() / "incoming"


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/imports", response_model=Taken, status_code=202, openapi_extra=_BODY, responses=documented(400, 408, 413, 415)
)
async def upload(
    *,
    request: Request,
    db: Db,
    principal: MayImport,
    name: Annotated[Text, Query(description="The file's name, without folders.")],
    device: Annotated[DeviceId | None, Query()] = None,
    utc_offset_minutes: Annotated[int | None, Query(ge=-840, le=840)] = None,
    stamp: Annotated[Literal["begin", "end"] | None, Query()] = None,
    date_order: Annotated[Literal["dmy", "mdy", "ymd"] | None, Query()] = None,
) -> Response:
    """Send a logger file as the request's body. What is said of it goes along; the rest is asked for at /imports."""
    said = Answers(device=device, utc_offset_minutes=utc_offset_minutes, stamp=stamp, date_order=date_order)
    plain = plain_name(name)
    kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
    if kind.startswith("multipart/") or kind == "application/x-www-form-urlencoded":
        raise Problem(415, f"expected the file itself as the body, such as application/octet-stream, got {kind}")
    web = web_of(request)
    folder = incoming(request)
    with web.uploads.one_more(principal.name):
        await asyncio.to_thread(sweep, folder)
        with Upload(folder, bytes_max=web.settings.upload_bytes_max) as coming:
            try:
                coming.check_room(_announced(request))
                await _receive(request, coming)
            except Refused as too_large:
                raise Problem(413, str(too_large), headers={"Connection": "close"}) from None
            told = said.model_dump(exclude_none=True, exclude_defaults=True)
            sha256 = await asyncio.to_thread(coming.finish, who=principal.name, name=plain, said=told)
    await note(db, request, principal, "import.upload", subject=plain, sha256=sha256, bytes=coming.bytes)
    made = answer(request, Taken(sha256=sha256, name=plain, bytes=coming.bytes))
    made.status_code = 202
    made.headers["Location"] = f"/api/v1/imports/{sha256}"
    return made


def _announced(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdecimal() else None


async def _receive(request: Request, coming: Upload) -> None:
    pieces = aiter(request.stream())
    try:
        while True:
            async with asyncio.timeout(PIECE_S_MAX):
                piece = await anext(pieces, None)
            if piece is None:
                return
            await asyncio.to_thread(coming.write, piece)
    except ClientDisconnect:
        raise Problem(400, "the upload was cut off; nothing is kept") from None
    except TimeoutError:
        raise Problem(408, "nothing came for a minute; nothing is kept", headers={"Connection": "close"}) from None


@router.post("/imports/{sha256}/answers", response_model=Import, status_code=202, responses=documented(404, 409, 413))
async def answers(
    *,
    request: Request,
    db: Db,
    principal: MayImport,
    sha256: Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$")],
    said: Answers,
) -> Response:
    """Answer what a file asks (`questions`); it is tried again with what was said before and what is said now."""
    arguments = {"id": sha256, **dict.fromkeys(("state", "device", "begin", "end"))}
    row = await db.one(IMPORTS, arguments, what=f"file {sha256}")
    told = said.model_dump(exclude_none=True, exclude_defaults=True)
    if not told:
        raise Problem(
            422, "say something: device, utc_offset_minutes, stamp, interval_s, date_order, password or again"
        )
    try:
        await asyncio.to_thread(tell, incoming(request), row["source"] or "", told)
    except Refused as gone:
        raise Problem(409, str(gone)) from None
    words = {name: value for name, value in told.items() if name != "password"}
    await note(db, request, principal, "import.answer", subject=row["name"], sha256=sha256, said=words)
    made = answer(request, Import.model_validate(row))
    made.status_code = 202
    return made
