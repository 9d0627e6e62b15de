"""A proxy that speaks TLS to the world and plain HTTP to a service, as nginx or Caddy do: for tests of what is behind.

One request for each connection, but for upgraded ones: enough to put the headers in that such proxies put in.
"""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HEAD_BYTES_MAX = 65_536
HOST = "127.0.0.1"


class TlsProxy:
    """Listens at `port` once `start`ed."""

    def __init__(self, target_port: int, certificate: Path) -> None:
        self._target_port = target_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self.port = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, HOST, 0, ssl=self._context, limit=HEAD_BYTES_MAX)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            back_reader, back_writer = await asyncio.open_connection(HOST, self._target_port)
            back_writer.write(_forwarded(head, writer.get_extra_info("peername")[0]))
            await asyncio.gather(_pass(reader, back_writer), _pass(back_reader, writer))
        writer.close()


def _forwarded(head: bytes, peer: str) -> bytes:
    """The request with what a proxy adds; `X-Forwarded-For` is appended to what the client said."""
    first, *lines = head.rstrip().split(b"\r\n")
    named = {line.partition(b":")[0].strip().lower(): line.partition(b":")[2].strip() for line in lines}
    before = named.get(b"x-forwarded-for")
    through = b", ".join(filter(None, (before, peer.encode())))
    kept = [line for line in lines if not line.lower().startswith((b"x-forwarded-", b"connection:"))]
    wanted = b"upgrade" if b"upgrade" in named else b"close"
    added = [b"X-Forwarded-For: " + through, b"X-Forwarded-Proto: https", b"Connection: " + wanted]
    return b"\r\n".join([first, *kept, *added]) + b"\r\n\r\n"


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    with suppress(OSError, NotImplementedError):
        writer.close()


@contextmanager
def before(target_port: int, certificate: Path) -> Iterator[str]:
    """The address of a running proxy; `certificate` has the key, too."""
    proxy = TlsProxy(target_port, certificate)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)

    async def stop() -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    try:
        yield f"https://{HOST}:{proxy.port}"
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
