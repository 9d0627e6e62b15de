"""The metrics of `telltale backup run`. The age of the newest backup, whoever made it, is the watchdog's."""

from prometheus_client import Counter, Gauge, Histogram

from infra.telemetry.registry import LONG_SECONDS, REGISTRY, Moment

MADE = Counter("telltale_backup_made_total", "Backups made.", registry=REGISTRY)
VERIFIED = Counter("telltale_backup_verified_total", "Backups verified by restoring them.", registry=REGISTRY)
FAILED = Counter(
    "telltale_backup_failed_total", "Tries to make or verify a backup that failed.", ["step"], registry=REGISTRY
)
TOOK = Histogram(
    "telltale_backup_seconds", "Making or verifying a backup, failed tries as well.", ["step"], registry=REGISTRY,
    buckets=LONG_SECONDS,
)  # fmt: skip
SIZE = Gauge("telltale_backup_size_bytes", "Size of the last one made here.", registry=REGISTRY)
LAST_MADE = Moment("telltale_backup_last_made_timestamp_seconds", "When the last one was made here.")
