"""Traces from the edge to the row, for whoever runs a collector of OpenTelemetry. Off, and not even imported, unless
OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT) says where to send them, by OTLP over HTTP.

The edge decides which frames are followed and gives those a W3C `traceparent` header; frames without one cost nothing
downstream. A batch mixes frames, so its span is linked with every followed frame in it; its parent is the first of
them, so that one frame's whole way is one trace. OTEL_TRACES_SAMPLER and the other variables of the SDK work.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

HEADER = "traceparent"
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SHARE = 0.01
"""Of the frames that an edge follows, unless OTEL_TRACES_SAMPLER says otherwise: at six frames a second one in 16 s."""
LINKS_MAX = 128
"""Of one batch, as the SDK bounds them; a batch of 20,000 followed frames would else be a span of megabytes."""
END_S_MAX = 3.0
"""For what is still to be sent at the end. A collector that is away must not hold a service up."""


class Log(Protocol):
    """What is told why there are no traces."""

    def info(self, event: str, **fields: Any) -> Any: ...

    def warning(self, event: str, **fields: Any) -> Any: ...


def wanted() -> str | None:
    """Where traces go; None: nowhere."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    return next((said for name in ENDPOINTS if (said := os.environ.get(name))), None)


def start(service: str, *, version: str, log: Log) -> "Tracing | None":
    """None where traces are not wanted, or cannot be made, which is told: they must not stop the work."""
    endpoint = wanted()
    if endpoint is None:
        return None
    try:
        made = Tracing(service, version)
    except ImportError as error:
        log.warning("no_traces", detail=f"{error}; pip install '.[operations]' has it")
        return None
    log.info("traces", endpoint=endpoint)
    return made


@dataclass(frozen=True, slots=True)
class Followed:
    """A span under way, and what it says to whoever goes on: `headers` of Kafka, none where it is not followed."""

    span: "Span"
    headers: tuple[tuple[str, bytes], ...]

    def end(self, error: str | None = None, **attributes: int | str) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415 - only where traces are made

        for name, value in attributes.items():
            self.span.set_attribute(f"telltale.{name}", value)
        if error is not None:
            self.span.set_status(StatusCode.ERROR, error)
        self.span.end()


class Tracing:
    """Makes spans of one process and sends them, in a thread of the SDK's. Any thread may call it."""

    def __init__(self, service: str, version: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

        about = {"service.name": f"telltale-{service}", "service.version": version}
        own = None if "OTEL_TRACES_SAMPLER" in os.environ else ParentBased(TraceIdRatioBased(SHARE))
        self._provider: TracerProvider = TracerProvider(resource=Resource.create(about), sampler=own)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Tracer = self._provider.get_tracer("telltale", version)

    def send(self, name: str, attributes: Mapping[str, int | str]) -> Followed:
        """A span that begins a trace, if the sampler wants one."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415

        span = self._tracer.start_span(name, kind=SpanKind.PRODUCER, attributes=_ours(attributes))
        return Followed(span, _headers(span))

    def batch(
        self,
        name: str,
        origins: Sequence[bytes],
        *,
        began_s: float | None = None,
        attributes: Mapping[str, int | str] | None = None,
    ) -> Followed:
        """A span for what was made of many frames; `origins` are the headers of those that are followed, at least one.

        `began_s` is when it began, by time.time(); None: now.
        """
        from opentelemetry.trace import Link, NonRecordingSpan, SpanKind, set_span_in_context  # noqa: PLC0415

        contexts = [found for origin in dict.fromkeys(origins) if (found := _context(origin)) is not None]
        parent = set_span_in_context(NonRecordingSpan(contexts[0])) if contexts else None
        span = self._tracer.start_span(
            name,
            context=parent,
            kind=SpanKind.CONSUMER,
            links=[Link(context) for context in contexts[:LINKS_MAX]],
            start_time=None if began_s is None else int(began_s * 1e9),
            attributes=_ours({**(attributes or {}), "followed": len(contexts)}),
        )
        return Followed(span, _headers(span))

    def end(self) -> None:
        """Sends what is left, if the collector takes it in time."""
        until = time.monotonic() + END_S_MAX

        def sending() -> None:
            with suppress(Exception):  # what cannot be sent at the end is nobody's loss
                self._provider.shutdown()

        thread = threading.Thread(target=sending, name="traces", daemon=True)
        thread.start()
        thread.join(max(0.0, until - time.monotonic()))


def _ours(attributes: Mapping[str, int | str]) -> dict[str, int | str]:
    return {f"telltale.{name}": value for name, value in attributes.items()}


def _headers(span: "Span") -> tuple[tuple[str, bytes], ...]:
    context = span.get_span_context()
    if not context.trace_flags.sampled:
        return ()
    return ((HEADER, f"00-{context.trace_id:032x}-{context.span_id:016x}-01".encode()),)


def _context(origin: bytes) -> "SpanContext | None":
    """Of a header, which anybody may have written; None: it is no traceparent."""
    from opentelemetry.trace import get_current_span  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    carrier = {HEADER: origin.decode("ascii", errors="replace")}
    found = get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()
    return found if found.is_valid else None
