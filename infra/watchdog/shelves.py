"""Ends the shelves of alarms that the stage does not answer for: follows `alarms`. Knows the broker; its waits are
bounded.

From the topic and not from the database, which is behind just when such alarms stand.
"""

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from infra.acted import end_again, shelf_over
from infra.client import reader
from infra.telling import tell_all
from infra.whole_topic import partitions_of
from schemas.alarms import AlarmEvent, is_answered_by_stage, read_alarm, supersedes
from schemas.columnar import Unreadable
from schemas.errors import Unavailable
from schemas.topics import ALARMS

log = structlog.get_logger(__name__)

LOOK_S_MAX = 2.0
"""Of a look: ninety days of alarms are read over several, before the first shelf is ended."""
ANSWER_S = 5.0


@dataclass(slots=True)
class Shelves:
    """The shelved alarms of one broker."""

    kafka: str
    _consumer: Consumer | None = None
    _unread: set[int] = field(default_factory=set)
    _last: dict[str, AlarmEvent] = field(default_factory=dict)
    """How the alarms stand that are ours to look after; also of those that are over, against events that come late."""
    _told: set[str] = field(default_factory=set)
    """Events of ours that have not been read back."""
    _ends: list[AlarmEvent] = field(default_factory=list)
    """To be told once more: our event came behind them."""

    def look(self, now: datetime) -> list[AlarmEvent]:
        """Takes off the shelf what still stands when it ends; what was told. In trouble the next look tries again."""
        try:
            self._read()
            if self._unread:
                return []
            over = [event for each in self._last.values() if (event := shelf_over(each, now)) is not None]
            fresh = [*self._ends, *(event for event in over if event.id not in self._told)]
            if fresh:
                tell_all(self.kafka, fresh, client_id="telltale-watchdog-shelves", within_s=ANSWER_S)
                self._told |= {event.id for event in fresh}
                self._ends = []
        except (KafkaException, Unavailable) as error:
            log.info("shelves_not_looked_at", detail=str(error))
            self._close()
            return []
        return fresh

    def _read(self) -> None:
        consumer = self._consumer = self._consumer or self._open()
        until = time.monotonic() + LOOK_S_MAX
        while time.monotonic() < until:
            messages = consumer.consume(1000, timeout=0.2)
            if not messages and not self._unread:
                return
            for message in messages:
                self._take(message)

    def _take(self, message: Any) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._unread.discard(message.partition())
            return
        try:
            event = read_alarm(message.value())
        except Unreadable:  # a removed key, or a later version's
            return
        if is_answered_by_stage(event):
            return
        known = self._last.get(event.data.alarm_id)
        if event.id in self._told:
            self._told.discard(event.id)
            if (end := end_again(event, known)) is not None:
                self._ends.append(end)
        if known is None or supersedes(event, known):
            self._last[event.data.alarm_id] = event

    def _open(self) -> Consumer:
        consumer = Consumer(reader(self.kafka, group="telltale-watchdog-shelves"))
        try:
            numbers = partitions_of(consumer, self.kafka, ALARMS, ANSWER_S)
            consumer.assign([TopicPartition(ALARMS, number, OFFSET_BEGINNING) for number in numbers])
        except BaseException:
            consumer.close()
            raise
        self._unread, self._last = set(numbers), {}
        return consumer

    def _close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
