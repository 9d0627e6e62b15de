"""Every route of the web service says who may ask. Nothing is started and nobody is asked."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, RouteContext, iter_route_contexts
from starlette.routing import Mount

from dashboard.web.access import GRANTS, Need, Principal, Role, Scope, public
from dashboard.web.app import create_app
from dashboard.web.settings import WebSettings

APP: FastAPI = create_app(WebSettings(), database="postgresql://nobody@127.0.0.1:1/none", kafka="127.0.0.1:1")
ROUTES = [each for each in iter_route_contexts(APP.routes) if not isinstance(each.route, Mount)]


def asked(dependant: Dependant) -> Iterator[object]:
    for each in dependant.dependencies:
        yield each.call
        yield from asked(each)


def name(route: RouteContext) -> str:
    return f"{'/'.join(sorted(route.methods or ['SOCKET']))} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_every_route_says_who_may_ask(route: RouteContext) -> None:
    assert isinstance(route.route, APIRoute | APIWebSocketRoute), f"{name(route)} is no route of ours: it asks nobody"
    found = list(asked(route.dependant))
    rights = [each.right for each in found if isinstance(each, Need)]
    assert bool(rights) != (public in found), "depend on need(...) or on public, and not on both"


WRITES = {
    "POST /api/v1/alarms/{alarm_id}/actions": Scope.ALARM,
    "POST /api/v1/flags": Scope.FLAG,
    "DELETE /api/v1/flags/{flag_id}": Scope.FLAG,
    "POST /api/v1/imports": Scope.IMPORT,
    "POST /api/v1/imports/{sha256}/answers": Scope.IMPORT,
    "GET /api/v1/exports": Scope.EXPORT,
    "POST /api/v1/exports": Scope.EXPORT,
    "GET /api/v1/exports/{export_id}": Scope.EXPORT,
    "DELETE /api/v1/exports/{export_id}": Scope.EXPORT,
    "GET /api/v1/exports/{export_id}/file": Scope.EXPORT,
}
"""What needs more than the scope to read."""
OF_API = [each for each in ROUTES if str(each.path).startswith(("/api/", "/sta/"))]


@pytest.mark.parametrize("route", OF_API, ids=name)
def test_each_role_and_scope_opens_what_the_table_says(route: RouteContext) -> None:
    (right,) = {each.right for each in asked(route.dependant) if isinstance(each, Need)}
    assert right == WRITES.get(name(route), Scope.READ)
    for role in Role:
        person = Principal(name="x", way="session", scopes=GRANTS[role], role=role)
        viewers = right in (Scope.READ, Scope.EXPORT)
        assert person.may(right) == (viewers or role is not Role.VIEWER)
    for scope in Scope:
        assert Principal(name="x", way="token", scopes=frozenset({scope})).may(right) == (scope is right)


def test_the_table_names_routes_that_are_there() -> None:
    assert WRITES.keys() <= {name(route) for route in ROUTES}


def test_routes_are_found() -> None:
    assert {"GET /healthz", "GET /readyz", "GET /openapi.json"} <= {name(route) for route in ROUTES}


def test_a_role_includes_the_one_before() -> None:
    assert GRANTS[Role.VIEWER] < GRANTS[Role.OPERATOR] < GRANTS[Role.ADMIN] == frozenset(Scope)


def test_a_token_has_no_role() -> None:
    token = Principal(name="token", way="token", scopes=frozenset(Scope))
    assert token.may(Scope.ADMIN)
    assert not token.may(Role.VIEWER)
