"""Batches that librdkafka does not unpack: more than it takes (100 MB), or damaged. Knows the broker; decides nothing.

It says where such a batch begins, again and again, and never comes past it. Where the batch ends it does not say; but
from every offset inside it comes upon the same batch, so the end is found by halving.
"""

import time
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.offsets import span
from schemas.errors import Unavailable

ANSWER_S = 20.0
"""For one look: a megabyte over a slow line, and its unpacking."""


def end_of_batch(consumer: Consumer, topic: str, partition: int, begin: int) -> int:
    """The offset behind the batch that begins at `begin`. `consumer` tells ends of partitions, and is used for nothing
    else meanwhile. Raises `Unavailable`.
    """
    _, end = span(consumer, topic, partition, within_s=ANSWER_S)
    inside, step = begin, 1
    while inside + step < end and _is_inside(consumer, topic, partition, begin, inside + step):
        inside, step = inside + step, 2 * step
    behind = min(inside + step, end)
    while behind - inside > 1:
        middle = (inside + behind) // 2
        if _is_inside(consumer, topic, partition, begin, middle):
            inside = middle
        else:
            behind = middle
    return behind


def _is_inside(consumer: Consumer, topic: str, partition: int, begin: int, offset: int) -> bool:
    """Whether who reads from `offset` comes upon the batch that begins at `begin`."""
    consumer.assign([TopicPartition(topic, partition, offset)])
    until = time.monotonic() + ANSWER_S
    while time.monotonic() < until:
        message: Any = consumer.poll(1.0)
        error = None if message is None else message.error()
        if message is not None and error is None:
            return False
        if error is not None and error.code() == KafkaError._PARTITION_EOF:
            return False
        if error is not None and error.code() == KafkaError._BAD_COMPRESSION:
            return bool(message.offset() == begin)
        if error is not None and not error.retriable():
            raise Unavailable(f"{topic}[{partition}] at {offset} cannot be read: {error.str()}")
    raise Unavailable(f"{topic}[{partition}] at {offset} is not answered for {ANSWER_S:.0f} s")
