"""/metrics, /healthz and /readyz of a process, in a thread beside its work. Knows HTTP; the figures are others'.

It answers on loopback unless it is told otherwise, and only where there is a port for it.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from infra.telemetry.health import Health
from infra.telemetry.probing import Ask, probing
from infra.telemetry.registry import BUILD, REGISTRY
from infra.telemetry.settings import MetricsSettings
from infra.version import our_version

ANSWER_S_MAX = 10.0
"""After which a client that does not read, or asks nothing, is left."""


class Log(Protocol):
    """What is told where it listens: structlog's, or the edge's journal."""

    def info(self, event: str, **fields: Any) -> Any: ...

    def warning(self, event: str, **fields: Any) -> Any: ...


class HealthMetrics(Collector):
    """The checks of /readyz as metrics, for alert rules."""

    def __init__(self, health: Health | None = None) -> None:
        self._health = health

    def describe(self) -> Iterable[Metric]:
        return list(_families())

    def collect(self) -> Iterable[Metric]:
        ready, checks = _families()
        if self._health is not None:
            found = self._health.readiness()
            ready.add_metric((), float(found["ready"]))
            for name, check in found["checks"].items():
                checks.add_metric((name,), float(check["ok"]))
        return ready, checks


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("telltale_ready", "Whether the process can do its work (/readyz)."),
        GaugeMetricFamily("telltale_check_ok", "Each check of /readyz.", labels=["check"]),
    )


class _All(CollectorRegistry):
    """The registry and what is made when it is asked for: that belongs to one server and is registered nowhere."""

    def __init__(self, made: Iterable[Collector]) -> None:
        super().__init__()
        self._made = made

    def collect(self) -> Iterator[Metric]:
        yield from REGISTRY.collect()
        for each in self._made:
            yield from each.collect()


def exposition(accept: str | None, *made: Collector) -> tuple[bytes, str]:
    """This process's metrics and their content type, as the client accepts them."""
    encode, kind = choose_encoder(accept or "")
    return encode(_All(made)), kind


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    health: Health
    made: Sequence[Collector]

    def server_bind(self) -> None:
        """Without asking the name service who we are, as the library does."""
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = ANSWER_S_MAX

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, *exposition(self.headers.get("Accept"), *self.server.made))
        elif path == "/healthz":
            alive = self.server.health.alive()
            told = {"service": self.server.health.service, "alive": alive.ok, "said": alive.said}
            self._answer_json(200 if alive.ok else 503, told)
        elif path == "/readyz":
            found = self.server.health.readiness()
            self._answer_json(200 if found["ready"] else 503, found)
        else:
            self._answer_json(404, {"said": f"{path}: expected /metrics, /healthz or /readyz"})

    def _answer_json(self, status: int, body: dict[str, Any]) -> None:
        self._answer(status, json.dumps(body).encode() + b"\n", "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nobody wants a line for each look."""


@contextmanager
def serving(
    health: Health,
    *collectors: Collector,
    probes: Mapping[str, Ask] | None = None,
    settings: MetricsSettings | None = None,
    log: Log | None = None,
) -> Iterator[str | None]:
    """Answers while it is open, and gives where; None: no port is set, or it cannot be had, which the log says. Who
    only watches must not stop the work.

    `collectors` make figures when they are asked for. `probes` are neighbours to be asked meanwhile. `log` is told
    where it listens; by default structlog's.
    """
    place, log = settings or MetricsSettings(), log or _structlog()
    if place.port is None:
        yield None
        return
    try:
        server = _Server((place.host, place.port), _Handler)
    except OSError as error:
        log.warning("no_metrics", host=place.host, port=place.port, detail=error.strerror)
        yield None
        return
    server.health, server.made = health, (HealthMetrics(health), *collectors)
    BUILD.labels(health.service, our_version()).set(1)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True)
    thread.start()
    url = f"http://{place.host}:{server.server_address[1]}/metrics"
    log.info("metrics", url=url)
    try:
        with probing(health, probes or {}):
            yield url
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _structlog() -> Log:
    import structlog  # noqa: PLC0415 - the edge does without

    found: Log = structlog.get_logger(__name__)
    return found
