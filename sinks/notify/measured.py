"""The notifier's metrics. Labels are the ways of notify.toml."""

from prometheus_client import Counter, Gauge, Histogram

from infra.telemetry.registry import REGISTRY, SECONDS, Moment

SENT = Counter("telltale_notify_sent_total", "Notices delivered.", ["way"], registry=REGISTRY)
FAILED = Counter("telltale_notify_failed_total", "Tries that failed; the notice is kept.", ["way"], registry=REGISTRY)
SEND = Histogram(
    "telltale_notify_send_seconds", "One try to deliver, failed ones as well.", ["way"], registry=REGISTRY,
    buckets=SECONDS,
)  # fmt: skip
UNDELIVERED = Gauge("telltale_notify_undelivered", "Notices that have not left.", ["way"], registry=REGISTRY)
WAITING = Gauge("telltale_notify_waiting", "Alarm events that wait to be told.", registry=REGISTRY)
SENT_AT = Moment("telltale_notify_last_sent_timestamp_seconds", "When a notice was last delivered.")
