"""The topic `alarms` as the notifier reads it: all partitions, from its own positions. A broker that is away is no
error here: nothing comes, and it is asked again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.client import connection
from infra.offsets import Mark, committed, mark_of
from schemas.alarms import AlarmEvent, read_alarm
from schemas.columnar import Unreadable
from schemas.topics import ALARMS, NOTIFY_GROUP

log = structlog.get_logger(__name__)

RECORDS_MAX = 500
RETRY_S = 5.0
"""Between two tries to find the topic's partitions."""
ANSWER_S = 2.0  # notices go out meanwhile only between two questions
OUR_MARK = str(Mark(0))


@dataclass(frozen=True, slots=True)
class Read:
    """What one look has brought."""

    events: list[AlarmEvent]
    positions: dict[int, int]


class AlarmLog:
    """A consumer that belongs to no group's assignment, so that a restart waits for nobody; its positions are committed
    for the lag to be seen, and for an operator to reset them."""

    def __init__(self, address: str) -> None:
        self._consumer = Consumer(
            {
                **connection(address),
                "group.id": NOTIFY_GROUP,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",  # events have ids, nothing is told twice
                "fetch.wait.max.ms": 100,
            }
        )
        self._admin = AdminClient(connection(address))
        self._parts: frozenset[int] = frozenset()
        self._ended: set[int] = set()
        self._retry_at = 0.0
        self._untold: dict[int, int] = {}

    @property
    def read_to_end(self) -> bool:
        """Whether the end of every partition has been met once."""
        return bool(self._parts) and self._ended >= self._parts

    def open(self, positions: Callable[[str], Mapping[int, int]], *, now_s: float) -> bool:
        """Finds the partitions, if they are not found yet; whether they are. Blocks for some seconds at most.

        `positions` knows where to begin in the topic of an id: one that was made again has another.
        """
        if self._parts or 0 < self._retry_at - now_s <= RETRY_S:  # more: the clock was set back
            return bool(self._parts)
        self._retry_at = now_s + RETRY_S
        try:
            topic = self._consumer.list_topics(ALARMS, timeout=ANSWER_S).topics[ALARMS]
            if topic.error is not None or not topic.partitions:
                return False
            known = committed(self._consumer, [TopicPartition(ALARMS, part) for part in topic.partitions])
            told = self._admin.describe_topics(TopicCollection([ALARMS]), request_timeout=ANSWER_S)[ALARMS]
            topic_id = str(told.result(ANSWER_S).topic_id)
        except KafkaException as error:
            log.info("broker_away", detail=error.args[0].str())
            return False
        except TimeoutError:
            log.info("broker_away", detail=f"no answer about {ALARMS} for {ANSWER_S:g} s")
            return False
        ours = positions(topic_id)
        starts = []
        for at in known:
            by_operator = at.offset >= 0 and mark_of(at.metadata) is None
            offset = at.offset if by_operator else ours.get(at.partition, 0)
            starts.append(TopicPartition(ALARMS, at.partition, offset))
        self._consumer.assign(starts)
        self._parts = frozenset(topic.partitions)
        return True

    def read(self, timeout_s: float) -> Read:
        """What has come, waiting up to `timeout_s` for the first."""
        events, positions = [], {}
        for message in self._consumer.consume(RECORDS_MAX, timeout_s) if self._parts else ():
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._ended.add(message.partition())
                else:
                    log.info("kafka", detail=error.str())
                continue
            positions[message.partition()] = message.offset() + 1
            if message.value() is None:
                continue
            try:
                events.append(read_alarm(message.value()))
            except Unreadable as trouble:
                log.warning("no_alarm", part=message.partition(), offset=message.offset(), detail=str(trouble))
        return Read(events, positions)

    def commit(self, positions: Mapping[int, int]) -> None:
        """Tells Kafka how far we are; waits for nothing."""
        self._untold |= positions
        if not self._untold:
            return
        offsets = [TopicPartition(ALARMS, part, offset, OUR_MARK) for part, offset in self._untold.items()]
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.info("not_committed", detail=error.args[0].str())
        else:
            self._untold = {}

    def close(self) -> None:
        self._consumer.close()
