"""Routes and roles of the pages, as a table; and each route asked by everybody who may not. Nothing is started."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from dashboard.pages.feature import PAGES
from dashboard.pages.status import wanted
from dashboard.people import accounts
from dashboard.web import access, audit
from dashboard.web.access import GRANTS, Principal, Role
from dashboard.web.app import create_app
from dashboard.web.settings import WebSettings

V, O, A = Role.VIEWER, Role.OPERATOR, Role.ADMIN  # noqa: E741
TABLE: dict[str, Role | None] = {
    "GET /login": None,
    "POST /login": None,
    "GET /oidc/login": None,
    "GET /oidc/callback": None,
    "GET /welcome": None,
    "POST /welcome/look": None,
    "POST /welcome": None,
    "POST /logout": V,
    "GET /session": V,
    "GET /": V,
    "GET /status": V,
    "GET /alarms": V,
    "GET /alarms/list": V,
    "GET /alarms/{alarm_id}": V,
    "GET /alarms/{alarm_id}/steps": V,
    "POST /alarms/actions": O,
    "GET /stations": V,
    "GET /stations/{station_id}": V,
    "PUT /stations/{station_id}": O,
    "GET /devices/{device_id}": V,
    "GET /devices/{device_id}/calendar": V,
    "PUT /devices/{device_id}": O,
    "PUT /devices/{device_id}/config": O,
    "GET /plot": V,
    "GET /plot/find": V,
    "GET /plot/sensors": V,
    "GET /plot/alarms": V,
    "GET /plot/rose": V,
    "GET /plot/recalibrations": V,
    "POST /plot/unflag": O,
    "POST /plot/recalibrate": O,
    "GET /imports": V,
    "GET /imports/list": V,
    "GET /imports/gaps": V,
    "GET /imports/backfills": V,
    "POST /imports/backfills": O,
    "GET /imports/{sha256}": V,
    "GET /imports/{sha256}/facts": V,
    "GET /exports": V,
    "GET /pipeline": V,
    "GET /pipeline/state": V,
    "GET /users": A,
    "POST /users": A,
    "POST /users/{number}/link": A,
    "PATCH /users/{number}": A,
    "DELETE /users/{number}/sessions": A,
    "DELETE /tokens/{number}": V,
    "GET /account": V,
    "POST /account/password": V,
    "POST /account/tokens": V,
    "DELETE /account/sessions/{session}": V,
}
"""The least role that each needs; None: for everybody. Sockets are tried in tests/e2e."""

APP: FastAPI = create_app(WebSettings(), database="postgresql://nobody@127.0.0.1:1/none", kafka=None)
ORDER = list(Role)


def below(least: Role) -> list[Role]:
    return ORDER[: ORDER.index(least)]


def person(role: Role) -> Principal:
    return Principal(name="somebody", way="session", scopes=GRANTS[role], role=role, session_hash=b"x", csrf="token")


async def ask(name: str, headers: dict[str, str] | None = None) -> httpx.Response:
    method, _, path = name.partition(" ")
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
        return await client.request(method, re.sub(r"{\w+}", "1", path), headers=headers)


def answered(name: str, headers: dict[str, str] | None = None) -> int:
    return asyncio.run(ask(name, headers)).status_code


def test_the_table_has_every_route_of_the_pages() -> None:
    here = FastAPI()
    for router in PAGES.routers:
        here.include_router(router)
    there = {
        f"{method} {route.path}"
        for route in iter_route_contexts(here.routes)
        if isinstance(route.route, APIRoute)
        for method in route.methods or ()
    }
    assert there - {"GET /openapi.json", "GET /docs", "GET /redoc", "GET /docs/oauth2-redirect"} == set(TABLE)


@pytest.mark.parametrize("name", [name for name, least in TABLE.items() if least])
def test_nobody_is_let_in_without_signing_in(name: str) -> None:
    assert answered(name) == 401


@pytest.mark.parametrize(("name", "role"), [(n, r) for n, least in TABLE.items() if least for r in below(least)])
def test_a_lesser_role_is_refused(name: str, role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    async def identify(_: object) -> Principal:
        return person(role)

    monkeypatch.setattr(access, "identify", identify)
    assert answered(name, {"X-CSRF-Token": "token"}) == 403


@pytest.mark.parametrize("name", [name for name, least in TABLE.items() if least and not name.startswith("GET")])
def test_a_change_without_token_or_from_elsewhere_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def identify(_: object) -> Principal:
        return person(Role.ADMIN)

    monkeypatch.setattr(access, "identify", identify)
    assert answered(name) == 403
    assert answered(name, {"X-CSRF-Token": "wrong"}) == 403
    assert answered(name, {"X-CSRF-Token": "token", "Origin": "https://elsewhere.example"}) == 403


@pytest.mark.parametrize("least", list(Role))
def test_the_role_of_the_table_is_enough(least: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes past the door, and fails behind it for want of a database."""

    async def identify(_: object) -> Principal:
        return person(least)

    monkeypatch.setattr(access, "identify", identify)
    for name in [name for name, role in TABLE.items() if role is least]:
        assert answered(name, {"X-CSRF-Token": "token"}) not in (401, 403), name


