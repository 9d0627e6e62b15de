"""Lists in pages by key: a page says where the next one begins, so that rows added meanwhile neither shift nor repeat.

A cursor is the last row's key, packed; whoever makes one up is answered 422.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, LiteralString, TypeVar

import orjson
from fastapi import Depends, Query, Request, Response
from psycopg.rows import DictRow
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from dashboard.web.access import database
from dashboard.web.pools import Database
from dashboard.web.problems import Problem

T = TypeVar("T")
LIMIT = 100
LIMIT_MAX = 1_000

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Entries on a page.")]
After = Annotated[
    str | None, Query(max_length=2_000, description="`next` of the page before; the first page without it.")
]


class Entry(BaseModel):
    """One entry of a list."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next: str | None = Field(default=None, description="Pass as `after` for the next page; null: this is the last.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A list: what is selected, and by which columns it is ordered; together they are unique."""

    select: LiteralString
    key: Mapping[str, Any]
    """The type of each key column, in order."""
    newest_first: bool = False


class Paging:
    """Which page of a list somebody asks for, and of which pool. Behind `need(...)`."""

    def __init__(
        self, request: Request, db: Annotated[Database, Depends(database)], limit: Limit = LIMIT, after: After = None
    ) -> None:
        self.request, self.db, self.limit, self.after = request, db, limit, after

    async def answer(
        self, model: type[Page[Any]], listing: Listing, arguments: Mapping[str, Any], *, etag: bool = False
    ) -> Response:
        """The page. Raises `Problem` 422 for a cursor that is none of ours."""
        rows, cursor = await page_of(self.db, listing, arguments, after=self.after, limit=self.limit)
        page = model.model_validate({"items": rows, "next": cursor})
        return answer(self.request, page, etag=etag, next_cursor=cursor)


Paged = Annotated[Paging, Depends()]


async def page_of(
    db: Database, listing: Listing, arguments: Mapping[str, Any], *, after: str | None, limit: int
) -> tuple[list[DictRow], str | None]:
    """One page's rows, and the cursor of the next one. Raises `Problem` 422 for a cursor that is none of ours."""
    names = list(listing.key)
    bounds: dict[str, Any] = {}
    where = ""
    if after is not None:
        values = unpacked(after, list(listing.key.values()))
        bounds = {f"after_{name}": value for name, value in zip(names, values, strict=True)}
        keys, marks = ", ".join(names), ", ".join(f"%(after_{name})s" for name in names)
        where = f"WHERE ({keys}) {'<' if listing.newest_first else '>'} ({marks})"
    order = ", ".join(f"{name} {'DESC' if listing.newest_first else 'ASC'}" for name in names)
    statement = f"SELECT * FROM ({listing.select}) AS listed {where} ORDER BY {order} LIMIT %(page_limit)s"  # noqa: S608
    rows = await db.rows(statement, {**arguments, **bounds, "page_limit": limit + 1})
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], packed([rows[limit - 1][name] for name in names])


def packed(key: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(key))).rstrip(b"=").decode()


def unpacked(cursor: str, types: Sequence[Any]) -> list[Any]:
    """The key of a cursor. Raises `Problem` 422."""
    try:
        said = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        if not isinstance(said, list) or len(said) != len(types):
            raise ValueError
        return [TypeAdapter(kind).validate_python(value) for kind, value in zip(types, said, strict=True)]
    except (ValueError, binascii.Error, ValidationError):
        raise Problem(422, f'after: "{cursor[:60]}" is no cursor of this list; take `next` of a page') from None


def answer(request: Request, value: BaseModel, *, etag: bool = False, next_cursor: str | None = None) -> Response:
    """The model as JSON. With `etag`, 304 for whoever has it already."""
    body = value.model_dump_json(by_alias=True).encode()
    headers = {}
    if next_cursor is not None:
        headers["Link"] = next_link(request, next_cursor)
    if etag:
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'  # weak: it may be sent compressed
        headers |= {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Accept-Encoding, Authorization, Cookie"}
        if _has_it(request.headers.get("if-none-match"), tag):
            return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def next_link(request: Request, cursor: str) -> str:
    """Where the next page is, as a `Link` header has it (RFC 8288)."""
    return f'<{request.url.include_query_params(after=cursor)}>; rel="next"'


def _has_it(asked: str | None, tag: str) -> bool:
    """Weak comparison, as RFC 9110 has it for If-None-Match."""
    if asked is None:
        return False
    return asked.strip() == "*" or tag.removeprefix("W/") in {
        each.strip().removeprefix("W/") for each in asked.split(",")
    }
