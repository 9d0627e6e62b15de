"""The topic `imports`: what is known of every file, and telling what became of one. Knows Kafka; knows no file."""

from typing import Any

from confluent_kafka import KafkaException, Producer

from infra.client import connection
from infra.whole_topic import read_to_end
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.keys import PARTITIONER
from schemas.records import ImportStatus
from schemas.topics import IMPORTS

TOLD_S_MAX = 300.0  # a status that the broker has not taken by then is told anew by the next run


def read_statuses(kafka: str, *, codec: Codec | None = None) -> dict[str, ImportStatus]:
    """The last status of every file, by hash. Raises `Unavailable`."""
    codec = codec or Codec()
    known: dict[str, ImportStatus] = {}
    for message in read_to_end(kafka, IMPORTS, group="telltale-imports-show"):
        key = (message.key() or b"").decode(errors="replace")
        if message.value() is None:
            known.pop(key, None)
            continue
        try:
            known[key] = codec.decode(ImportStatus, message.value())
        except Unreadable:
            continue  # the sink tells of it
    return known


class Statuses:
    """Tells statuses, each the newest of its file, and remembers them."""

    def __init__(self, kafka: str, *, known: dict[str, ImportStatus] | None = None, codec: Codec | None = None) -> None:
        self.known = {} if known is None else known
        self._codec = codec or Codec()
        self._failed = 0
        self._producer = Producer(
            {
                **connection(kafka),
                "client.id": "telltale-importer",
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": PARTITIONER,
                "compression.type": "zstd",
                "linger.ms": 20,
                "delivery.timeout.ms": int(TOLD_S_MAX * 1000),
            }
        )

    def tell(self, status: ImportStatus) -> None:
        """The record of a file; lost only if the broker stays away for `TOLD_S_MAX`, or this process dies first."""
        self.known[status.sha256] = status
        value, key = self._codec.encode(status), status.sha256.encode()
        for _ in range(100):
            try:
                self._producer.produce(IMPORTS, value, key, on_delivery=self._heard)
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException:
                self._failed += 1
                break
        self._producer.poll(0)

    def flush(self, within_s: float) -> int:
        """How many were not told in time."""
        left: int = self._producer.flush(within_s)
        return left + self._failed

    def _heard(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failed += 1
