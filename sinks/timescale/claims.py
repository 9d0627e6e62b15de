"""What Kafka says of the partitions that we are given: identities, where their logs begin, and whether an operator has
reset them. Knows the broker; knows no database."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from infra.offsets import committed, listed, mark_of
from schemas.errors import Unavailable
from sinks.timescale.batch import Part
from sinks.timescale.positions import Claim

LOOK_S = 5.0  # how late a topic that was made again is noticed; each look costs the broker less than a poll
ANSWER_S = 10.0  # above an election of a new leader; below it a slow broker would look dead


def claims(consumer: Consumer, admin: AdminClient, parts: Sequence[Part]) -> list[Claim]:
    """What is to be known before `parts` are opened. Raises `Unavailable`."""
    if not parts:
        return []
    wanted = [TopicPartition(*part) for part in parts]
    try:
        cluster = admin.describe_cluster(request_timeout=ANSWER_S).result(ANSWER_S)
        described = admin.describe_topics(TopicCollection(sorted({p.topic for p in parts})), request_timeout=ANSWER_S)
        topics = {name: str(future.result(ANSWER_S).topic_id) for name, future in described.items()}
        starts = listed(admin, {tp: OffsetSpec.earliest() for tp in wanted}, within_s=ANSWER_S)
        begin = {Part(*place): found.offset for place, found in starts.items()}
        stands = {Part(tp.topic, tp.partition): tp for tp in committed(consumer, wanted, within_s=ANSWER_S)}
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"broker: {error}") from None
    return [
        Claim(part, cluster.cluster_id, topics[part.topic], begin[part], _reset(stands.get(part))) for part in parts
    ]


def _reset(stands: TopicPartition | None) -> int | None:
    """The offset that an operator has set, or None."""
    if stands is None or stands.offset < 0 or mark_of(stands.metadata):
        return None
    return int(stands.offset)


class Identities:
    """Whether the topics are still those that were opened. Looks every `LOOK_S`, and waits only when asked to.

    A topic that was deleted and made again within a moment goes unnoticed by the group, and its new log, once it has
    outgrown the old position, would be read from the middle.
    """

    def __init__(self, admin: AdminClient) -> None:
        self._admin = admin
        self._known: dict[str, str] = {}
        self._asked: Mapping[str, Future[Any]] = {}
        self._next_look = 0.0

    def know(self, opened: Sequence[Claim]) -> None:
        """These are the topics from now on."""
        self._known, self._asked = {claim.part.topic: claim.topic_id for claim in opened}, {}

    def changed(self, now: float) -> list[str]:
        """Topics that a look, now or a while ago, found to be others."""
        if self._asked and all(future.done() for future in self._asked.values()):
            asked, self._asked = self._asked, {}
            return [topic for topic, future in asked.items() if self._is_other(topic, future)]
        if self._known and not self._asked and now >= self._next_look:
            self._next_look = now + LOOK_S
            self._asked = self._ask(sorted(self._known))
        return []

    def changed_now(self, topic: str) -> bool:
        """The same of one topic, waiting for the broker's answer."""
        future = self._ask([topic])[topic]
        try:
            future.result(ANSWER_S)
        except (KafkaException, TimeoutError):
            return False
        return self._is_other(topic, future)

    def _ask(self, topics: Sequence[str]) -> Mapping[str, Future[Any]]:
        answers: Mapping[str, Future[Any]] = self._admin.describe_topics(
            TopicCollection(topics), request_timeout=ANSWER_S
        )
        return answers

    def _is_other(self, topic: str, future: Future[Any]) -> bool:
        """One that is not there is the group's affair: it gives its partitions up."""
        if topic not in self._known or future.exception() is not None:
            return False
        return str(future.result().topic_id) != self._known[topic]
