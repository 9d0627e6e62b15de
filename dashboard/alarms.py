"""Alarm events as they come, for people and scripts. Knows the `alarms` topic; changes nothing.

A reader of its own: it joins no group, so that any number of people may tail at once.
"""

from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.client import reader
from infra.offsets import ANSWER_S_MAX, span
from schemas.alarms import AlarmEvent, read_alarm
from schemas.columnar import Unreadable
from schemas.errors import Unavailable
from schemas.topics import ALARMS

POLL_S = 0.2  # how long Ctrl-C may wait


def tail(kafka: str, *, from_beginning: bool, follow: bool) -> Iterator[AlarmEvent]:
    """Alarm events: the past ones in order of their time, then each as it comes. Raises `Unavailable`."""
    consumer = Consumer(reader(kafka, group="telltale-alarms-tail"))
    try:
        yield from _tail(consumer, from_beginning=from_beginning, follow=follow)
    except KafkaException as error:
        raise Unavailable(f"kafka at {kafka} does not answer: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _tail(consumer: Consumer, *, from_beginning: bool, follow: bool) -> Iterator[AlarmEvent]:
    topics = consumer.list_topics(ALARMS, timeout=ANSWER_S_MAX).topics
    if topics[ALARMS].error is not None:
        raise Unavailable(f"the broker has no topic {ALARMS}; make it with: telltale topics provision")
    starts = []
    for number in topics[ALARMS].partitions:
        low, end = span(consumer, ALARMS, number)
        starts.append(TopicPartition(ALARMS, number, low if from_beginning else end))
    consumer.assign(starts)
    past: list[AlarmEvent] = []
    unread = {tp.partition for tp in starts}
    while unread:
        for message in consumer.consume(1000, timeout=0.05):
            event = _event(message, unread)
            if event:
                past.append(event)
    yield from sorted(past, key=lambda event: event.time)
    while follow:
        message = consumer.poll(POLL_S)
        event = _event(message, unread) if message is not None else None
        if event:
            yield event


def _event(message: Message, unread: set[int]) -> AlarmEvent | None:
    """The event of a record; None for the end of a partition, a deleted key, and what is no alarm event."""
    error = message.error()
    if error is not None:
        if error.code() == KafkaError._PARTITION_EOF:
            unread.discard(message.partition())
        elif not error.retriable():
            raise KafkaException(error)
        return None
    if message.value() is None:
        return None
    try:
        return read_alarm(message.value())
    except Unreadable:  # somebody else's record: the next one matters more
        return None
