"""What stage and sink have rejected, as far as no rule of a device tells of it: read from `readings.rejected`.

Knows the broker; its waits are bounded.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.client import reader
from infra.security.strangers import CALM, Try
from infra.watchdog.findings import Rule
from infra.whole_topic import partitions_of
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Unavailable
from schemas.records import Rejected
from schemas.rejection import FORGED, is_unusable
from schemas.topics import READINGS_REJECTED

LOOK_S_MAX = 2.0
"""Of a look: a flood is told as well by some of it."""
ANSWER_S = 5.0
NAME_CHARACTERS_MAX, DETAIL_CHARACTERS_MAX = 100, 300


@dataclass(slots=True)
class RejectedRecords:
    """Follows the topic, at first from so far back as a try is remembered."""

    kafka: str
    calm: timedelta = CALM
    codec: Codec = field(default_factory=Codec)
    _consumer: Consumer | None = None

    def tries(self, now: datetime) -> Iterator[tuple[Rule, Try]]:
        """What has come since the last look, and the rule that it breaks; nothing while the broker is away, it is asked
        for later."""
        try:
            consumer = self._consumer = self._consumer or self._open(now)
            until = time.monotonic() + LOOK_S_MAX
            while time.monotonic() < until:
                messages = consumer.consume(500, timeout=0.2)
                if not messages:
                    return
                for message in messages:
                    if message.error() is None:
                        yield from self._of(message.value())
        except (KafkaException, Unavailable):
            self._close()

    def _open(self, now: datetime) -> Consumer:
        # Rejected records carry what was sent, megabytes maybe: a few at a time.
        bounds = {"queued.max.messages.kbytes": 8_192, "enable.partition.eof": False}
        consumer = Consumer({**reader(self.kafka, group="telltale-watchdog-rejected"), **bounds})
        try:
            since_ms = round((now - self.calm).timestamp() * 1000)
            numbers = partitions_of(consumer, self.kafka, READINGS_REJECTED, ANSWER_S)
            wanted = [TopicPartition(READINGS_REJECTED, number, since_ms) for number in numbers]
            consumer.assign(consumer.offsets_for_times(wanted, timeout=ANSWER_S))
        except BaseException:
            consumer.close()
            raise
        return consumer

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _of(self, value: bytes | None) -> Iterator[tuple[Rule, Try]]:
        try:
            record = self.codec.decode(Rejected, value)
        except Unreadable:
            return
        name = (record.device_id or "nobody")[:NAME_CHARACTERS_MAX]
        detail = record.detail[:DETAIL_CHARACTERS_MAX]
        if record.reason in FORGED:
            said = f'A record in the name of "{name}" was refused: {detail}'
            yield Rule.STRANGER, Try(f"device/{name}", str(record.reason), said)
        elif is_unusable(record.reason):
            said = f'A record of {record.topic} in the name of "{name}" could not be taken ({record.reason}): {detail}'
            yield Rule.UNUSABLE, Try(f"device/{name}", str(record.reason), said)
