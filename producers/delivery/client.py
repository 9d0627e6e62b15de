"""The librdkafka producer of an edge, every option that matters written out. Knows options; sends nothing itself."""

from typing import Any

from infra.client import access
from producers.settings import EdgeSettings
from schemas.topics import READINGS_RAW, TOPICS


def options(address: str, settings: EdgeSettings) -> dict[str, Any]:
    """For `confluent_kafka.Producer`."""
    return {
        "bootstrap.servers": address,
        "client.id": "telltale-edge",
        # A retry by librdkafka is recognised by the broker; what we send again after a restart has its identity.
        "enable.idempotence": True,
        "acks": "all",
        "max.in.flight.requests.per.connection": 5,  # the most that keeps order with idempotence
        # The spool is the buffer: a message waits here as long as it takes and is not given up, which would reorder.
        "message.timeout.ms": 0,
        "message.send.max.retries": 2_147_483_647,
        "retry.backoff.ms": 100,
        "retry.backoff.max.ms": 10_000,  # librdkafka adds jitter to each of these
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 10_000,
        "socket.connection.setup.timeout.ms": 10_000,
        "request.timeout.ms": 30_000,  # a frozen broker is left after this
        "socket.keepalive.enable": True,
        "topic.metadata.propagation.max.ms": 10_000,  # a topic that is missing for longer is told as missing
        # Java clients, Kafka's tools and the stream stage find a device in the same partition.
        "partitioner": "murmur2_random",
        "compression.type": "lz4",
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "message.max.bytes": TOPICS[READINGS_RAW].max_message_bytes,
        # More than the window that the sender keeps, and than its largest frame, so that no frame meets a full queue.
        "queue.buffering.max.kbytes": max(16_384, settings.window_bytes * 4 // 1024),
        "queue.buffering.max.messages": 100_000,
        "log_level": 0,  # librdkafka writes to stderr; what it has to say comes by the error callback
        **(settings.security() or access(address).librdkafka()),
    }
