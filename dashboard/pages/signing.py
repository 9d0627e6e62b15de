"""Signing in and out, and one-time links. The session's id lives in a cookie that no script can read."""

import time
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Form, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, RedirectResponse, Response

from dashboard.pages.render import page
from dashboard.people import accounts, passwords
from dashboard.web import audit
from dashboard.web.access import SESSION_COOKIE, Principal, Role, identify, is_ours, need, public
from dashboard.web.problems import Problem
from dashboard.web.state import web_of
from schemas.errors import Refused

router = APIRouter(include_in_schema=False)
OPEN = [Depends(public)]
LOCKED_TOLD_EVERY_S = 60.0
"""So often the audit log tells of an address that goes on trying: a stranger must not fill the database with it."""
Someone = Annotated[Principal, Depends(need(Role.VIEWER))]


class Link(BaseModel):
    """The secret of a one-time link."""

    model_config = ConfigDict(extra="forbid")

    secret: Annotated[str, Field(min_length=1, max_length=200)]


class Welcome(Link):
    """What somebody chooses who comes by a one-time link."""

    name: str = ""
    password: str


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def check_origin(request: Request) -> None:
    """A form that another site has made us fill is refused. Raises `Problem` 403."""
    origin = request.headers.get("origin")
    if origin is not None and not is_ours(origin, request):
        raise Problem(403, f"origin {origin} may not act here")


def safe_next(path: str) -> str:
    """Where to go after signing in: a page of ours, never somebody else's."""
    if not path.startswith("/") or path.startswith(("//", "/\\")) or not path.isprintable():
        return "/status"
    parts = urlsplit(path)
    is_ours = not parts.scheme and not parts.netloc
    return path if is_ours and parts.path not in ("/login", "/logout", "/welcome") else "/status"


@router.get("/login", dependencies=OPEN)
async def login_page(request: Request, next: str = "/status") -> Response:  # noqa: A002 - the name in the address
    """The form; who is signed in goes on."""
    try:
        await identify(request)
    except Problem:
        return await login_form(request, next=next)
    return RedirectResponse(safe_next(next), 303)


@router.post("/login", dependencies=OPEN)
async def login(
    request: Request,
    name: Annotated[str, Form(max_length=200)],
    password: Annotated[str, Form(max_length=2000)],
    next: Annotated[str, Form(max_length=2000)] = "/status",  # noqa: A002
) -> Response:
    """Checks name and password, begins a session."""
    check_origin(request)
    web, address = web_of(request), address_of(request)
    db = web.pools.pages
    try:
        row = await accounts.check_password(db, name, password, address=address)
    except accounts.Locked as locked:
        if web.seen.is_due(f"locked {address}", time.monotonic(), LOCKED_TOLD_EVERY_S):
            await audit.note(db, request, None, "login", who=name[:100] or "nobody", outcome="refused", why="locked")
        return await login_form(request, next=next, name=name, problem=str(locked), status=429)
    if row is None:
        await audit.note(db, request, None, "login", who=name[:100] or "nobody", outcome="refused")
        problem = "Name or password is not right, or the account is disabled."
        return await login_form(request, next=next, name=name, problem=problem, status=401)
    response = RedirectResponse(safe_next(next), 303)
    await start_session(request, response, row["user_id"])
    await audit.note(db, request, None, "login", who=row["name"])
    return response


@router.post("/logout")
async def logout(request: Request, principal: Someone) -> Response:
    """Ends this session."""
    db = web_of(request).pools.pages
    if principal.session_hash is not None:
        await accounts.end_session(db, principal.session_hash)
    await audit.note(db, request, principal, "logout")
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


@router.get("/session", dependencies=[Depends(need(Role.VIEWER))], status_code=204)
async def session() -> None:
    """Whether this session is alive: 204, or 401."""


@router.get("/welcome", dependencies=OPEN)
async def welcome_page(request: Request) -> Response:
    """Where one-time links lead."""
    return page(request, "welcome.html", title="Choose a password", length_min=passwords.LENGTH_MIN)


@router.post("/welcome/look", dependencies=OPEN)
async def look(request: Request, link: Link) -> Response:
    """Whose password the link sets."""
    check_origin(request)
    return JSONResponse({"name": await accounts.look_at_link(web_of(request).pools.pages, link.secret)})


@router.post("/welcome", dependencies=OPEN)
async def welcome(request: Request, told: Welcome) -> Response:
    """Sets the password, uses the link up, begins a session."""
    check_origin(request)
    db = web_of(request).pools.pages
    if not told.name.strip():
        raise Refused("say a name")
    user_id, name = await accounts.use_link(db, told.secret, name=told.name, password=told.password)
    response = JSONResponse({"name": name})
    await start_session(request, response, user_id)
    await audit.note(db, request, None, "password.set", who=name, subject=name, by="one-time link")
    return response


async def start_session(request: Request, response: Response, user_id: int) -> None:
    """Begins a session and gives its cookie. What was in the browser before is not kept: a new id each time."""
    web = web_of(request)
    secret, expires = await accounts.begin_session(
        web.pools.pages, user_id, address=address_of(request), agent=request.headers.get("user-agent", "")
    )
    response.set_cookie(
        SESSION_COOKIE,
        secret,
        expires=expires,
        path="/",
        httponly=True,
        samesite="lax",
        secure=is_secure(request),
    )


def is_secure(request: Request) -> bool:
    """Whether cookies get `Secure`."""
    return web_of(request).settings.behind_tls or request.url.scheme == "https"


async def login_form(
    request: Request,
    *,
    next: str,  # noqa: A002
    name: str = "",
    problem: str = "",
    status: int = 200,
) -> Response:
    """The sign-in page, with what went wrong."""
    web = web_of(request)
    return page(
        request,
        "login.html",
        title="Sign in",
        status=status,
        next=safe_next(next),
        name=name[:100],
        problem=problem,
        is_new=await accounts.is_new(web.pools.pages),
        oidc=web.settings.oidc_label,
    )
