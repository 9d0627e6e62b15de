"""Signing in, as far as it needs no database: where one goes afterwards, what a password must be."""

import asyncio

import pytest

from dashboard.pages.signing import safe_next
from dashboard.people import passwords
from schemas.errors import Refused


@pytest.mark.parametrize("path", ["/alarms", "/alarms?tab=history", "/plot?sensor=a/b&from=2026-01-01T00:00:00Z"])
def test_one_goes_on_where_one_wanted_to(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "https://elsewhere.example/",
        "//elsewhere.example/",
        "/\\elsewhere.example",
        "javascript:alert(1)",
        "alarms",
        "/login",
        "/logout?x",
        "/ok\r\nSet-Cookie: a=b",
        "//[",
        "",
    ],
)
def test_nobody_is_led_elsewhere(path: str) -> None:
    assert safe_next(path) == "/status"


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaaaaaa", "abababababababab", "x" * 201])
def test_a_password_that_is_no_good_is_refused(password: str) -> None:
    with pytest.raises(Refused):
        passwords.check(password)


def test_only_the_right_password_fits_and_nobody_has_one_where_there_is_none() -> None:
    async def work() -> None:
        kept = await passwords.hashed("correct horse battery")
        assert kept.startswith("$argon2id$")
        assert await passwords.fits("correct horse battery", kept)
        assert not await passwords.fits("correct horse batterz", kept)
        assert not await passwords.fits("nobody has this password", None)
        assert not await passwords.fits("x", "no hash at all")
        assert not passwords.is_old(kept)

    asyncio.run(work())
