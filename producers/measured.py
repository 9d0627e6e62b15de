"""The edge's metrics, made when they are asked for: sending and accepting pay nothing for them.

Of the whole spool: an edge serves few devices, and a label for each would grow with the fleet.
"""

import time
from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from infra.telemetry.health import Check, Health, age_check
from producers.delivery.link import Link
from producers.edge import Edge
from producers.sources.watching import Sources
from schemas.errors import Unavailable

SOURCE_STATES = ("starting", "running", "failed", "ended")


class EdgeMetrics(Collector):
    """Of one edge. Without one it only describes itself."""

    def __init__(self, edge: Edge | None = None, sources: Sources | None = None) -> None:
        self._edge, self._sources = edge, sources

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        return self._families()

    def _families(self) -> list[Metric]:
        edge = self._edge
        counts = [edge.spool.counts(device) for device in edge.spool.devices()] if edge else []
        progress = edge.progress if edge else None
        found: list[Metric] = []

        def counter(name: str, about: str, value: float) -> None:
            found.append(CounterMetricFamily(name, about, value if edge else None))

        def gauge(name: str, about: str, value: float) -> None:
            found.append(GaugeMetricFamily(name, about, value if edge else None))

        # Since the spool was made: they survive the process, as a counter may.
        accepted, sent = sum(c.accepted for c in counts), sum(c.sent for c in counts)
        dropped = sum(c.dropped for c in counts)
        counter("telltale_edge_accepted_readings", "Readings that are, or were, on this disk.", accepted)
        counter("telltale_edge_sent_readings", "Readings that the broker has acknowledged.", sent)
        counter("telltale_edge_dropped_readings", "Readings dropped unsent, by the spool's policy.", dropped)
        counter("telltale_edge_refused_readings", "Readings not accepted.", sum(c.refused for c in counts))
        counter("telltale_edge_frames", "Frames acknowledged since the start.", progress.frames if progress else 0)
        gauge("telltale_edge_spool_readings", "Readings that wait in the spool.", accepted - sent - dropped)
        gauge("telltale_edge_spool_bytes", "Bytes that wait in the spool.", sum(c.bytes for c in counts))
        gauge(
            "telltale_edge_spool_oldest_age_seconds",
            "How long the oldest reading in the spool has waited.",
            _oldest_s(edge),
        )
        gauge("telltale_edge_devices", "Devices of this spool.", len(counts))
        gauge("telltale_edge_disk_free_bytes", "Free on the spool's disk.", edge.spool.free_disk_bytes() if edge else 0)
        last_s = time.time() - (time.monotonic() - progress.moved_at) if progress and progress.frames else 0
        gauge("telltale_edge_last_acknowledged_timestamp_seconds", "When the broker last acknowledged a frame.", last_s)
        link = GaugeMetricFamily("telltale_edge_link", "1 for the state of the way to the broker.", labels=["state"])
        states = GaugeMetricFamily("telltale_edge_sources", "Sources, by how they do.", labels=["state"])
        restarts = CounterMetricFamily("telltale_edge_source_restarts", "Starts of sources that had failed.")
        if progress is not None:
            for each in Link:
                link.add_metric((each,), float(progress.link.link is each))
        if self._sources is not None:
            watched = self._sources.watched
            for state in SOURCE_STATES:
                states.add_metric((state,), sum(one.state == state for one in watched))
            restarts.add_metric((), sum(one.restarts for one in watched))
        return [*found, link, states, restarts]


def _oldest_s(edge: Edge | None) -> float:
    """Since the oldest reading that waits was accepted; 0: none waits."""
    if edge is None:
        return 0.0
    oldest = [c.oldest_us for device in edge.spool.devices() if (c := edge.spool.counts(device)).oldest_us is not None]
    return max(0.0, time.time() - min(oldest) / 1e6) if oldest else 0.0


def checks(health: Health, edge: Edge, sources: Sources) -> None:
    """What an edge says of itself. A broker that is away is told and no reason to be not ready: the spool takes on."""

    def sending() -> Check:
        try:
            link = edge.progress.link
        except RuntimeError as error:
            return Check(False, str(error))
        return Check(link.link in (Link.UP, Link.CONNECTING), f"{link.link} {link.detail}".strip(), required=False)

    def spool() -> Check:
        try:
            free = edge.spool.free_disk_bytes()
        except (OSError, Unavailable) as error:
            return Check(False, f"the spool's disk: {error}")
        disk = edge.progress.link.link is Link.DISK
        return Check(not disk, edge.progress.link.detail if disk else f"{free / 1e6:.0f} MB free", free, "bytes")

    def running() -> Check:
        failed = [one.name for one in sources.watched if one.state == "failed"]
        return Check(not failed, f"failed: {', '.join(failed)}" if failed else f"{len(sources.watched)} sources run")

    def caught_up() -> Check:
        oldest_s = _oldest_s(edge)
        waits = oldest_s > edge.settings.heartbeat_s
        said = f"the oldest reading waits for {oldest_s:.1f} s" if oldest_s else "nothing waits"
        return Check(not waits, said, round(oldest_s, 3), "s", required=False)

    def acknowledged() -> Check:
        now = edge.progress
        return age_check("acknowledgement", time.monotonic() - now.moved_at if now.frames else None)

    for name, ask in (
        ("link", sending),
        ("spool", spool),
        ("sources", running),
        ("caught_up", caught_up),
        ("last_acknowledged", acknowledged),
    ):
        health.check(name, ask)
