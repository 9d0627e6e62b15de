"""The pipeline in detail, as the broker knows it: topics, groups, what waits and for how long. Knows the catalogue."""

import time
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from infra.client import connection, reader
from infra.offsets import ANSWER_S_MAX, listed
from infra.settle import STAGES, behind
from schemas.errors import Unavailable
from schemas.topics import TOPICS

AGE_S_MAX = 3.0
"""How long the oldest record that waits is looked for."""


@dataclass(slots=True)
class Lag:
    """What a group has left of a topic; `seconds` since the oldest of it was written, None: not known."""

    group: str
    topic: str
    records: int = 0
    partitions: int = 0
    seconds: float | None = None


@dataclass(slots=True)
class Pipeline:
    """What the broker says."""

    topics: list[dict[str, Any]] = field(default_factory=list)
    lags: list[Lag] = field(default_factory=list)
    workers: list[dict[str, Any]] = field(default_factory=list)
    brokers: list[str] = field(default_factory=list)
    cluster: str = ""


def look(kafka: str) -> Pipeline:
    """Asks the broker; takes a second or two. Raises `Unavailable`."""
    try:
        return _look(kafka)
    except KafkaException as error:
        raise Unavailable(f"Kafka at {kafka} does not answer: {error.args[0].str()}") from None
    except TimeoutError:
        raise Unavailable(f"Kafka at {kafka} did not answer within {ANSWER_S_MAX:.0f} s") from None


def _look(kafka: str) -> Pipeline:
    admin = AdminClient(connection(kafka))
    found = Pipeline()
    about = admin.list_topics(timeout=ANSWER_S_MAX)
    found.cluster = about.cluster_id or ""
    found.brokers = [f"{broker.host}:{broker.port}" for broker in about.brokers.values()]
    places = [
        TopicPartition(name, part) for name in TOPICS if name in about.topics for part in about.topics[name].partitions
    ]
    firsts = _offsets(admin, places, OffsetSpec.earliest())
    ends = _offsets(admin, places, OffsetSpec.latest())
    for name, topic in TOPICS.items():
        mine = [place for place in places if place.topic == name]
        keys = [(place.topic, place.partition) for place in mine]
        found.topics.append(
            {
                "name": name,
                "about": topic.about,
                "there": bool(mine),
                "partitions": len(mine),
                "records": sum(max(0, ends.get(key, 0) - firsts.get(key, 0)) for key in keys),
                "end": sum(ends.get(key, 0) for key in keys),
            }
        )
    for group, topics in STAGES.items():
        found.lags += _lags(kafka, group, topics)
        found.workers += _members(admin, group)
    return found


def _offsets(admin: AdminClient, places: list[TopicPartition], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    if not places:
        return {}
    found = listed(admin, dict.fromkeys(places, spec), level=IsolationLevel.READ_COMMITTED)
    return {place: each.offset for place, each in found.items()}


def _lags(kafka: str, group: str, topics: tuple[str, ...]) -> list[Lag]:
    found = {topic: Lag(group, topic) for topic in topics}
    left = behind(kafka, group, topics)
    for each in left:
        lag = found[each.topic]
        lag.records += each.end - each.position
        lag.partitions += 1
    ages = _ages(kafka, [TopicPartition(each.topic, each.partition, each.position) for each in left])
    for topic, age in ages.items():
        found[topic].seconds = age
    return list(found.values())


def _ages(kafka: str, positions: list[TopicPartition]) -> dict[str, float]:
    """Seconds since the oldest record from each position on was written, by topic."""
    ages: dict[str, float] = {}
    if not positions:
        return ages
    consumer = Consumer({**reader(kafka, group="telltale-dashboard"), "enable.partition.eof": False})
    try:
        consumer.assign(positions)
        waiting = {(place.topic, place.partition) for place in positions}
        until = time.monotonic() + AGE_S_MAX
        while waiting and time.monotonic() < until:
            message = consumer.poll(0.1)
            if message is None or message.error() is not None:
                continue
            at = message.topic(), message.partition()
            if at in waiting:
                waiting.discard(at)
                consumer.incremental_unassign([TopicPartition(*at)])
                age = max(0.0, time.time() - message.timestamp()[1] / 1000)
                ages[at[0]] = max(age, ages.get(at[0], 0.0))
    finally:
        consumer.close()
    return ages


def _members(admin: AdminClient, group: str) -> list[dict[str, Any]]:
    answers = admin.describe_consumer_groups([group], request_timeout=ANSWER_S_MAX)
    try:
        about = answers[group].result(ANSWER_S_MAX)
    except KafkaException:
        return []  # a group that never had a member
    return [
        {
            "group": group,
            "client": member.client_id,
            "host": member.host.lstrip("/"),
            "partitions": len(member.assignment.topic_partitions) if member.assignment else 0,
            "state": about.state.name.lower().replace("_", " "),
        }
        for member in about.members
    ]
