"""The watchdog's metrics: what it saw at its last look. Of the whole installation, so that one process tells them."""

from collections.abc import Iterable

from prometheus_client import Gauge, Histogram

from infra.stack import WORKING, Stack
from infra.telemetry.registry import REGISTRY, SECONDS, Moment

LOOK = Histogram("telltale_watchdog_look_seconds", "One look at everything.", registry=REGISTRY, buckets=SECONDS)
LOOKED = Moment("telltale_watchdog_last_look_timestamp_seconds", "When it last looked at everything.")
FINDINGS = Gauge("telltale_watchdog_findings", "Things found amiss at the last look.", ["rule"], registry=REGISTRY)
GROUP_LAG_RECORDS = Gauge(
    "telltale_group_lag_records", "Records that a consumer group has left.", ["group"], registry=REGISTRY
)
GROUP_LAG_SECONDS = Gauge(
    "telltale_group_lag_seconds",
    "How long the oldest record that a consumer group has left has waited.",
    ["group"],
    registry=REGISTRY,
)
GROUP_STILL_SECONDS = Gauge(
    "telltale_group_still_seconds", "How long a partition with work has not moved.", ["group"], registry=REGISTRY
)
BROKER_UP = Gauge("telltale_broker_up", "Whether the broker answered.", registry=REGISTRY)
DATABASE_UP = Gauge("telltale_database_up", "Whether the database answered.", registry=REGISTRY)
CLOCK = Gauge(
    "telltale_database_clock_offset_seconds", "The database's clock against this machine's.", registry=REGISTRY
)
DISK_FREE = Gauge("telltale_disk_free_bytes", "Free on the disk of a folder.", ["folder"], registry=REGISTRY)
DISK_SIZE = Gauge("telltale_disk_size_bytes", "Size of the disk of a folder.", ["folder"], registry=REGISTRY)
BACKUP = Gauge(
    "telltale_backup_newest_timestamp_seconds", "When the newest backup was made; 0: there is none.",
    registry=REGISTRY,
)  # fmt: skip
SERVICE_UP = Gauge(
    "telltale_service_up", "Whether a part of `telltale up` runs, by its supervisor.", ["name"], registry=REGISTRY
)
SERVICE_RESTARTS = Gauge(
    "telltale_service_restarts", "How often a part was started again since `telltale up`.", ["name"], registry=REGISTRY
)


def found(rules: Iterable[str], bad: Iterable[str]) -> None:
    """All rules, with how many things are amiss by each."""
    amiss = list(bad)
    for rule in rules:
        FINDINGS.labels(rule).set(amiss.count(rule))


def forget_groups() -> None:
    """The broker is away: what was known of its groups is old."""
    for each in (GROUP_LAG_RECORDS, GROUP_LAG_SECONDS, GROUP_STILL_SECONDS):
        each.clear()


def stack(seen: Stack | None) -> None:
    """The parts of the stack in whose folder the watchdog works, if there is one."""
    for each in seen.services if seen else ():
        now = each.now()
        SERVICE_UP.labels(each.name).set(now.state in WORKING)
        SERVICE_RESTARTS.labels(each.name).set(now.restarts)
