"""Accounts, tokens and the audit log for administrators; one's own account for everybody."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from dashboard.pages.render import page
from dashboard.people import accounts, passwords
from dashboard.web import audit
from dashboard.web.access import GRANTS, Principal, Role, Scope, database, hashed, need, new_token
from dashboard.web.pools import Database
from dashboard.web.problems import not_found
from dashboard.web.state import reached_at
from dashboard.web.tokens import LIST as TOKENS
from dashboard.web.tokens import MAKE as MAKE_TOKEN
from dashboard.web.tokens import REVOKE as REVOKE_TOKEN
from infra.database import holding
from schemas.errors import Refused

router = APIRouter(include_in_schema=False)
Admin = Annotated[Principal, Depends(need(Role.ADMIN))]
Someone = Annotated[Principal, Depends(need(Role.VIEWER))]
Db = Annotated[Database, Depends(database)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]

AUDIT_SHOWN = 100
TOKEN_DAYS_MAX = 730
AUDIT = """
SELECT audit_id, time, who, way, what, subject, outcome, detail, address FROM audit_log
WHERE (%(before)s::bigint IS NULL OR audit_id < %(before)s)
  AND (%(words)s::text IS NULL OR concat_ws(' ', who, what, subject) ILIKE %(words)s)
ORDER BY audit_id DESC LIMIT %(limit)s"""
NAME_OF = "SELECT name FROM users WHERE user_id = %s"
END_ONE = """
UPDATE sessions SET revoked = now()
WHERE user_id = %s AND encode(session_hash, 'hex') = %s AND revoked IS NULL RETURNING 1"""
OWN_TOKEN = "SELECT prefix FROM tokens WHERE token_id = %s AND user_id = %s AND revoked IS NULL"  # noqa: S105


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewUser(_Told):
    """An account to be made."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: Role


class Change(_Told):
    """What is to be otherwise; null stays."""

    role: Role | None = None
    disabled: bool | None = None


class NewPassword(_Told):
    """One's own."""

    old: Annotated[str, Field(max_length=2000)]
    new: Annotated[str, Field(max_length=2000)]
    again: Annotated[str, Field(max_length=2000)]


class NewToken(_Told):
    """A key for scripts, of the one who makes it."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    days: Annotated[int, Field(ge=1, le=TOKEN_DAYS_MAX)] = 90


@router.get("/users")
async def users(request: Request, principal: Admin, db: Db, q: str = "", before: int | None = None) -> Response:
    """All accounts, tokens, and what people did."""
    words = holding(q.strip()) if q.strip() else None
    log = await db.rows(AUDIT, {"before": before, "words": words, "limit": AUDIT_SHOWN + 1})
    return page(
        request,
        "users.html",
        title="Users",
        users=await db.rows(accounts.USERS),
        tokens=await db.rows(TOKENS, {"all": False}),
        log=log[:AUDIT_SHOWN],
        older=log[AUDIT_SHOWN - 1]["audit_id"] if len(log) > AUDIT_SHOWN else None,
        q=q,
        roles=list(Role),
        me=principal.user_id,
        link_days=accounts.LINK_LIFE.days,
    )


@router.post("/users")
async def add(request: Request, told: NewUser, principal: Admin, db: Db) -> Response:
    """A new account, and the one-time link by which its owner chooses a password."""
    number = await accounts.add(db, told.name, told.role)
    secret = await accounts.link_for(db, number, created_by=principal.name)
    await audit.note(db, request, principal, "user.add", subject=told.name, role=told.role)
    return JSONResponse({"link": _link(request, secret), "message": f"{told.name} is {told.role}", "tone": "good"})


@router.post("/users/{number}/link")
async def link(request: Request, number: Number, principal: Admin, db: Db) -> Response:
    """Another one-time link for somebody."""
    name = await _name(db, number)
    secret = await accounts.link_for(db, number, created_by=principal.name)
    await audit.note(db, request, principal, "user.link", subject=name)
    return JSONResponse({"link": _link(request, secret)})


@router.patch("/users/{number}")
async def change(request: Request, number: Number, told: Change, principal: Admin, db: Db) -> Response:
    """Another role, or disabled or not."""
    name = await _name(db, number)
    await accounts.change(db, number, role=told.role, disabled=told.disabled)
    await audit.note(db, request, principal, "user.change", subject=name, **told.model_dump(exclude_none=True))
    return JSONResponse({"message": f"{name}: changed", "tone": "good", "go": "/users"})


@router.delete("/users/{number}/sessions")
async def sign_out_user(request: Request, number: Number, principal: Admin, db: Db) -> Response:
    """Ends all sessions of somebody; their open pages close within seconds."""
    name = await _name(db, number)
    ended = await accounts.end_other_sessions(db, number, keep=principal.session_hash)
    await audit.note(db, request, principal, "user.sign_out", subject=name, sessions=ended)
    return JSONResponse({"message": f"{name}: {ended} sessions ended", "tone": "good", "go": "/users"})


@router.delete("/tokens/{number}")
async def revoke_token(request: Request, number: Number, principal: Someone, db: Db) -> Response:
    """Ends a token: one's own, or for administrators any."""
    if not principal.may(Role.ADMIN) and await db.first(OWN_TOKEN, (number, principal.user_id)) is None:
        raise not_found(f"a working token {number} of yours")
    row = await db.first(REVOKE_TOKEN, {"token": str(number), "who": principal.name})
    if row is None:
        raise not_found(f"a working token {number}")
    await audit.note(db, request, principal, "token.revoke", subject=row["prefix"])
    return JSONResponse({"message": f"token {row['prefix']} is revoked", "tone": "good", "go": _back(request)})


