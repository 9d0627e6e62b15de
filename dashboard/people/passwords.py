"""Passwords: argon2id by argon2-cffi. Slow by design, so it runs in a thread, and never more than two at once."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from schemas.errors import Refused

LENGTH_MIN, LENGTH_MAX = 10, 200
_HASHER = PasswordHasher()
_AT_ONCE = asyncio.Semaphore(2)
"""Each takes 64 MB and 50 ms of two cores: without a bound, a burst of sign-ins would take the machine."""
_NOBODY = _HASHER.hash("nobody has this password")


def check(password: str) -> None:
    """Raises `Refused` for one that is no good."""
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise Refused(f"a password has {LENGTH_MIN} to {LENGTH_MAX} characters, this one {len(password)}")
    if len(set(password)) < 4:
        raise Refused("this password repeats itself: take one that nobody guesses")


async def hashed(password: str) -> str:
    """What the database keeps."""
    async with _AT_ONCE:
        return await asyncio.to_thread(_HASHER.hash, password)


async def fits(password: str, known: str | None) -> bool:
    """Whether it is the one. Takes as long for an account that has none, or is none, as for one that has."""
    async with _AT_ONCE:
        return await asyncio.to_thread(_verify, password[: LENGTH_MAX + 1], known or _NOBODY) and known is not None


def is_old(known: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return _HASHER.check_needs_rehash(known)


def _verify(password: str, known: str) -> bool:
    try:
        return _HASHER.verify(known, password)
    except (Argon2Error, InvalidHashError):
        return False
