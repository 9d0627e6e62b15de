"""Accounts, sessions, links. Each function is one thing that can be done, in one transaction. Knows SQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from dashboard.people import passwords
from dashboard.people.names import OF_A_TOKEN
from dashboard.web.access import Role, hashed, new_secret
from dashboard.web.pools import Database
from schemas.errors import Refused

SESSION_LIFE = timedelta(hours=12)
"""A shift and its overtime; then people sign in again."""
LINK_LIFE = timedelta(days=3)
FAILURES_OVER = timedelta(minutes=15)
"""Failed sign-ins are counted, and lock, for so long."""
FAILURES_OF_NAME_HERE, FAILURES_HERE, FAILURES_OF_NAME = 5, 30, 50
"""For one name from one address, from one address, for one name from anywhere. The last is large: a stranger must not
lock somebody out cheaply."""

USERS = """
SELECT u.user_id, u.name, u.role, u.disabled, u.created, u.last_login, u.password_hash IS NOT NULL AS has_password,
  u.subject, (SELECT count(*) FROM sessions s
    WHERE s.user_id = u.user_id AND s.revoked IS NULL AND s.expires > now()) AS sessions,
  EXISTS (SELECT FROM invitations i WHERE i.user_id = u.user_id AND i.used IS NULL AND i.expires > now()) AS invited
FROM users u ORDER BY lower(u.name)"""
USER = "SELECT user_id, name, role, disabled, password_hash FROM users WHERE lower(name) = lower(%s)"
NOBODY_YET = "SELECT NOT EXISTS (SELECT FROM users WHERE role = 'admin' AND NOT disabled) AS nobody"
BY_SUBJECT = "SELECT user_id, name, role, disabled FROM users WHERE subject = %s"
ADD = "INSERT INTO users (name, role, subject) VALUES (%s, %s, %s) RETURNING user_id"
FAILURES = """
SELECT count(*) FILTER (WHERE name = %(name)s AND address = %(address)s) AS here,
  count(*) FILTER (WHERE address = %(address)s) AS address, count(*) FILTER (WHERE name = %(name)s) AS name,
  min(time) AS oldest
FROM login_failures WHERE time > %(since)s AND (name = %(name)s OR address = %(address)s)"""
FAILED = "INSERT INTO login_failures (name, address) VALUES (%s, %s)"
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('telltale login'))"
FORGET_FAILURES = "DELETE FROM login_failures WHERE (name = %s AND address = %s) OR time < %s"
SIGNED_IN = """
INSERT INTO sessions (session_hash, user_id, csrf, expires, address, agent) VALUES (%s, %s, %s, %s, %s, %s)"""
LOGGED_IN = "UPDATE users SET last_login = now() WHERE user_id = %s"
REHASHED = "UPDATE users SET password_hash = %s WHERE user_id = %s AND password_hash = %s"
SET_PASSWORD = "UPDATE users SET password_hash = %s WHERE user_id = %s"  # noqa: S105 - a statement
END_SESSION = "UPDATE sessions SET revoked = now() WHERE session_hash = %s AND revoked IS NULL RETURNING user_id"
END_SESSIONS = """
UPDATE sessions SET revoked = now() WHERE user_id = %s AND revoked IS NULL AND session_hash IS DISTINCT FROM %s"""
LINK = "INSERT INTO invitations (secret_hash, user_id, created_by, expires) VALUES (%s, %s, %s, %s)"
DROP_LINKS = "DELETE FROM invitations WHERE user_id IS NOT DISTINCT FROM %s AND used IS NULL"
LINK_ROW = """
SELECT i.user_id, i.expires, i.used, u.name, u.disabled FROM invitations i LEFT JOIN users u USING (user_id)
WHERE i.secret_hash = %s"""
USE_LINK = "UPDATE invitations SET used = now() WHERE secret_hash = %s AND used IS NULL AND expires > now() RETURNING 1"
ADMINS = "SELECT count(*) AS admins FROM users WHERE role = 'admin' AND NOT disabled AND user_id <> %s"
SESSIONS = """
SELECT encode(session_hash, 'hex') AS id, created, last_seen, expires, address, agent,
  session_hash = %(mine)s AS is_this
