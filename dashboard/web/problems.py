"""Errors as RFC 9457 problem details. Knows HTTP and our own kinds of trouble.

Whoever finds trouble raises `Problem`, or one of `Refused` (what was asked makes no sense: 422) and `Unavailable` (a
neighbour does not answer: 503). Anything else is our bug: it is logged with its traceback and answered 500.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
import psycopg
import psycopg_pool
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from infra.printable import storable
from schemas.errors import Refused, Unavailable

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
OUR_BUG = "our mistake; it is in the log of `telltale dashboard run`"
RETRY_S = 5
"""How long one whom we cannot serve now is asked to wait."""

Page = Callable[[Request, "Problem"], Response | None]
"""A page for a person in place of a problem; None: this request is not a person's."""


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(default="about:blank", description="A URI that names the kind of problem.")
    title: str = Field(description="The kind of problem, in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened, and what to do about it.")
    instance: str | None = Field(default=None, description="The path that was asked for.")
    errors: list[dict[str, Any]] | None = Field(default=None, description="Each wrong field, with where and why.")


class Problem(Exception):  # noqa: N818 - it is called a problem
    """To be answered with `status`. `detail` says what happened and what to do about it."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more

    def response(self, path: str | None = None) -> Response:
        told = {"type": "about:blank", "title": HTTPStatus(self.status).phrase, "status": self.status}
        told |= {"detail": self.detail} | ({"instance": path} if path else {}) | self.more
        return Response(orjson.dumps(told, default=str), self.status, self.headers, MEDIA_TYPE)


def not_found(what: str) -> Problem:
    """There is no such thing."""
    return Problem(404, f"{what} is not known here")


def too_many(detail: str, *, after_s: float = RETRY_S) -> Problem:
    """A limit was reached; try again later."""
    return Problem(429, detail, headers={"Retry-After": str(max(1, round(after_s)))})


def unavailable(detail: str) -> Problem:
    """A neighbour does not answer."""
    return Problem(503, detail, headers={"Retry-After": str(RETRY_S)})


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a router's `responses`: these statuses, as problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def install(app: FastAPI, page: Page | None) -> None:
    """Answers every kind of trouble. `page` may answer a person with a page instead."""

    def answer(request: Request, problem: Problem) -> Response:
        shown = page(request, problem) if page else None
        return shown or problem.response(request.url.path)

    def handler(problem_of: Callable[[Any], Problem]) -> Callable[[Request, Exception], Response]:
        return lambda request, error: answer(request, problem_of(error))

    for kind, problem_of in _KINDS:
        app.add_exception_handler(kind, handler(problem_of))

    def bug(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, method=request.method, exc_info=error)
        return answer(request, Problem(500, OUR_BUG))

    app.add_exception_handler(Exception, bug)


def _validation(error: RequestValidationError) -> Problem:
    errors = [
        {"where": storable(".".join(map(str, each["loc"]))), "what": each["msg"], "got": _short(each.get("input"))}
        for each in error.errors()
    ]
    first = errors[0] if errors else {"where": "request", "what": "is not valid"}
    return Problem(422, f"{first['where']}: {first['what']}", errors=errors)


def _short(value: Any) -> str | None:
    return None if value is None else storable(str(value)[:200])


def _database(error: psycopg.Error) -> Problem:
    """What the database says; our own wrong SQL is our bug."""
    for kind, problem_of in _DATABASE:
        if isinstance(error, kind):
            return problem_of(error)
    log.error("request_failed", exc_info=error)
    return Problem(500, OUR_BUG)


def _away(error: psycopg.Error) -> Problem:
    log.warning("database_away", detail=str(error).strip())
    return unavailable("the database does not answer; try again later")


def _cannot_take(error: psycopg.Error) -> Problem:
    return Problem(422, f"the database cannot take this: {error.diag.message_primary or error}")


_DATABASE: tuple[tuple[type[psycopg.Error], Callable[[psycopg.Error], Problem]], ...] = (
    (
        psycopg.errors.QueryCanceled,
        lambda _: unavailable(
            "this takes the database too long: ask for a shorter period or fewer sensors, or start an export job"
        ),
    ),
    (
        psycopg_pool.TooManyRequests,
        lambda _: too_many("too many requests wait for the database already; try again later"),
    ),
    (
        psycopg_pool.PoolTimeout,
        lambda _: unavailable("no connection to the database became free in time; try again later"),
    ),
    (
        psycopg.errors.UndefinedTable,
        lambda _: unavailable("the database lacks tables; make them with: telltale db migrate"),
    ),
    (psycopg.DataError, _cannot_take),
    (psycopg.OperationalError, _away),
    (psycopg.InterfaceError, _away),
)

_KINDS: tuple[tuple[type[Exception], Callable[[Any], Problem]], ...] = (
    (Problem, lambda error: error),
    (HTTPException, lambda error: Problem(error.status_code, str(error.detail), headers=error.headers)),
    (RequestValidationError, _validation),
    (Refused, lambda error: Problem(422, str(error))),
    (Unavailable, lambda error: unavailable(str(error))),
    (psycopg.Error, _database),
)
