"""The `devices` topic on a real broker: what is published is read back, the newest counts, a tombstone removes."""

import json
from datetime import UTC, datetime
from importlib.resources import files

import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.command import telltale
from producers.stations.devices import publish, read_devices
from schemas.devices import Device, Station
from schemas.errors import Refused
from schemas.keys import PARTITIONER, partition_of
from schemas.topics import DEVICES

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions() -> int:
    return 3


def device(device_id: str, name: str = "Mast") -> Device:
    return Device(
        device_id=device_id,
        name=name,
        station=Station(station_id="s", name="S"),
        sensors=(),
        configured_at=datetime(2026, 1, 1, tzinfo=UTC),
        configured_by="test",
    )


def produce(cluster: str, key: str, value: bytes | None, **settings: str) -> None:
    producer = Producer({"bootstrap.servers": cluster, "partitioner": PARTITIONER, **settings})
    if settings:
        producer.init_transactions(20)
        producer.begin_transaction()
    producer.produce(DEVICES, value, key)
    producer.flush(20)
    if settings:
        producer.abort_transaction(20)


def test_devices_come_back_as_they_were_published(cluster: str) -> None:
    assert read_devices(cluster) == {}
    assert publish(cluster, [device("a"), device("b"), device("c")]) == 3
    publish(cluster, [device("b", "renamed")])
    assert read_devices(cluster) == {"a": device("a"), "b": device("b", "renamed"), "c": device("c")}


def test_tombstone_removes_and_aborted_and_unreadable_records_do_not_count(cluster: str) -> None:
    publish(cluster, [device("a"), device("b"), device("c")])
    produce(cluster, "a", None)
    produce(cluster, "b", None, **{"transactional.id": "aborted"})
    produce(cluster, "c", b"\0\0\0\0\5nonsense")
    assert set(read_devices(cluster)) == {"b", "c"}


def test_device_lies_in_the_partition_of_its_key(cluster: str) -> None:
    publish(cluster, [device("mast-7")])
    consumer = Consumer({"bootstrap.servers": cluster, "group.id": "look"})
    try:
        place = TopicPartition(DEVICES, partition_of("mast-7", 3))
        assert consumer.get_watermark_offsets(place, timeout=10)[1] == 1
    finally:
        consumer.close()


def test_configuration_that_no_topic_takes_is_refused(cluster: str) -> None:
    with pytest.raises(Refused, match="its configuration has"):
        publish(cluster, [device("a").model_copy(update={"name": "x" * 5_000_000})])


def test_what_was_imported_is_shown(cluster: str) -> None:
    file = str(files("infra.demo") / "demo_mast.json")
    imported = CliRunner().invoke(telltale, ["stations", "import", file, "--kafka", cluster, "--json"])
    assert imported.exit_code == 0, imported.output
    shown = CliRunner().invoke(telltale, ["stations", "show", "demo-mast", "--kafka", cluster, "--json"])
    assert json.loads(shown.stdout) == json.loads(imported.stdout)["devices"][0]
    table = CliRunner().invoke(telltale, ["stations", "show", "--kafka", cluster])
    assert "Dir58mS" in table.output
    nobody = CliRunner().invoke(telltale, ["stations", "show", "nobody", "--kafka", cluster])
    assert str(nobody.exception) == 'no device "nobody" is configured; there are: demo-mast'