FROM sessions WHERE user_id = %(user)s AND revoked IS NULL AND expires > now() ORDER BY last_seen DESC"""


async def is_new(db: Database) -> bool:
    """Whether nobody can administrate yet."""
    row = await db.first(NOBODY_YET)
    return bool(row and row["nobody"])


async def first_link(db: Database, *, created_by: str) -> str:
    """The secret of a link that makes the first administrator; earlier ones work no more."""
    return await _link(db, None, created_by=created_by)


async def link_for(db: Database, user_id: int, *, created_by: str) -> str:
    """The secret of a link by which this user sets a password; earlier ones work no more."""
    return await _link(db, user_id, created_by=created_by)


async def _link(db: Database, user_id: int | None, *, created_by: str) -> str:
    secret = new_secret()
    async with db.connection() as connection, connection.transaction():
        await connection.execute(DROP_LINKS, (user_id,))
        await connection.execute(LINK, (hashed(secret), user_id, created_by, datetime.now(UTC) + LINK_LIFE))
    return secret


async def look_at_link(db: Database, secret: str) -> str | None:
    """Whose password the link sets; None: it makes the first administrator. Raises `Refused`."""
    return _link_name(await db.first(LINK_ROW, (hashed(secret),)))


def _link_name(row: DictRow | None) -> str | None:
    if row is None:
        raise Refused("this link is not known; ask an administrator for a new one (telltale users reset NAME)")
    if row["used"] is not None:
        raise Refused("this link was used already; sign in, or ask an administrator for a new one")
    if row["expires"] <= datetime.now(UTC):
        raise Refused("this link has expired; ask an administrator for a new one")
    if row["disabled"]:
        raise Refused("the account of this link is disabled; ask an administrator")
    name: str | None = row["name"]
    return name


async def use_link(db: Database, secret: str, *, name: str, password: str) -> tuple[int, str]:
    """Sets the password, makes the first administrator if that is what the link is for, ends all sessions of the
    account; its number and name. Raises `Refused`."""
    known = await look_at_link(db, secret)
    passwords.check(password)
    kept = await passwords.hashed(password)
    async with db.connection() as connection, connection.transaction():
        used = await connection.execute(USE_LINK, (hashed(secret),))
        if await used.fetchone() is None:
            raise Refused("this link was used already; sign in, or ask an administrator for a new one")
        if known is None:
            user_id = await _add(connection, name, Role.ADMIN)
        else:
            found = await (await connection.execute(USER, (known,))).fetchone()
            if found is None:
                raise Refused("the account of this link is gone; ask an administrator")
            user_id, name = found[0], known
        await connection.execute(SET_PASSWORD, (kept, user_id))
        await connection.execute(END_SESSIONS, (user_id, None))
    return user_id, name


async def add(db: Database, name: str, role: Role) -> int:
    """A new account, without a password. Raises `Refused`."""
    async with db.connection() as connection:
        return await _add(connection, name, role)


async def _add(connection: Any, name: str, role: Role, subject: str | None = None) -> int:
    cleaned = " ".join(name.split())
    if not 1 <= len(cleaned) <= 100:
        raise Refused("a name has 1 to 100 characters")
    if OF_A_TOKEN.match(cleaned):
        raise Refused(f'"{cleaned}" is what a token of somebody is called: take another name')
    try:
        async with connection.transaction():
            row = await (await connection.execute(ADD, (cleaned, str(role), subject))).fetchone()
    except psycopg.errors.UniqueViolation:
        raise Refused(f"there is an account {cleaned} already") from None
    return int(row[0])


async def of_subject(db: Database, subject: str, *, name: str, role: Role | None, default: Role | None) -> DictRow:
    """The account of somebody whom an OIDC provider knows, made at the first sign-in: never one that has the name only.
    `role` is what the provider says and stays in force, `default` what a new account gets else. Raises `Refused`."""
    row = await db.first(BY_SUBJECT, (subject,))
    if row is None:
        first = role or default
        if first is None:
            raise Refused("nobody here knows you: ask an administrator")
        async with db.connection() as connection:
            await _add(connection, name, first, subject)
        row = await db.first(BY_SUBJECT, (subject,))
        assert row is not None  # noqa: S101 - just made, and accounts stay
    if row["disabled"]:
        raise Refused("your account is disabled: ask an administrator")
    if role is not None and row["role"] != role:
        await change(db, row["user_id"], role=role)
    return row


async def change(db: Database, user_id: int, *, role: Role | None = None, disabled: bool | None = None) -> None:
    """Another role, or disabled or not; who is disabled is signed out. Raises `Refused`: an administrator stays."""
    async with db.connection() as connection, connection.transaction():
        await connection.execute("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
        row = await (await connection.execute("SELECT role FROM users WHERE user_id = %s", (user_id,))).fetchone()
        if row is None:
            raise Refused(f"no account has the number {user_id}")
        others = await (await connection.execute(ADMINS, (user_id,))).fetchone()
        loses = row[0] == Role.ADMIN and (disabled or (role is not None and role is not Role.ADMIN))
        if loses and others is not None and not others[0]:
            raise Refused("this is the last administrator: make another one first")
        if role is not None:
            await connection.execute("UPDATE users SET role = %s WHERE user_id = %s", (str(role), user_id))
        if disabled is not None:
            await connection.execute("UPDATE users SET disabled = %s WHERE user_id = %s", (disabled, user_id))
        if disabled:
            await connection.execute(END_SESSIONS, (user_id, None))


async def check_password(db: Database, name: str, password: str, *, address: str) -> DictRow | None:
    """The account, if name and password are right. Raises `Locked` after too many failures."""
    typed = name.strip().lower()[:100]
    since = datetime.now(UTC) - FAILURES_OVER
    await _count_as_failed(db, typed, address, since=since)
    row = await db.first(USER, (name.strip(),))
    right = await passwords.fits(password, row["password_hash"] if row else None)
    async with db.connection() as connection:
        if not right or row is None or row["disabled"]:
            return None
        await connection.execute(FORGET_FAILURES, (typed, address, since))
    if passwords.is_old(row["password_hash"]):
        await _keep_stronger(db, row, password)
    return row


async def _count_as_failed(db: Database, name: str, address: str, *, since: datetime) -> None:
    """Each attempt counts as failed until it has succeeded, so that many at once are no way around the limit."""
    async with db.connection() as connection, connection.transaction():
        await connection.execute(ONE_AT_A_TIME)
        cursor = connection.cursor(row_factory=dict_row)
        await cursor.execute(FAILURES, {"name": name, "address": address, "since": since})
        failures = await cursor.fetchone()
        if failures and (
            failures["here"] >= FAILURES_OF_NAME_HERE
            or failures["address"] >= FAILURES_HERE
            or failures["name"] >= FAILURES_OF_NAME
        ):
            wait = failures["oldest"] + FAILURES_OVER - datetime.now(UTC)
            raise Locked(max(1, round(wait.total_seconds() / 60)))
        await connection.execute(FAILED, (name, address))


async def _keep_stronger(db: Database, row: DictRow, password: str) -> None:
    stronger = await passwords.hashed(password)
    async with db.connection() as connection:
        await connection.execute(REHASHED, (stronger, row["user_id"], row["password_hash"]))


async def begin_session(db: Database, user_id: int, *, address: str, agent: str) -> tuple[str, datetime]:
    """The cookie's secret and when it ends."""
    secret, expires = new_secret(), datetime.now(UTC) + SESSION_LIFE
    async with db.connection() as connection, connection.transaction():
        await connection.execute(
            SIGNED_IN, (hashed(secret), user_id, new_secret(), expires, address[:100], agent[:300])
        )
        await connection.execute(LOGGED_IN, (user_id,))
        await connection.execute("DELETE FROM sessions WHERE expires < now() - interval '30 days'")
    return secret, expires