@router.get("/account")
async def account(request: Request, principal: Someone, db: Db) -> Response:
    """One's own sessions, tokens and password."""
    role = principal.role or Role.VIEWER
    mine = [row for row in await db.rows(TOKENS, {"all": False}) if row["owner"] == principal.name]
    return page(
        request,
        "account.html",
        title="Your account",
        sessions=await db.rows(accounts.SESSIONS, {"user": principal.user_id, "mine": principal.session_hash}),
        tokens=mine,
        scopes=sorted(GRANTS[role]),
        length_min=passwords.LENGTH_MIN,
    )


@router.post("/account/password")
async def new_password(request: Request, told: NewPassword, principal: Someone, db: Db) -> Response:
    """Another password; all other sessions end."""
    if told.new != told.again:
        raise Refused("the two new passwords differ")
    if principal.user_id is None:
        raise Refused("this session has no account of its own")
    address = request.client.host if request.client else ""
    await accounts.change_password(
        db, principal.user_id, principal.name, old=told.old, new=told.new, keep=principal.session_hash, address=address
    )
    await audit.note(db, request, principal, "password.change", subject=principal.name)
    return JSONResponse({"message": "password changed; other sessions are signed out", "tone": "good"})


@router.delete("/account/sessions/{session}")
async def end_session(request: Request, session: str, principal: Someone, db: Db) -> Response:
    """Signs out one of one's own browsers."""
    row = await db.first(END_ONE, (principal.user_id, session))
    if row is None:
        raise not_found("this session")
    await audit.note(db, request, principal, "session.end", subject=principal.name)
    return JSONResponse({"message": "signed out there", "tone": "good", "go": "/account"})


@router.post("/account/tokens")
async def make_token(request: Request, told: NewToken, principal: Someone, db: Db) -> Response:
    """A token of one's own; shown in this answer and never again."""
    role = principal.role or Role.VIEWER
    beyond = set(told.scopes) - GRANTS[role]
    if beyond:
        raise Refused(f"you are {role}, whose tokens cannot have the scope {', '.join(sorted(beyond))}")
    token, prefix = new_token()
    expires: AwareDatetime = datetime.now(UTC) + timedelta(days=told.days)
    names = sorted(set(map(str, told.scopes)))
    row: Any = (hashed(token), prefix, told.name, names, principal.user_id, principal.name, expires)
    await db.first(MAKE_TOKEN, row)
    await audit.note(db, request, principal, "token.create", subject=prefix, scopes=names)
    return JSONResponse({"token": token, "message": "copy the token now: it is shown once", "tone": "good"})


async def _name(db: Database, number: int) -> str:
    return str((await db.one(NAME_OF, (number,), what=f"account {number}"))["name"])


def _link(request: Request, secret: str) -> str:
    return f"{reached_at(request)}/welcome#{secret}"


def _back(request: Request) -> str:
    return "/users" if request.headers.get("referer", "").partition("?")[0].endswith("/users") else "/account"
