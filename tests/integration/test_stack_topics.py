"""Topics on a real broker against the catalogue."""

from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.provision import Difference, check, provision
from schemas.errors import Refused, Unavailable
from schemas.topics import HEARTBEATS, TOPICS

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions() -> int:
    return 2


def test_provisioning_twice_changes_nothing(cluster: str) -> None:
    again = provision(cluster)
    assert (again.created, again.aligned, again.differences) == ((), (), ())


def test_a_changed_setting_is_told_and_brought_in_line_when_asked(cluster: str) -> None:
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, HEARTBEATS, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": cluster})
    admin.incremental_alter_configs([resource])[resource].result()
    told = Difference(HEARTBEATS, "retention.ms", TOPICS[HEARTBEATS].config()["retention.ms"], "1000")
    while not check(cluster):  # the broker hears of it after the controller has answered; the test's timeout bounds it
        pass
    assert provision(cluster).differences == (told,)
    assert provision(cluster, align=True).aligned == (told,)
    assert check(cluster) == []


def test_another_partition_count_is_refused_with_the_way_out(cluster: str) -> None:
    with pytest.raises(Refused, match=r"has 2 partitions, asked for 3.*part devices from their state.*new cluster"):
        provision(cluster, partitions=3)


@pytest.mark.parametrize("ask", [check, provision])
def test_a_broker_that_does_not_answer_is_told_soon(
    ask: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.provision.ANSWER_S_MAX", 1)
    monkeypatch.setattr("infra.provision.TIMEOUT_S", 3_600)  # for what comes after a first answer, and not before
    with pytest.raises(Unavailable, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        ask("127.0.0.1:1")
