"""What a consumer group has committed, asked patiently, and the mark that our services leave beside it.

The first question about any group makes the broker create the topic that holds offsets; until that has a leader it
answers "not coordinator", which only means: ask again.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition

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
