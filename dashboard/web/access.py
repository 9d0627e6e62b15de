"""Who asks, and whether they may. Every route depends on `need(...)` or on `public`; a test proves it.

A program shows a token (`Authorization: Bearer tt_...`), which has scopes; a person's browser shows a session cookie,
whose user has a role. `need(Scope.FLAG)` is met by a token with that scope and by a role that includes it;
`need(Role.ADMIN)` by people only. A token never goes beyond its owner's role. With a session, everything but reading
also needs the session's CSRF token in `X-CSRF-Token` and, where the browser says it, our own `Origin`.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

from fastapi import WebSocketException
from psycopg.rows import DictRow
from starlette.requests import HTTPConnection

from dashboard.people.names import named
from dashboard.web.pools import Database
from dashboard.web.problems import Problem
from dashboard.web.state import Web, web_of

SESSION_COOKIE = "telltale_session"
CSRF_HEADER = "x-csrf-token"
TOKEN_MARK = "tt_"  # noqa: S105 - what tokens begin with, so that people and secret scanners know one when they see it
PREFIX_LENGTH = 10
SEEN_EVERY_S = 60.0
"""How often a session's or token's last use is written down."""
READING = ("GET", "HEAD", "OPTIONS")

BY_HASH = """
SELECT t.token_id, t.prefix, t.scopes, t.expires, t.revoked, u.user_id, u.name, u.role, u.disabled
FROM tokens t LEFT JOIN users u USING (user_id) WHERE t.token_hash = %s"""
TOKEN_USED = "UPDATE tokens SET last_used = now() WHERE token_id = %s"  # noqa: S105
SESSION_ROW = """
SELECT s.csrf, s.expires, s.revoked, u.user_id, u.name, u.role, u.disabled
FROM sessions s JOIN users u USING (user_id) WHERE s.session_hash = %s"""
SESSION_SEEN = "UPDATE sessions SET last_seen = now() WHERE session_hash = %s"


class Scope(StrEnum):
    """What a token may do."""

    READ = "read"  # everything that is measured and configured
    EXPORT = "export"  # start export jobs and fetch their files
    FLAG = "flag"  # put flags on readings, take them off
    ALARM = "alarm"  # acknowledge, shelve, unshelve, comment
    IMPORT = "import"  # upload logger files, answer their questions
    ADMIN = "admin"  # users, tokens, audit log


class Role(StrEnum):
    """What a person may do; each includes the one before."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


GRANTS: Mapping[Role, frozenset[Scope]] = {
    Role.VIEWER: frozenset({Scope.READ, Scope.EXPORT}),
    Role.OPERATOR: frozenset(Scope) - {Scope.ADMIN},
    Role.ADMIN: frozenset(Scope),
}
"""Which scopes a role includes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. `role` is None for a token, `session_hash` and `csrf` for everything but a session."""

    name: str  # as the audit log has it
    way: str  # session, token
    scopes: frozenset[Scope]
    role: Role | None = None
    user_id: int | None = None
    token_id: int | None = None
    session_hash: bytes | None = None
    csrf: str | None = None

    def may(self, right: Scope | Role) -> bool:
        if isinstance(right, Scope):
            return right in self.scopes
        order = list(Role)
        return self.role is not None and order.index(self.role) >= order.index(right)


def new_secret() -> str:
    """256 random bits, for a cookie or a link."""
    return secrets.token_urlsafe(32)


def new_token() -> tuple[str, str]:
    """A token and its prefix."""
    token = TOKEN_MARK + new_secret()
    return token, token[:PREFIX_LENGTH]


def hashed(secret: str) -> bytes:
    """What the database keeps of it. A secret of 256 random bits needs no slow hash: nobody can try them all."""
    return hashlib.sha256(secret.encode()).digest()


class Need:
    """The dependency that `need` makes. Raises `Problem` 401, 403, 429."""

    def __init__(self, right: Scope | Role) -> None:
        self.right = right

    async def __call__(self, connection: HTTPConnection) -> Principal:
        try:
            principal = await identify(connection)
            connection.state.principal = principal  # also of who is refused: the page that says so has their menu
            if not principal.may(self.right):
                raise Problem(403, _forbidden(principal, self.right))
            if principal.session_hash is not None:
                _check_intent(connection, principal)
        except Problem as problem:
            if connection.scope["type"] == "websocket":
                raise WebSocketException(1008, problem.detail) from None
            raise
        return principal


def need(right: Scope | Role) -> Need:
    """`Depends(need(Scope.READ))`, or `dependencies=[Depends(need(Role.ADMIN))]` of a route or router."""
    return Need(right)


async def public() -> None:
    """`Depends(public)`: for everybody, such as the login page."""