@pytest.mark.parametrize("told", [True, False], ids=["length told", "length not told"])
def test_what_is_no_file_is_not_read_without_end_even_of_strangers(told: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 1_000_000

    async def answered() -> httpx.Response:
        transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            body: Any = b" " * 10_000_000 if told else pieces()
            return await client.post("/welcome", content=body, headers={"Content-Type": "application/json"})

    answer = asyncio.run(answered())
    assert answer.status_code == 413
    assert "8,000,000 bytes" in answer.json()["detail"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def posted(path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    async def ask_so() -> httpx.Response:
        transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.post(path, content=body, headers={"Content-Type": "application/json"} | headers)

    return asyncio.run(ask_so())


@pytest.mark.parametrize("body", [rb'{"secret": "\ud800"}', rb'{"secret": "x", "\ud800": 1}'])
def test_half_a_character_is_told_as_a_mistake_of_whoever_sent_it(body: bytes) -> None:
    answer = posted("/welcome/look", body, {})
    assert (answer.status_code, answer.json()["errors"][0]["where"][:4]) == (422, "body")


@pytest.mark.parametrize("origin", ["http://[", "https://[here", "null", "//"])
def test_an_origin_that_is_no_address_is_not_ours(origin: str) -> None:
    assert posted("/welcome/look", b'{"secret": "x"}', {"Origin": origin}).status_code == 403


@pytest.mark.parametrize(
    ("said", "numbers"),
    [('{"want": [1, 2]}', [1, 2]), ('{"want": [true, -1, 1e9, "a", null]}', [-1]), ("x", []), ("[]", []), ("", [])],
)
def test_what_a_page_says_on_its_socket_is_looked_at_twice(said: str, numbers: list[int]) -> None:
    assert wanted(said) == numbers


@pytest.mark.parametrize("path", ["/healthz", "/openapi.json", "/welcome", "/status", "/api/v1/sensors", "/nowhere"])
def test_head_is_answered_as_get_is(path: str) -> None:
    head, get = (asyncio.run(ask(f"{method} {path}")) for method in ("HEAD", "GET"))
    assert (head.status_code, head.headers) == (get.status_code, get.headers)
    assert (head.content, bool(get.content)) == (b"", True)


def test_a_head_does_not_listen_to_events_for_ever() -> None:
    assert answered("HEAD /api/v1/stream") == 405


def test_whoever_is_locked_out_does_not_fill_the_audit_log(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    async def locked(*_: object, **__: object) -> None:
        raise accounts.Locked(9)

    async def note(*_: object, who: str, **__: object) -> None:
        written.append(who)

    async def is_new(_: object) -> bool:
        return False

    monkeypatch.setattr(accounts, "check_password", locked)
    monkeypatch.setattr(accounts, "is_new", is_new)
    monkeypatch.setattr(audit, "note", note)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answers = [posted("/login", f"name=a{n}&password=x".encode(), form).status_code for n in range(20)]
    assert (answers, written) == (20 * [429], ["a0"])