async def end_session(db: Database, session_hash: bytes) -> bool:
    """Revokes it; whether it was alive."""
    async with db.connection() as connection:
        return await (await connection.execute(END_SESSION, (session_hash,))).fetchone() is not None


async def end_other_sessions(db: Database, user_id: int, *, keep: bytes | None) -> int:
    """Revokes all of an account but one; how many."""
    async with db.connection() as connection:
        done = await connection.execute(END_SESSIONS, (user_id, keep))
        return int(done.rowcount)


async def change_password(
    db: Database, user_id: int, name: str, *, old: str, new: str, keep: bytes | None, address: str
) -> None:
    """Another password; every other session of the account ends. Raises `Refused`, and `Locked` as signing in does."""
    if await check_password(db, name, old, address=address) is None:
        raise Refused("the present password is not right")
    passwords.check(new)
    kept = await passwords.hashed(new)
    async with db.connection() as connection, connection.transaction():
        await connection.execute(SET_PASSWORD, (kept, user_id))
        await connection.execute(END_SESSIONS, (user_id, keep))


class Locked(Refused):
    """Too many failed sign-ins."""

    def __init__(self, minutes: int) -> None:
        super().__init__(f"too many sign-ins have failed: try again in {minutes} minutes")
        self.minutes = minutes
