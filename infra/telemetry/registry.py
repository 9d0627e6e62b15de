"""The registry of this process's metrics, and the buckets that its histograms share.

Each service names its metrics in a module `measured.py` of its own; README.md here lists all of them, and a test keeps
the list true. Labels hold words from short lists (a topic, a reason, a way), never a sensor, a device or a file.
"""

import time

from prometheus_client import CollectorRegistry, Gauge, disable_created_metrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which process_start_time_seconds says as well
REGISTRY = CollectorRegistry(auto_describe=False)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From the quickest transaction (a few ms) to what ends in an alarm."""
LONG_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14_400)
"""Of work that takes as long as there is data."""

BUILD = Gauge("telltale_build_info", "1, with the version that runs.", ["service", "version"], registry=REGISTRY)


class Moment:
    """When something last happened, as a metric (seconds since 1970; 0: never) and as an age."""

    def __init__(self, name: str, about: str) -> None:
        self._gauge = Gauge(name, about, registry=REGISTRY)
        self._at_s: float | None = None

    def is_now(self) -> None:
        self._at_s = time.time()
        self._gauge.set(self._at_s)

    @property
    def age_s(self) -> float | None:
        """None: not since the start."""
        return None if self._at_s is None else max(0.0, time.time() - self._at_s)
