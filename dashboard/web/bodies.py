"""How large a request may be: what is not a file is read whole into memory, also of somebody who is not signed in.

Plain ASGI. The route that takes files reads them piece by piece and has a limit of its own.
"""

from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.web.problems import Problem

BYTES_MAX = 8_000_000
"""A configuration of 2 MB as a JSON text within JSON, and room; forms of people have some hundred bytes."""


class Bodies:
    """The middleware. `files`: the paths that take files."""

    def __init__(self, app: ASGIApp, *, files: Collection[str]) -> None:
        self._app, self._files = app, frozenset(files)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._files:
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said) > BYTES_MAX:
            await Problem(413, _TOO_LARGE).response(scope["path"])(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > BYTES_MAX:
                raise HTTPException(413, _TOO_LARGE)
            return message

        await self._app(scope, counted, send)


_TOO_LARGE = f"more than {BYTES_MAX:,} bytes, the most in one request that is not a file"
