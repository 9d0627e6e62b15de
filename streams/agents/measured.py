"""The stage's metrics. Counted once for each transaction or look, never for each reading."""

from prometheus_client import Counter, Gauge, Histogram

from infra.telemetry.registry import REGISTRY, SECONDS, Moment

RECORDS = Counter(
    "telltale_stage_records_total", "Records of a source topic that were worked out.", ["topic"], registry=REGISTRY
)
READINGS = Counter("telltale_stage_readings_total", "Readings judged, calibrated and committed.", registry=REGISTRY)
WINDOWS = Counter("telltale_stage_windows_total", "Windows emitted.", registry=REGISTRY)
REJECTED = Counter(
    "telltale_stage_rejected_total", "Records, or parts of them, sent to readings.rejected.", ["reason"],
    registry=REGISTRY,
)  # fmt: skip
ALARM_EVENTS = Counter(
    "telltale_stage_alarm_events_total", "Alarm events emitted.", ["state", "severity"], registry=REGISTRY
)
WORK = Histogram(
    "telltale_stage_work_seconds", "Working out what one transaction holds.", registry=REGISTRY, buckets=SECONDS
)
TRANSACTION = Histogram(
    "telltale_stage_transaction_seconds", "One Kafka transaction, begun to committed.", registry=REGISTRY,
    buckets=SECONDS,
)  # fmt: skip
COMMITTED = Moment("telltale_stage_last_commit_timestamp_seconds", "When the last transaction was committed.")
PARTITIONS = Gauge("telltale_stage_partitions", "Partitions that this worker has opened.", registry=REGISTRY)
DEVICES = Gauge("telltale_stage_devices", "Devices with a state in them.", registry=REGISTRY)
WAITING_RECORDS = Gauge("telltale_stage_waiting_records", "Records fetched and not yet worked out.", registry=REGISTRY)
WAITING_BYTES = Gauge(
    "telltale_stage_waiting_bytes", "Bytes of the records fetched and not yet worked out.", registry=REGISTRY
)
LAG_RECORDS = Gauge(
    "telltale_stage_lag_records", "Records of this worker's partitions that are not worked out.", ["topic"],
    registry=REGISTRY,
)  # fmt: skip
LAG_SECONDS = Gauge(
    "telltale_stage_lag_seconds", "How long the oldest record that this worker has fetched has waited.",
    registry=REGISTRY,
)  # fmt: skip
