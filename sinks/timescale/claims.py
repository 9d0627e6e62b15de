"""What Kafka says of the partitions that we are given: identities, where their logs begin, and whether an operator has
reset them. Knows the broker; knows no database."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas.errors import Unavailable
from schemas.topics import MARK
from sinks.timescale.batch import Part
from sinks.timescale.positions import Claim

ANSWER_S = 10.0  # above an election of a new leader; below it a slow broker would look dead


def mark(generation: int) -> str:
    """The metadata of an offset that we commit."""
    return f"{MARK}/{generation}"


def is_marked(metadata: str | None) -> bool:
    """Whether an offset's metadata says that we have committed it."""
    return (metadata or "").startswith(f"{MARK}/")


def claims(consumer: Consumer, admin: AdminClient, parts: Sequence[Part]) -> list[Claim]:
    """What is to be known before `parts` are opened. Raises `Unavailable`."""
    if not parts:
        return []
    wanted = [TopicPartition(*part) for part in parts]
    try:
        cluster = admin.describe_cluster(request_timeout=ANSWER_S).result(ANSWER_S)
        described = admin.describe_topics(TopicCollection(sorted({p.topic for p in parts})), request_timeout=ANSWER_S)
        topics = {name: str(future.result(ANSWER_S).topic_id) for name, future in described.items()}
        starts = admin.list_offsets({tp: OffsetSpec.earliest() for tp in wanted}, request_timeout=ANSWER_S)
        begin = {Part(tp.topic, tp.partition): future.result(ANSWER_S).offset for tp, future in starts.items()}
        committed = {Part(tp.topic, tp.partition): tp for tp in consumer.committed(wanted, timeout=ANSWER_S)}
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"broker: {error}") from None
    return [
        Claim(part, cluster.cluster_id, topics[part.topic], begin[part], _reset(committed.get(part))) for part in parts
    ]


def _reset(committed: Any) -> int | None:
    """The offset that an operator has set, or None."""
    if committed is None or committed.offset < 0 or is_marked(committed.metadata):
        return None
    return int(committed.offset)
