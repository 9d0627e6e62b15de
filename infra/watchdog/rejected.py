"""What stage and sink have rejected, as far as no rule of a device tells of it: read from `readings.rejected`.

A replay rejects again what was rejected before. Of that people have been told: the database, where rejected records are
kept, says so. Knows broker and database; its waits are bounded.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg
import structlog
from confluent_kafka import Consumer, KafkaException

from infra.client import reader
from infra.database import first_line
from infra.offsets import at_time
from infra.printable import printable
from infra.security.strangers import CALM, Try
from infra.watchdog.findings import Rule
from infra.whole_topic import partitions_of
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Unavailable
from schemas.records import Rejected
from schemas.rejection import FORGED, is_unusable
from schemas.topics import READINGS_REJECTED

log = structlog.get_logger(__name__)

LOOK_S_MAX = 2.0
"""Of a look: a flood is told as well by some of it."""
ANSWER_S = 5.0
# Which of these records, by their places in the arrays, were rejected before. A topic that was made again has other
# records at the same offsets, so their bytes are compared too.
KNOWN = """
SELECT place - 1
FROM unnest(%s::text[], %s::int[], %s::bigint[], %s::timestamptz[], %s::bytea[])
  WITH ORDINALITY AS asked (topic, part, at_offset, time, sum, place)
JOIN rejected AS known USING (topic, part, at_offset)
WHERE known.time < asked.time AND sha256(known.payload) = asked.sum"""
NAME_CHARACTERS_MAX, DETAIL_CHARACTERS_MAX = 100, 300


@dataclass(frozen=True, slots=True)
class _Found:
    """One that is to be told of, unless it is read again; without its bytes."""

    rule: Rule
    said: Try
    at: tuple[str, int, int]  # topic, partition, offset
    time: datetime
    sum: bytes


@dataclass(slots=True)
class RejectedRecords:
    """Follows the topic, at first from so far back as a try is remembered."""

    kafka: str
    database: str
    calm: timedelta = CALM
    codec: Codec = field(default_factory=Codec)
    _consumer: Consumer | None = None

    def tries(self, now: datetime) -> Iterator[tuple[Rule, Try]]:
        """What has come since the last look, and the rule that it breaks; nothing while the broker is away, it is asked
        for later."""
        found = list(self._read(now))
        known = self._known(found) if found else set()
        for place, each in enumerate(found):
            if place not in known:
                yield each.rule, each.said

    def _read(self, now: datetime) -> Iterator[_Found]:
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

    def _known(self, found: Sequence[_Found]) -> set[int]:
        """Places of those that were rejected before. While the database is away none is known: better told twice."""
        topics, parts, offsets = zip(*(each.at for each in found), strict=True)
        asked = [list(topics), list(parts), list(offsets), [each.time for each in found], [each.sum for each in found]]
        try:
            with psycopg.connect(self.database, connect_timeout=int(ANSWER_S), autocommit=True) as one:
                one.execute(f"SET statement_timeout = {int(ANSWER_S * 1000)}")
                return {place for (place,) in one.execute(KNOWN, asked)}
        except psycopg.Error as error:
            log.info("known_not_asked", detail=first_line(error))
            return set()

    def _open(self, now: datetime) -> Consumer:
        # Rejected records carry what was sent, megabytes maybe: a few at a time.
        bounds = {"queued.max.messages.kbytes": 8_192, "enable.partition.eof": False}
        consumer = Consumer({**reader(self.kafka, group="telltale-watchdog-rejected"), **bounds})
        try:
            since_ms = round((now - self.calm).timestamp() * 1000)
            numbers = partitions_of(consumer, self.kafka, READINGS_REJECTED, ANSWER_S)
            consumer.assign(at_time(consumer, READINGS_REJECTED, numbers, since_ms, within_s=ANSWER_S))
        except BaseException:
            consumer.close()
            raise
        return consumer

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _of(self, value: bytes | None) -> Iterator[_Found]:
        try:
            record = self.codec.decode(Rejected, value)
        except Unreadable:
            return
        name = printable((record.device_id or "nobody")[:NAME_CHARACTERS_MAX])
        detail = printable(record.detail[:DETAIL_CHARACTERS_MAX])
        if record.reason in FORGED:
            rule, said = Rule.STRANGER, f'A record in the name of "{name}" was refused: {detail}'
        elif is_unusable(record.reason):
            what = f'A record of {record.topic} in the name of "{name}" could not be taken ({record.reason})'
            rule, said = Rule.UNUSABLE, f"{what}: {detail}"
        else:
            return
        at, digest = (record.topic, record.partition, record.offset), hashlib.sha256(record.payload).digest()
        yield _Found(rule, Try(f"device/{name}", str(record.reason), said), at, record.time, digest)
