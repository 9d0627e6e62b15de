"""Where logs end and what a group has committed, asked patiently; and the mark that our services leave beside that.

The first question about any group makes the broker create the topic that holds offsets; until that has a leader it
answers "not coordinator", which only means: ask again. So do its answers about ends for some seconds after a restart.
"""

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from schemas.topics import MARK

ANSWER_S_MAX = 10.0
"""A broker that takes longer for a question about offsets is not answering."""
AGAIN_S = 0.1

T = TypeVar("T")

COORDINATOR_IS_NEW = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
LEADER_IS_NEW = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._DESTROY_BROKER,  # the client's own word while it drops the one that led
}
"""How a question is answered until client and broker agree on who leads."""


def committed(
    consumer: Consumer, wanted: Sequence[TopicPartition], *, within_s: float = ANSWER_S_MAX
) -> list[TopicPartition]:
    """The committed offsets (below 0: none) with their metadata, of the consumer's group. Raises `KafkaException`."""
    return _asked(lambda: consumer.committed(list(wanted), timeout=within_s), COORDINATOR_IS_NEW, within_s)


def span(consumer: Consumer, topic: str, partition: int, *, within_s: float = ANSWER_S_MAX) -> tuple[int, int]:
    """First and next offset of a partition, for who reads as the consumer does. Raises `KafkaException`."""
    where = TopicPartition(topic, partition)
    passing = LEADER_IS_NEW | {KafkaError.UNKNOWN_TOPIC_OR_PART}  # one that was just made
    low, end = _asked(lambda: consumer.get_watermark_offsets(where, timeout=within_s, cached=False), passing, within_s)
    return int(low), int(end)


def at_time(
    consumer: Consumer, topic: str, partitions: Iterable[int], since_ms: int, *, within_s: float = ANSWER_S_MAX
) -> list[TopicPartition]:
    """Where to begin to read what the broker took from a time on (ms). Raises `KafkaException`."""
    wanted = [TopicPartition(topic, partition, since_ms) for partition in partitions]
    return _asked(lambda: consumer.offsets_for_times(wanted, timeout=within_s), LEADER_IS_NEW, within_s)


def listed(
    admin: AdminClient,
    wanted: Mapping[TopicPartition, OffsetSpec],
    *,
    within_s: float = ANSWER_S_MAX,
    level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[tuple[str, int], ListOffsetsResultInfo]:
    """What each (topic, partition) has at a place, for who reads by this level. Raises `KafkaException`."""

    def ask() -> dict[tuple[str, int], ListOffsetsResultInfo]:
        answers = admin.list_offsets(dict(wanted), isolation_level=level, request_timeout=within_s)
        return {(tp.topic, tp.partition): future.result() for tp, future in answers.items()}

    return _asked(ask, LEADER_IS_NEW | {KafkaError._NOENT}, within_s)  # _NOENT: no partition has a leader yet


def ends(
    admin: AdminClient,
    partitions: Iterable[TopicPartition],
    *,
    within_s: float = ANSWER_S_MAX,
    level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[tuple[str, int], int]:
    """Where each (topic, partition) ends for who reads by this level. Raises `KafkaException`."""
    wanted = {partition: OffsetSpec.latest() for partition in partitions}
    return {where: found.offset for where, found in listed(admin, wanted, within_s=within_s, level=level).items()}


def _asked(ask: Callable[[], T], passing: Container[int], within_s: float) -> T:
    """The answer, asked for again while it is one that passes."""
    until = time.monotonic() + within_s
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in passing or time.monotonic() > until:
                raise
            time.sleep(AGAIN_S)


@dataclass(frozen=True, slots=True)
class Mark:
    """What we write beside an offset that we commit; an offset without it was set by an operator."""

    generation: int
    devices: int | None = None  # of the stage: whose states `streams.state` holds since then; None: an older mark

    def __str__(self) -> str:
        return "/".join(map(str, (MARK, self.generation, *(() if self.devices is None else (self.devices,)))))


def mark_of(metadata: str | None) -> Mark | None:
    """The mark in a committed offset's metadata; None: there is none."""
    word, *numbers = (metadata or "").split("/")
    if word != MARK or not 1 <= len(numbers) <= 2 or not all(number.isdigit() for number in numbers):
        return None
    return Mark(*map(int, numbers))
