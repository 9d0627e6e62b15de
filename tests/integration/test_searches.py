"""Searches of the pages: what a person types is looked for as it stands, `_`, `%` and `\\` as well."""

import re
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from fix_web import CHANNELS, Served, serving

from dashboard.pages.feature import PAGES
from dashboard.web.access import Role
from dashboard.web.app import HEALTH

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def admin(mast_database: str) -> Iterator[httpx.Client]:
    with serving(mast_database, features=(HEALTH, replace(PAGES, lifespan=None))) as served:
        served.sql(r"UPDATE imports SET name = 'a_100%\b.dat' WHERE name = 'file1.dat'")
        for who in (r"a_100%\b", "ax100"):
            served.sql("INSERT INTO audit_log (who, way, what, outcome) VALUES (%s, 'shell', 'x', 'done')", who)
        yield signed_in(served)


def signed_in(served: Served) -> httpx.Client:
    cookies = served.session(served.user(Role.ADMIN))
    del cookies["csrf"]
    client = httpx.Client(base_url=served.url, cookies=cookies, timeout=60, trust_env=False)
    served.clients.append(client)
    return client


@pytest.mark.parametrize("words", ["a_100%\\b", "A_1", "0%", "%\\", "\\b"])
def test_what_is_typed_is_found_as_it_stands(admin: httpx.Client, words: str) -> None:
    files = admin.get("/imports/list", params={"q": words})
    assert re.findall(r'data-file="([^"]*)"', files.text) == ["a_100%\\b.dat"]
    log = admin.get("/users", params={"q": words}).text
    assert ("<td>a_100%\\b</td>" in log, "<td>ax100</td>" in log) == (True, False)


@pytest.mark.parametrize("words", ["f_l", "f%d", "file_.dat", "file\\2", "\\%"])
def test_no_character_stands_for_others(admin: httpx.Client, words: str) -> None:
    files = admin.get("/imports/list", params={"q": words})
    assert (files.status_code, "data-file" in files.text) == (200, False)


@pytest.mark.parametrize(("words", "found"), [("mast-7", 3), ("SPD80 mast", 2), ("S_d", 0), ("%", 0), ("\\", 0)])
def test_sensors_are_found_by_words(admin: httpx.Client, words: str, found: int) -> None:
    assert len(CHANNELS) == 3
    assert len(admin.get("/plot/find", params={"q": words}).json()) == found
