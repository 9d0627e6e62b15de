"""Serves the application until a signal ends it. Knows uvicorn and sockets."""

import signal
import socket
import sys

import uvicorn
from fastapi import FastAPI

from dashboard.web.state import web_of
from schemas.errors import Refused

SWITCH_S = 0.0005
"""How long a thread that encodes a download may keep the loop waiting for the interpreter; Python's own is 5 ms."""
STOP_S_MAX = 5
"""What an answer under way may still take; the supervisor waits longer than this."""


class Server(uvicorn.Server):
    """Says `stopping` before it waits for open connections, so that streams without end make an end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._web = web_of(app)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._web.stopping.set()
        await super().shutdown(sockets)


def serve(app: FastAPI, *, host: str, port: int) -> None:
    """Until SIGTERM or Ctrl-C. Raises `Refused` where nobody can listen there."""
    listener = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        forwarded_allow_ips=list(web_of(app).settings.proxies),
        timeout_graceful_shutdown=STOP_S_MAX,
        ws_max_size=1_000_000,
        ws="websockets-sansio",
    )
    sys.setswitchinterval(SWITCH_S)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it anew when all is closed: that is a good end
    Server(config, app).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise Refused(f"cannot listen on {host} port {port}: {error.strerror}; see --host and --port") from None
    except UnicodeError:  # of a name with an empty part, or one that is too long
        raise Refused(f"cannot listen on {host}: that is no host's name; see --host") from None
    listener.listen(1024)
    return listener
