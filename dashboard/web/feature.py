"""What a part of the web service brings along."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from dashboard.web.problems import Page


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One part: routers, and what they need running."""

    name: str
    routers: Sequence[APIRouter] = ()
    mounts: Sequence[BaseRoute] = ()
    """Such as static files; they are for everybody."""
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None
    """Entered when the service starts (pools are open by then) and left when it stops; `web_of(app)` has the rest."""
    page: Page | None = None
    """Answers a person's request that met a problem with a page; at most one feature has it."""
