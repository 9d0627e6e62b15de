"""Makes the broker's topics agree with the catalogue, and says where they do not. Knows no producer or consumer."""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from infra.client import connection
from infra.offsets import ANSWER_S_MAX, ends
from schemas.errors import Refused, Unavailable
from schemas.topics import PARTITIONS, TOPICS, Topic

TIMEOUT_S = 30
"""For one request to a broker that has just answered. Creating the whole catalogue takes about a second on one slow
core."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which the broker's topic is not as the catalogue says."""

    topic: str
    what: str
    """`topic`, `partitions` or the name of a Kafka setting."""
    expected: str
    got: str

    def __str__(self) -> str:
        return f"topic {self.topic}: {self.what} expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as it is on the broker."""

    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Provisioned:
    created: tuple[str, ...]
    aligned: tuple[Difference, ...]
    """Settings that were brought in line."""
    differences: tuple[Difference, ...]
    """What is still different."""


def device_partitions(found: Mapping[str, Found], *, topics: Iterable[Topic]) -> int:
    """The count shared by topics keyed by device: what the broker has, by default what the catalogue says."""
    shared = [found[topic.name].partitions for topic in topics if topic.own_partitions is None and topic.name in found]
    return shared[0] if shared else PARTITIONS


def compare(found: Mapping[str, Found], *, topics: Iterable[Topic], partitions: int) -> list[Difference]:
    """Every difference, missing topics included. Pure."""
    differences = []
    for topic in topics:
        there = found.get(topic.name)
        if there is None:
            differences.append(Difference(topic.name, "topic", "present", "missing"))
            continue
        expected = topic.partitions(partitions)
        if there.partitions != expected:
            differences.append(Difference(topic.name, "partitions", str(expected), str(there.partitions)))
        for name, value in topic.config().items():
            got = there.config.get(name, "unset")
            if _listed(got) != _listed(value):
                differences.append(Difference(topic.name, name, value, got))
    return differences


def _listed(value: str) -> list[str]:
    """cleanup.policy is a list in no order."""
    return sorted(value.split(","))


def check(address: str, *, topics: Iterable[Topic] = tuple(TOPICS.values())) -> list[Difference]:
    """What differs on the broker at `address`; changes nothing. Raises `Unavailable`."""
    found = _found(_admin(address), topics, address)
    return compare(found, topics=topics, partitions=device_partitions(found, topics=topics))


def provision(
    address: str,
    *,
    topics: Iterable[Topic] = tuple(TOPICS.values()),
    partitions: int | None = None,
    align: bool = False,
) -> Provisioned:
    """Creates what is missing; with `align` also sets settings as the catalogue has them. Twice is as good as once.

    `partitions` is the count for topics keyed by device. Raises `Refused` if they exist with another count,
    `Unavailable` if the broker does not answer.
    """
    admin = _admin(address)
    found = _found(admin, topics, address)
    there = device_partitions(found, topics=topics)
    count = partitions or there
    _refuse_parting(found, topics, count)
    missing = [topic for topic in topics if topic.name not in found]
    _create(admin, missing, count, address)
    differences = [
        each for each in compare(found, topics=topics, partitions=count) if each.topic not in {t.name for t in missing}
    ]
    settings = [each for each in differences if each.what != "partitions"] if align else []
    _align(admin, settings, address)
    _await_settings(admin, settings, topics, address)
    return Provisioned(
        tuple(topic.name for topic in missing),
        tuple(settings),
        tuple(each for each in differences if each not in settings),
    )


def _refuse_parting(found: Mapping[str, Found], topics: Iterable[Topic], count: int) -> None:
    for topic in topics:
        there = found.get(topic.name)
        if topic.own_partitions is None and there and there.partitions != count:
            raise Refused(
                f"topic {topic.name} has {there.partitions} partitions, asked for {count}: topics keyed by device "
                "share one count for ever, as another would part devices from their state. To change it, provision a "
                "new cluster with that count, point the edges there and let this one run until all is stored"
            )


def _admin(address: str) -> Any:
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - only who provisions needs it

    return AdminClient(connection(address))


def _found(admin: Any, topics: Iterable[Topic], address: str) -> dict[str, Found]:
    from confluent_kafka import KafkaException  # noqa: PLC0415
    from confluent_kafka.admin import ConfigResource, ResourceType  # noqa: PLC0415

    try:
        there = admin.list_topics(timeout=ANSWER_S_MAX).topics
    except KafkaException as error:
        raise Unavailable(f"Kafka at {address} does not answer: {error.args[0].str()}") from error
    names = [topic.name for topic in topics if topic.name in there]
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    configs = _results(admin.describe_configs(resources, request_timeout=TIMEOUT_S), address)
    return {
        resource.name: Found(
            len(there[resource.name].partitions), {entry.name: entry.value for entry in settings.values()}
        )
        for resource, settings in configs.items()
    }


def _create(admin: Any, missing: list[Topic], count: int, address: str) -> None:
    from confluent_kafka.admin import NewTopic  # noqa: PLC0415

    if missing:
        # Replication as the broker's default.replication.factor says: 1 on one machine, 3 on a cluster.
        new = [NewTopic(topic.name, topic.partitions(count), config=topic.config()) for topic in missing]
        _results(
            admin.create_topics(new, operation_timeout=TIMEOUT_S, request_timeout=TIMEOUT_S),
            address,
            fine="TOPIC_ALREADY_EXISTS",
        )
        _await_leaders(admin, missing, count, address)


def _await_leaders(admin: Any, missing: list[Topic], count: int, address: str) -> None:
    """The controller answers before the broker has heard, and the broker tells of leaders before it has their logs. Of
    two batches that an idempotent producer sends meanwhile, the second may be the first one taken: the other never is.
    """
    from confluent_kafka import KafkaError, KafkaException, TopicPartition  # noqa: PLC0415

    places = [TopicPartition(topic.name, number) for topic in missing for number in range(topic.partitions(count))]
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            ends(admin, places, within_s=TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise Unavailable(f"Kafka at {address}: new topics have no leader yet: {error.args[0].str()}") from None
            time.sleep(0.05)
        else:
            return


def _align(admin: Any, differences: list[Difference], address: str) -> None:
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # noqa: PLC0415

    resources = []
    for name in dict.fromkeys(each.topic for each in differences):
        entries = [
            ConfigEntry(each.what, each.expected, incremental_operation=AlterConfigOpType.SET)
            for each in differences
            if each.topic == name
        ]
        resources.append(ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries))
    if resources:
        _results(admin.incremental_alter_configs(resources, request_timeout=TIMEOUT_S), address)


def _await_settings(admin: Any, settings: list[Difference], topics: Iterable[Topic], address: str) -> None:
    """As with new topics: the broker hears of a setting after the controller has answered."""
    deadline = time.monotonic() + TIMEOUT_S
    while settings and time.monotonic() < deadline:
        found = _found(admin, topics, address)
        if all(_listed(found[each.topic].config[each.what]) == _listed(each.expected) for each in settings):
            return
        time.sleep(0.05)


def _results(futures: Mapping[Any, Future[Any]], address: str, *, fine: str = "") -> dict[Any, Any]:
    """Waits for all; an error named `fine` (someone else was quicker) counts as done."""
    from confluent_kafka import KafkaException  # noqa: PLC0415

    results = {}
    for key, future in futures.items():
        try:
            results[key] = future.result(timeout=TIMEOUT_S + 5)
        except KafkaException as error:
            if error.args[0].name() != fine:
                raise Unavailable(f"Kafka at {address}: {key}: {error.args[0].str()}") from error
    return results
