"""Replays by resetting the stage's offsets. Knows the group and the broker; what a replay means is the stage's.

An offset is set without our mark, as Kafka's own tool sets it, and that is the whole message: the stage finds it and
begins a new generation. The broker refuses while workers are in the group, so nothing is reset under their feet.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from infra.client import connection, reader
from infra.offsets import ANSWER_S_MAX, committed, listed, mark_of, span
from infra.whole_topic import partition_to_end, read_to_end
from schemas.errors import Refused, Unavailable
from schemas.keys import partition_of
from schemas.topics import DEVICES, READINGS_RAW, STREAMS_GROUP

GROUP = "telltale-replay"
"""A name alone: nothing is committed by it."""
READ_S_MAX = 600.0
"""For a whole partition of readings, in which one device is looked for: below, a large one is not looked through to its
end, and above a person has gone."""
EMPTY_S_MAX = 30.0
"""A worker that is asked to end finishes its transaction first; one that was killed is missed after its session."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where the stage stands on one partition of readings.raw."""

    partition: int
    offset: int | None  # None: nothing committed yet
    end: int
    generation: int | None  # None: an operator has reset it, and no worker has found it yet


@dataclass(frozen=True, slots=True)
class Move:
    """One partition's reset."""

    partition: int
    former: int | None
    offset: int
    records: int  # that will be read again


def positions(kafka: str) -> list[Position]:
    """Where the stage stands. Raises `Unavailable`."""
    consumer = Consumer(reader(kafka, group=STREAMS_GROUP))
    try:
        partitions = _partitions(consumer)
        wanted = [TopicPartition(READINGS_RAW, number) for number in partitions]
        found = []
        for at in committed(consumer, wanted):
            _, end = span(consumer, READINGS_RAW, at.partition)
            mark = mark_of(at.metadata)
            offset = at.offset if at.offset >= 0 else None
            found.append(Position(at.partition, offset, end, mark.generation if mark else None))
        return found
    except KafkaException as error:
        raise Unavailable(f"kafka at {kafka} does not answer: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _partitions(consumer: Consumer) -> list[int]:
    topic = consumer.list_topics(READINGS_RAW, timeout=ANSWER_S_MAX).topics[READINGS_RAW]
    if topic.error is not None:
        raise Refused(f"the broker has no topic {READINGS_RAW}; make it with: telltale topics provision")
    return sorted(topic.partitions)


def plan(
    kafka: str, *, since: datetime | None, device_id: str | None, looks: Callable[[str], None] = lambda _: None
) -> list[Move]:
    """The resets that read again all that the broker took from `since` on (None: all that it still has).

    With a device only its partition moves; the other devices of that partition are computed again too, to the same
    results. Raises `Refused` for a device that neither is configured nor has readings there, for which a whole
    partition is read; `looks` is told so before.
    """
    standing = positions(kafka)
    if device_id is not None:
        standing = [at for at in standing if at.partition == partition_of(device_id, len(standing))]
    spec = OffsetSpec.earliest() if since is None else OffsetSpec.for_timestamp(int(since.timestamp() * 1000))
    wanted = {TopicPartition(READINGS_RAW, at.partition): spec for at in standing}
    try:
        admin = AdminClient(connection(kafka))  # by name: a client that is let go of never answers
        starts = {number: found.offset for (_, number), found in listed(admin, wanted).items()}
    except KafkaException as error:
        raise Unavailable(f"kafka at {kafka} does not answer: {error.args[0].str()}") from None
    if device_id is not None and not _is_configured(kafka, device_id):
        (at,) = standing
        where = f"{READINGS_RAW}/{at.partition}"
        looks(f"no device {device_id} is configured: looking for readings of it in {where}")
        if starts[at.partition] < 0 or not _has_readings(kafka, device_id, at.partition, starts[at.partition]):
            raise Refused(
                f"--device: expected a device that is configured, or has readings to read again in {where}, got "
                f'"{device_id}"; those that are configured: telltale stations show'
            )
    moves = []
    for at in standing:
        start = starts[at.partition]
        again = 0 <= start < at.end and (at.offset is None or start < at.offset)
        # From the beginning also where nothing is left to read: who has lost a state may only so go on without it.
        if again or (since is None and at.offset is not None):
            moves.append(Move(at.partition, at.offset, start, (at.offset or at.end) - start if again else 0))
    return moves


def _is_configured(kafka: str, device_id: str) -> bool:
    found = False
    for message in read_to_end(kafka, DEVICES, group=GROUP):
        if message.key() == device_id.encode():
            found = message.value() is not None
    return found


def _has_readings(kafka: str, device_id: str, partition: int, since: int) -> bool:
    """Whether a record of the device stands at or behind an offset: as of one that was removed, or is not yet known."""
    consumer = Consumer(reader(kafka, group=GROUP))
    try:
        records = partition_to_end(consumer, READINGS_RAW, partition, since=since, read_s=READ_S_MAX)
        return any(message.key() == device_id.encode() for message in records)
    finally:
        consumer.close()


def reset(kafka: str, moves: list[Move], *, between: Callable[[], None]) -> None:
    """Set the offsets. `between` is called before each try: the place to ask workers to end.

    Raises `Refused` if workers stay in the group.
    """
    admin = AdminClient(connection(kafka))
    wanted = [TopicPartition(READINGS_RAW, move.partition, move.offset) for move in moves]
    until = time.monotonic() + EMPTY_S_MAX
    while True:
        between()
        request = [ConsumerGroupTopicPartitions(STREAMS_GROUP, wanted)]
        (future,) = admin.alter_consumer_group_offsets(request, request_timeout=ANSWER_S_MAX).values()
        error = _refusal(future)
        if error is None:
            return
        if error.name() not in {"NON_EMPTY_GROUP", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS"}:
            raise Unavailable(f"offsets could not be reset: {error.str()}")
        if time.monotonic() > until:
            raise Refused(
                f"workers are still in the group {STREAMS_GROUP}; stop those that this stack does not run, "
                "then ask again"
            )
        time.sleep(0.05)


def _refusal(future: Any) -> KafkaError | None:
    """Why offsets were not set: the broker says it of the request, or of each partition in a request that it took."""
    try:
        told = future.result().topic_partitions
    except KafkaException as error:
        refusal: KafkaError = error.args[0]
        return refusal
    return next((tp.error for tp in told if tp.error is not None), None)
