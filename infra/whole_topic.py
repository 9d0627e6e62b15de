"""A topic read once to its end, committed records only. Knows the broker; knows nothing of what records say.

Waits are bounded: a broker that does not answer is `Unavailable`, never a hang.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from infra.client import reader
from infra.offsets import at_time, span
from schemas.errors import Unavailable

ANSWER_S = 10.0
"""A broker at work answers within milliseconds, one that is just starting within some seconds. Shorter would call a
busy Raspberry Pi's broker dead, longer lets a person wait for nothing."""

READ_S = 60.0
"""The whole topic: a few thousand records of 10 kB each come within a second; a minute is a slow line."""


def read_to_end(
    kafka: str,
    topic: str,
    *,
    group: str,
    security: Mapping[str, Any] | None = None,
    answer_s: float | None = None,
    since_ms: int | None = None,
) -> Iterator[Any]:
    """Every message, or those since a time; of one partition in order. `group` is a name. Raises `Unavailable`."""
    consumer = Consumer({**reader(kafka, group=group), **(security or {})})
    try:
        left = set(partitions_of(consumer, kafka, topic, answer_s))
        consumer.assign(_beginnings(consumer, kafka, topic, left, since_ms))
        give_up = time.monotonic() + READ_S
        while left:
            remaining = give_up - time.monotonic()
            if remaining <= 0:
                raise Unavailable(f"kafka at {kafka}: topic {topic} not read to its end within {READ_S:.0f} s")
            # One at a time: asked for many, librdkafka would wait for all of them, at the end of the log too.
            message = consumer.poll(min(remaining, 1.0))
            if message is None:
                continue
            error = message.error()
            if error is None:
                yield message
            elif error.code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            elif error.fatal() or not error.retriable():
                raise Unavailable(f"kafka at {kafka}: {error.str()}")
    finally:
        consumer.close()


def partition_to_end(
    consumer: Consumer,
    topic: str,
    partition: int,
    *,
    since: int = 0,
    answer_s: float = ANSWER_S,
    read_s: float = READ_S,
) -> Iterator[Any]:
    """The messages of one partition at and behind an offset, by a consumer made as a `reader`. Raises `Unavailable`."""
    try:
        low, _ = span(consumer, topic, partition, within_s=answer_s)
    except KafkaException as error:
        raise Unavailable(f"{topic}/{partition}: {error.args[0].str()}") from None
    consumer.assign([TopicPartition(topic, partition, max(since, low))])
    until = time.monotonic() + read_s
    while time.monotonic() < until:
        for message in consumer.consume(10_000, timeout=0.1):
            trouble = message.error()
            if trouble is None:
                yield message
            elif trouble.code() == KafkaError._PARTITION_EOF:
                consumer.unassign()
                return
            elif trouble.fatal() or not trouble.retriable():
                raise Unavailable(f"{topic}/{partition} cannot be read: {trouble}")
    raise Unavailable(f"{topic}/{partition} was not read to its end in {read_s:g} s")


def _beginnings(
    consumer: Consumer, kafka: str, topic: str, partitions: set[int], since_ms: int | None
) -> list[TopicPartition]:
    if since_ms is None:
        return [TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions]
    try:
        return at_time(consumer, topic, partitions, since_ms)
    except KafkaException as error:
        raise Unavailable(f"kafka at {kafka}: {error.args[0].str()}") from None


def partitions_of(client: Any, kafka: str, topic: str, answer_s: float | None = None) -> list[int]:
    """A topic's partitions. Raises `Unavailable` when the broker does not answer or has no such topic."""
    try:
        topics = client.list_topics(timeout=answer_s or ANSWER_S).topics
    except KafkaException:
        raise Unavailable(f"kafka at {kafka} does not answer") from None
    if topic not in topics:
        raise Unavailable(f"kafka at {kafka} has no topic {topic}; `telltale topics provision` makes it")
    return list(topics[topic].partitions)
