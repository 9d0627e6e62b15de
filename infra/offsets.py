"""Where logs end and what a group has committed, asked patiently; and the mark that our services leave beside that.

The first question about any group makes the broker create the topic that holds offsets; until that has a leader it
answers "not coordinator", which only means: ask again. So do its answers about ends for some seconds after a restart.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.topics import MARK

ANSWER_S_MAX = 10.0
"""A broker that takes longer for a question about offsets is not answering."""

NOT_READY = {"NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS"}


def committed(
    consumer: Consumer, wanted: Sequence[TopicPartition], *, within_s: float = ANSWER_S_MAX
) -> list[TopicPartition]:
    """The committed offsets (below 0: none) with their metadata, of the consumer's group. Raises `KafkaException`."""
    until = time.monotonic() + within_s
    while True:
        try:
            found: list[TopicPartition] = consumer.committed(list(wanted), timeout=within_s)
        except KafkaException as error:
            if error.args[0].name() not in NOT_READY or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return found


LEADER_IS_NEW = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._DESTROY_BROKER,  # the client's own word while it drops the one that led
}
"""How a question is answered until client and broker agree on who leads."""


def ends(
    admin: AdminClient,
    partitions: Iterable[TopicPartition],
    *,
    within_s: float = ANSWER_S_MAX,
    level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[tuple[str, int], int]:
    """Where each (topic, partition) ends for who reads by this level. Raises `KafkaException`."""
    wanted = {partition: OffsetSpec.latest() for partition in partitions}
    until = time.monotonic() + within_s
    while True:
        answers = admin.list_offsets(wanted, isolation_level=level, request_timeout=within_s)
        try:
            return {(tp.topic, tp.partition): future.result().offset for tp, future in answers.items()}
        except KafkaException as error:
            if error.args[0].code() not in LEADER_IS_NEW or time.monotonic() > until:
                raise
            time.sleep(0.2)


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