async def identify(connection: HTTPConnection) -> Principal:
    """Who asks, once for each request. Raises `Problem` 401, 429."""
    known: Principal | None = getattr(connection.state, "principal", None)
    if known is not None:
        return known
    web = web_of(connection)
    header = connection.headers.get("authorization")
    if header is not None:
        return await _by_token(web, header)
    cookie = connection.cookies.get(SESSION_COOKIE)
    if cookie:
        return await _by_session(web, cookie)
    raise _unauthorised("show a token (Authorization: Bearer tt_...; telltale token create), or sign in")


async def database(connection: HTTPConnection) -> Database:
    """The pool for whoever asks: people have one for themselves. Needs `need(...)` before it."""
    pools = web_of(connection).pools
    principal: Principal | None = getattr(connection.state, "principal", None)
    return pools.pages if principal is not None and principal.way == "session" else pools.api


async def _by_token(web: Web, header: str) -> Principal:
    kind, _, token = header.partition(" ")
    token = token.strip()
    if kind.lower() != "bearer" or not token:
        raise _unauthorised('expected "Authorization: Bearer tt_..."')
    secret = hashed(token)
    web.rate.admit(secret.hex(), time.monotonic())
    row = await web.pools.api.first(BY_HASH, (secret,))
    _check_alive(row, "token", "make a new one with: telltale token create")
    assert row is not None  # noqa: S101 - checked
    if web.seen.is_due(secret.hex(), time.monotonic(), SEEN_EVERY_S):
        async with web.pools.api.connection() as connection:
            await connection.execute(TOKEN_USED, (row["token_id"],))
    scopes = frozenset(Scope(each) for each in row["scopes"] if each in set(Scope))
    if row["role"] is not None:
        scopes &= GRANTS[Role(row["role"])]
    return Principal(
        name=named(row["prefix"], row["name"]),
        way="token",
        scopes=scopes,
        user_id=row["user_id"],
        token_id=row["token_id"],
    )


async def _by_session(web: Web, cookie: str) -> Principal:
    secret = hashed(cookie)
    row = await web.pools.pages.first(SESSION_ROW, (secret,))
    _check_alive(row, "session", "sign in again")
    assert row is not None  # noqa: S101 - checked
    if web.seen.is_due(secret.hex(), time.monotonic(), SEEN_EVERY_S):
        async with web.pools.pages.connection() as connection:
            await connection.execute(SESSION_SEEN, (secret,))
    role = Role(row["role"])
    return Principal(
        name=row["name"],
        way="session",
        scopes=GRANTS[role],
        role=role,
        user_id=row["user_id"],
        session_hash=secret,
        csrf=row["csrf"],
    )


def _check_alive(row: DictRow | None, what: str, remedy: str) -> None:
    if row is None:
        raise _unauthorised(f"this {what} is not known; {remedy}")
    if row["revoked"] is not None:
        raise _unauthorised(f"this {what} was revoked; {remedy}")
    if row["expires"] <= datetime.now(UTC):
        raise _unauthorised(f"this {what} has expired; {remedy}")
    if row["disabled"]:
        raise _unauthorised(f"the user of this {what} is disabled; ask an administrator")


def _check_intent(connection: HTTPConnection, principal: Principal) -> None:
    """A browser sends cookies with what other sites make it ask; so changes, and sockets, must show more."""
    is_socket = connection.scope["type"] == "websocket"
    if not is_socket and connection.scope["method"] in READING:
        return
    origin = connection.headers.get("origin")
    if origin is not None and not is_ours(origin, connection):
        raise Problem(403, f"origin {origin} may not act here")
    if is_socket and origin is None:
        raise Problem(403, "a socket must say its origin")
    if not is_socket and not hmac.compare_digest(
        connection.headers.get(CSRF_HEADER, "").encode(), (principal.csrf or "").encode()
    ):
        raise Problem(403, f"the header {CSRF_HEADER} does not fit this session; load the page again")


def is_ours(origin: str, connection: HTTPConnection) -> bool:
    """Whether a browser's `Origin` is this service."""
    if origin in web_of(connection).settings.origins:
        return True
    try:
        host = urlsplit(origin).netloc
    except ValueError:  # such as http://[
        return False
    return host.lower() == connection.headers.get("host", "").lower()


def _forbidden(principal: Principal, right: Scope | Role) -> str:
    if isinstance(right, Role):
        have = principal.role or "a token"
        return f"this needs a signed-in user who is {right} or more, and you are {have}"
    return f'this needs the scope "{right}", and {principal.name} has {", ".join(sorted(principal.scopes)) or "none"}'


def _unauthorised(detail: str) -> Problem:
    return Problem(401, detail, headers={"WWW-Authenticate": 'Bearer realm="telltale"'})
