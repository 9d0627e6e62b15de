"""Tokens: made, listed, revoked. Shown once; the database keeps a hash. Knows the tables `tokens` and `audit_log`."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from dashboard.web.access import GRANTS, Role, Scope, hashed, new_token
from schemas.errors import Refused

USER = "SELECT user_id, role, disabled FROM users WHERE lower(name) = lower(%s)"
MAKE = """
INSERT INTO tokens (token_hash, prefix, name, scopes, user_id, created_by, expires)
VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING token_id"""
LIST = """
SELECT t.token_id, t.prefix, t.name, t.scopes, u.name AS owner, t.created_by, t.created, t.expires, t.last_used,
  t.revoked, t.revoked_by,
  CASE WHEN t.revoked IS NOT NULL THEN 'revoked' WHEN t.expires <= now() THEN 'expired'
       WHEN u.disabled THEN 'owner disabled' ELSE 'works' END AS state
FROM tokens t LEFT JOIN users u USING (user_id)
WHERE %(all)s OR (t.revoked IS NULL AND t.expires > now())
ORDER BY t.token_id"""
REVOKE = """
UPDATE tokens SET revoked = now(), revoked_by = %(who)s
WHERE revoked IS NULL AND (token_id::text = %(token)s OR prefix = left(%(token)s, 10)) RETURNING token_id, prefix"""
NOTE = """
INSERT INTO audit_log (who, way, what, subject, outcome, detail) VALUES (%s, 'shell', %s, %s, 'done', %s)"""


def create(
    connection: psycopg.Connection[Any],
    *,
    name: str,
    scopes: list[Scope],
    expires: datetime,
    who: str,
    owner: str | None = None,
) -> str:
    """The token, which nobody can read again. `owner`: a user beyond whose role it never goes. Raises `Refused`."""
    user_id = None
    if owner is not None:
        row = connection.execute(USER, (owner,)).fetchone()
        if row is None:
            raise Refused(f"user {owner} is not known; see: telltale users list")
        beyond = set(scopes) - GRANTS[Role(row[1])]
        if beyond:
            raise Refused(f"user {owner} is {row[1]}, whose tokens cannot have the scope {', '.join(sorted(beyond))}")
        user_id = row[0]
    token, prefix = new_token()
    with connection.transaction():
        words = [str(scope) for scope in scopes]
        connection.execute(MAKE, (hashed(token), prefix, name, words, user_id, who, expires))
        told = {"scopes": words, "expires": expires.isoformat(), "owner": owner}
        connection.execute(NOTE, (who, "token.create", prefix, Jsonb(told)))
    return token


def listed(connection: psycopg.Connection[Any], *, also_dead: bool) -> list[dict[str, Any]]:
    """All that work; with `also_dead` those that no longer do."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(LIST, {"all": also_dead}).fetchall()


def revoke(connection: psycopg.Connection[Any], token: str, *, who: str) -> str:
    """By its number, its prefix, or itself; the prefix. It fails from the next request on. Raises `Refused`."""
    with connection.transaction():
        row = connection.execute(REVOKE, {"token": token, "who": who}).fetchone()
        if row is None:
            raise Refused(f"no working token {token[:10]}; see: telltale token list")
        connection.execute(NOTE, (who, "token.revoke", row[1], Jsonb({})))
    return str(row[1])
