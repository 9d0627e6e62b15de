"""Records that could not be taken go to `readings.rejected`, acknowledged by the broker before their offset is passed.

A crash between the two tells a record twice; its coordinates say that it is the same.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from confluent_kafka import KafkaError, KafkaException, Producer

from infra.client import connection
from infra.telling import is_fatal
from schemas.codec import Codec
from schemas.errors import Unavailable
from schemas.keys import PARTITIONER
from schemas.records import Rejected
from schemas.topics import READINGS_REJECTED, TOPICS
from sinks.timescale import measured
from sinks.timescale.batch import Entry, Refusal

FLUSH_S = 30.0  # above librdkafka's own retries of a broker that changes its leader; below the patience of a person
PAYLOAD_BYTES_MAX = TOPICS[READINGS_REJECTED].max_message_bytes - 65_536  # room for the other fields
DETAIL_CHARACTERS_MAX = 2_000


def producer(address: str) -> Producer:
    """A producer that neither loses nor repeats what it is given."""
    return Producer(
        {
            **connection(address),
            "client.id": "telltale-sink-rejects",
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": PARTITIONER,
            "compression.type": "lz4",
            "linger.ms": 5,
            "delivery.timeout.ms": int(FLUSH_S * 1000),
            "message.max.bytes": TOPICS[READINGS_REJECTED].max_message_bytes,
        }
    )


class Rejects:
    """Tells records to `readings.rejected`."""

    def __init__(self, make: Callable[[], Producer], *, codec: Codec) -> None:
        self._make, self._codec = make, codec
        self._producer: Producer | None = None

    def tell(self, entries: Iterable[Entry]) -> int:
        """Returns once the broker has all of them; how many they are. Raises `Unavailable`, and may be tried again."""
        told: list[Entry] = []
        failures: list[KafkaError | BufferError] = []
        for entry in entries:
            if self._producer is None:
                self._producer = self._make()
            record = rejection(entry)
            try:
                self._producer.produce(
                    READINGS_REJECTED,
                    key=record.device_id.encode() if record.device_id else None,
                    value=self._codec.encode(record),
                    on_delivery=lambda error, _: failures.append(error) if error else None,
                )
            except (BufferError, KafkaException) as error:
                failures.append(error if isinstance(error, BufferError) else error.args[0])
                break
            told.append(entry)
        if self._producer is not None and (told or failures):
            left = self._producer.flush(FLUSH_S)
            if left or failures:
                if any(isinstance(error, KafkaError) and is_fatal(error) for error in failures):
                    self._producer = None  # the next try makes another
                said = "; ".join(map(str, failures[:1]))
                raise Unavailable(f"{READINGS_REJECTED}: {left} records not acknowledged; {said}")
        for entry in told:
            assert isinstance(entry.body, Refusal)  # noqa: S101 - what callers select by
            measured.REJECTED.labels(entry.body.reason).inc()
            entry.tell()
        return len(told)


def rejection(entry: Entry) -> Rejected:
    """The record for a refusal. Its texts hold nothing that a database would refuse again."""
    body = entry.body
    assert isinstance(body, Refusal)  # noqa: S101 - what callers select by
    payload = entry.payload or b""
    detail = body.detail.replace("\0", "\\0")[:DETAIL_CHARACTERS_MAX]
    if len(payload) > PAYLOAD_BYTES_MAX:
        detail += f" (cut: {len(payload)} bytes)"
    return Rejected(
        topic=entry.part.topic,
        partition=entry.part.number,
        offset=entry.offset,
        device_id=(entry.key or b"").decode(errors="replace").replace("\0", "\\0")[:256] or None,
        reason=body.reason,
        detail=detail,
        rows=entry.rows,
        time=datetime.now(UTC),
        payload=payload[:PAYLOAD_BYTES_MAX],
    )
