"""The sink's metrics. Counted once for each batch or look, never for each row."""

from prometheus_client import Counter, Gauge, Histogram

from infra.telemetry.registry import REGISTRY, SECONDS, Moment

BATCHES = Counter("telltale_sink_batches_total", "Batches stored, each in one transaction.", registry=REGISTRY)
RECORDS = Counter("telltale_sink_records_total", "Kafka records stored.", registry=REGISTRY)
ROWS = Counter(
    "telltale_sink_rows_total", "Rows of readings and windows written, by COPY or by the upsert.", ["table", "way"],
    registry=REGISTRY,
)  # fmt: skip
REJECTED = Counter(
    "telltale_sink_rejected_total", "Records, or parts of them, sent to readings.rejected.", ["reason"],
    registry=REGISTRY,
)  # fmt: skip
HALVED = Counter("telltale_sink_halved_total", "Batches halved to find a bad record.", registry=REGISTRY)
TRANSACTION = Histogram(
    "telltale_sink_transaction_seconds", "One database transaction, begun to committed.", registry=REGISTRY,
    buckets=SECONDS,
)  # fmt: skip
COPY = Histogram("telltale_sink_copy_seconds", "One COPY.", registry=REGISTRY, buckets=SECONDS)
STORED_AGE = Histogram(
    "telltale_sink_stored_age_seconds", "Age of the oldest record of a batch once it is stored.", registry=REGISTRY,
    buckets=SECONDS,
)  # fmt: skip
STORED = Moment("telltale_sink_last_commit_timestamp_seconds", "When the last batch was stored.")
WAITS = Counter(
    "telltale_sink_waits_total", "Tries that a neighbour was away or busy for; the batch is kept.", ["reason"],
    registry=REGISTRY,
)  # fmt: skip
REPLAYS = Counter("telltale_sink_replays_total", "Partitions set back by an operator.", registry=REGISTRY)
PARTITIONS = Gauge("telltale_sink_partitions", "Partitions of all topics that this sink has.", registry=REGISTRY)
WAITING_ROWS = Gauge("telltale_sink_waiting_rows", "Rows read and not yet stored.", registry=REGISTRY)
LAG_RECORDS = Gauge(
    "telltale_sink_lag_records", "Records of this sink's partitions that are not stored.", ["topic"],
    registry=REGISTRY,
)  # fmt: skip
LAG_SECONDS = Gauge(
    "telltale_sink_lag_seconds", "How long the oldest record that this sink has read has waited.", registry=REGISTRY
)
