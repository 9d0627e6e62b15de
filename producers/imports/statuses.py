"""The topic `imports`: what is known of every file, and telling what became of one. Knows Kafka; knows no file."""

from contextlib import suppress
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

from infra.client import connection, reader
from infra.whole_topic import partitions_of, read_to_end
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
        _apply(known, message, codec)
    return known


class Followed:
    """The statuses as they come, in one consumer that stays. `known` is what they say by now."""

    def __init__(self, kafka: str, *, known: dict[str, ImportStatus], codec: Codec | None = None) -> None:
        self.known = known
        self._codec = codec or Codec()
        self._consumer = Consumer(reader(kafka, group="telltale-imports-follow"))
        partitions = partitions_of(self._consumer, kafka, IMPORTS)
        self._consumer.assign([TopicPartition(IMPORTS, partition, OFFSET_BEGINNING) for partition in partitions])
        self._ends = set(partitions)

    def close(self) -> None:
        self._consumer.close()

    @property
    def caught_up(self) -> bool:
        """Whether all that was there at the start has been read."""
        return not self._ends

    def turn(self) -> bool:
        """Takes in what has come; whether there was anything. Never waits."""
        news = False
        for message in self._consumer.consume(2_000, 0.0):
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._ends.discard(message.partition())
                continue  # librdkafka goes on by itself
            news = True
            _apply(self.known, message, self._codec)
        return news


def _apply(known: dict[str, ImportStatus], message: Any, codec: Codec) -> None:
    key = (message.key() or b"").decode(errors="replace")
    if message.value() is None:
        known.pop(key, None)
        return
    with suppress(Unreadable):  # the sink tells of it
        known[key] = codec.decode(ImportStatus, message.value())


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

    def forget(self, sha256: str) -> None:
        """There was no such file."""
        self.known.pop(sha256, None)
        self._producer.produce(IMPORTS, None, sha256.encode(), on_delivery=self._heard)

    def flush(self, within_s: float) -> int:
        """How many were not told in time."""
        left: int = self._producer.flush(within_s)
        return left + self._failed

    def _heard(self, error: Any, _: Any) -> None:
        if error is not None:
            self._failed += 1
