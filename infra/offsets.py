"""What a consumer group has committed, asked patiently. Knows one question; the broker may not be ready for it.

The first question about any group makes the broker create the topic that holds offsets; until that has a leader it
answers "not coordinator", which only means: ask again.
"""

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

ANSWER_S_MAX = 10.0
"""A broker that takes longer for a question about offsets is not answering."""

NOT_READY = {"NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS"}


def committed(consumer: Consumer, wanted: Sequence[TopicPartition]) -> list[TopicPartition]:
    """The committed offsets (below 0: none) with their metadata, of the consumer's group. Raises `KafkaException`."""
    until = time.monotonic() + ANSWER_S_MAX
    while True:
        try:
            found: list[TopicPartition] = consumer.committed(list(wanted), timeout=ANSWER_S_MAX)
        except KafkaException as error:
            if error.args[0].name() not in NOT_READY or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return found
