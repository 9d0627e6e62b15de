"""HEAD is GET without a body (RFC 9110, 9.3.2): monitors and load balancers ask so. Plain ASGI.

The server leaves the body out, for it knows what was asked; the application sees a GET.
"""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send


class Heads:
    """The middleware, the outermost. `endless`: paths whose answer has no end, so that nobody would come to its."""

    def __init__(self, app: ASGIApp, *, endless: Collection[str]) -> None:
        self._app, self._endless = app, frozenset(endless)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD" and scope["path"] not in self._endless
        await self._app({**scope, "method": "GET"} if is_head else scope, receive, send)
