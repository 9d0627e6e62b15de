"""One HTTP request that takes no longer than it may, though the other side answers byte by byte, or without end. Only
looking up a name takes as long as the machine's resolver lets it.

Knows httpx, whose own limits are of a single read: an answer that trickles in keeps to them for ever.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

import httpx


@dataclass(frozen=True, slots=True)
class Answer:
    """What the other side said."""

    status: int
    text: str
    """Its beginning, of an answer that is no success."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


def ask(
    method: str,
    url: str,
    *,
    within_s: float,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    verify: ssl.SSLContext | bool = True,
    text_bytes_max: int = 1_000,
) -> Answer:
    """Asks, and follows no redirect. Raises `httpx.HTTPError`, `httpx.InvalidURL` and, where `within_s` did not do,
    `TimeoutError` with a text."""

    async def answer() -> Answer:
        async with (
            httpx.AsyncClient(verify=verify, timeout=within_s) as client,
            client.stream(method, url, content=content, headers=headers) as came,
        ):
            text = b""
            if not came.is_success:
                async for part in came.aiter_bytes():
                    text += part
                    if len(text) >= text_bytes_max:
                        break
            return Answer(came.status_code, text[:text_bytes_max].decode(errors="replace"))

    async def in_time() -> Answer:
        try:
            async with asyncio.timeout(within_s):
                return await answer()
        except (TimeoutError, httpx.TimeoutException):
            raise TimeoutError(f"no whole answer within {within_s:g} s") from None

    return asyncio.run(in_time())
