"""Answers in zstd or gzip for whoever accepts it. Plain ASGI, piece by piece, so that streams stay streams.

Left as they are: what is compressed already (Parquet, images), event streams, what is too small to matter, and files
that are kept: their size is told, and a download goes on where it broke off, which is a place in the file itself.
"""

import asyncio
import zlib
from typing import Protocol

import zstandard
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LEAST_BYTES = 1_000
IN_THREAD_BYTES = 50_000
"""A larger piece is compressed beside the loop; a smaller one costs less than the way to the thread and back."""
COMPRESSED = (
    "application/json",
    "application/problem+json",
    "application/x-ndjson",
    "application/vnd.apache.arrow.stream",
    "application/octet-stream",
    "application/javascript",
    "text/css",
    "text/csv",
    "text/html",
    "text/javascript",
    "text/plain",
    "image/svg+xml",
)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


def _made(encoding: str) -> _Compressor:
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=3).compressobj()
    return zlib.compressobj(5, zlib.DEFLATED, 31)


def accepted(header: str | None) -> str | None:
    """zstd or gzip, whichever Accept-Encoding allows; zstd where it allows both alike."""
    weights: dict[str, float] = {}
    for part in (header or "").lower().split(","):
        name, _, rest = part.strip().partition(";")
        quality = rest.strip().removeprefix("q=") if rest else "1"
        try:
            weights[name.strip()] = float(quality)
        except ValueError:
            weights[name.strip()] = 0.0
    offers = {name: weights.get(name, weights.get("*", 0.0)) for name in ("zstd", "gzip")}
    best = max(offers, key=lambda name: offers[name])
    return best if offers[best] > 0 else None


class Compression:
    """The middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        encoding = accepted(Headers(scope=scope).get("accept-encoding")) if scope["type"] == "http" else None
        if encoding is None:
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _Answer(encoding, send))


class _Answer:
    """Passes one answer on, compressed if it is one that gains by it."""

    def __init__(self, encoding: str, send: Send) -> None:
        self._encoding, self._send = encoding, send
        self._start: Message | None = None
        self._compressor: _Compressor | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            await self._body(message)
        else:
            await self._send(message)

    async def _body(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            self._choose(start, len(body), is_whole=not more)
            await self._send(start)
        if self._compressor is None:
            await self._send(message)
            return
        piece = await self._compressed(body, is_last=not more)
        if piece or not more:
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})

    def _choose(self, start: Message, size: int, *, is_whole: bool) -> None:
        headers = MutableHeaders(scope=start)
        kind = headers.get("content-type", "").partition(";")[0].strip()
        is_kept = headers.get("content-disposition", "").startswith("attachment")
        if kind not in COMPRESSED or is_kept or "content-encoding" in headers or start["status"] in (204, 206, 304):
            return
        headers.add_vary_header("Accept-Encoding")
        if is_whole and size < LEAST_BYTES:
            return
        self._compressor = _made(self._encoding)
        headers["Content-Encoding"] = self._encoding
        if headers.get("etag", "").startswith('"'):  # these are no longer the very bytes that it stands for
            headers["ETag"] = f"W/{headers['etag']}"
        if "content-length" in headers:
            del headers["content-length"]

    async def _compressed(self, body: bytes, *, is_last: bool) -> bytes:
        assert self._compressor is not None  # noqa: S101 - asked for by the caller
        if len(body) > IN_THREAD_BYTES:
            piece = await asyncio.to_thread(self._compressor.compress, body)
        else:
            piece = self._compressor.compress(body)
        return piece + self._compressor.flush() if is_last else piece
