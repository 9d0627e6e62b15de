"""Whether all that was produced is processed and stored. Knows topics and groups from the catalogue, and the broker.

A group's committed offset may stay below a topic's end although nothing is left: a transaction's marker takes an
offset and is no record. So where they differ, the log itself is asked whether a record lies between.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.client import reader
from infra.offsets import ANSWER_S_MAX, committed, span
from schemas.errors import Unavailable
from schemas.topics import ALARM_ACTIONS, HEARTBEATS, READINGS_RAW, SINK_GROUP, STREAMS_GROUP, TOPICS

STAGES: dict[str, tuple[str, ...]] = {
    STREAMS_GROUP: (READINGS_RAW, HEARTBEATS, ALARM_ACTIONS),
    SINK_GROUP: tuple(topic.name for topic in TOPICS.values() if "sink" in topic.read_by),
}
"""Consumer groups in the order in which data passes them, and what each reads."""


@dataclass(frozen=True, slots=True)
class Behind:
    """A partition on which a group has something left to do."""

    group: str
    topic: str
    partition: int
    position: int
    end: int
    waits_since: datetime | None = None
    """When the next record was written; None: not known."""


def behind(kafka: str, group: str, topics: Iterable[str]) -> list[Behind]:
    """Where the group has records left. Raises `Unavailable`."""
    consumer = Consumer(reader(kafka, group=group))
    try:
        return _behind(consumer, group, topics)
    except KafkaException as error:
        raise Unavailable(f"kafka at {kafka} does not answer: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _behind(consumer: Consumer, group: str, topics: Iterable[str]) -> list[Behind]:
    known = consumer.list_topics(timeout=ANSWER_S_MAX).topics
    wanted = [TopicPartition(name, number) for name in topics if name in known for number in known[name].partitions]
    doubtful = {}
    for found in committed(consumer, wanted):
        low, end = span(consumer, found.topic, found.partition)
        position = max(found.offset, low)
        if position < end:
            doubtful[found.topic, found.partition] = Behind(group, found.topic, found.partition, position, end)
    left = dict(doubtful)
    consumer.assign([TopicPartition(topic, number, b.position) for (topic, number), b in doubtful.items()])
    until = time.monotonic() + ANSWER_S_MAX
    while doubtful and time.monotonic() < until:
        message = consumer.poll(0.2)
        if message is None:
            continue
        at = message.topic(), message.partition()
        error = message.error()
        if error is None:
            doubtful.pop(at, None)  # a record: it stays in `left`
            left[at] = replace(left[at], waits_since=_stamp(message))
            consumer.incremental_unassign([TopicPartition(*at)])
        elif error.code() == KafkaError._PARTITION_EOF:
            doubtful.pop(at, None)
            left.pop(at, None)
        elif not error.retriable():
            raise KafkaException(error)
    return list(left.values())


def _stamp(message: Message) -> datetime | None:
    _, stamp_ms = message.timestamp()
    return datetime.fromtimestamp(stamp_ms / 1000, UTC) if stamp_ms > 0 else None


def settle(kafka: str, *, timeout_s: float, progress: Callable[[list[Behind]], None]) -> list[Behind]:
    """Wait until each group in turn has nothing left; what is left when time is up.

    `progress` is told what is left after each look.
    """
    until = time.monotonic() + timeout_s
    left: list[Behind] = []
    for group, topics in STAGES.items():
        while left := behind(kafka, group, topics):
            progress(left)
            if time.monotonic() >= until:
                return left
            time.sleep(min(0.2, max(0.0, until - time.monotonic())))
    return left
