"""The `devices` topic on a real broker: what is published is read back, the newest counts, a tombstone removes."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Consumer, Producer

from infra.command import telltale
from infra.offsets import span
from producers.stations.devices import publish, read_devices
from schemas.devices import AlarmRule, Device, Station
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
        assert span(consumer, DEVICES, partition_of("mast-7", 3))[1] == 1
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


def stations(cluster: str, *words: str) -> Result:
    return CliRunner().invoke(telltale, ["stations", *words, "--kafka", cluster])


def test_devices_that_are_gone_are_removed_by_name_and_can_be_brought_back(cluster: str, tmp_path: Path) -> None:
    hot = AlarmRule.model_validate({"name": "hot", "kind": "above", "limit": 40})
    at_hill = {"station": Station(station_id="hill", name="Hill", alarm_rules=(hot,))}
    publish(cluster, [device("a"), device("b").model_copy(update=at_hill), device("c")])
    before = read_devices(cluster)
    unknown = stations(cluster, "remove", "a", "x", "--yes")
    assert str(unknown.exception) == 'no device "x" is configured; there are: a, b, c'
    unasked = stations(cluster, "remove", "a")
    assert isinstance(unasked.exception, Refused)
    assert "say --yes" in str(unasked.exception)
    looked = stations(cluster, "remove", "b", "a", "--dry-run")
    assert (looked.exit_code, looked.stdout) == (0, "would remove b, a\n")
    assert "alarm rules of station hill go with the last device: hot" in looked.stderr
    assert read_devices(cluster) == before

    removed = stations(cluster, "remove", "a", "b", "a", "--yes", "--json")
    assert removed.exit_code == 0, removed.output
    assert set(read_devices(cluster)) == {"c"}
    again = stations(cluster, "remove", "a", "--yes")
    assert str(again.exception) == 'no device "a" is configured; there are: c'
    (tmp_path / "back.json").write_text(removed.stdout)
    assert stations(cluster, "import", str(tmp_path / "back.json")).exit_code == 0
    back = read_devices(cluster)
    assert set(back) == {"a", "b", "c"}
    assert back["b"].station.alarm_rules == (hot,)


def test_a_person_at_a_terminal_is_asked(cluster: str) -> None:
    publish(cluster, [device("a"), device("b")])
    command = [sys.executable, "-m", "infra.command", "stations", "remove", "a", "--kafka", cluster]
    for answer, code, left in (("\n", 2, {"a", "b"}), ("y\n", 0, {"b"})):
        ours, theirs = os.openpty()
        os.write(ours, answer.encode())  # the terminal keeps it until it is read
        done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, timeout=120, check=False)
        os.close(ours)
        os.close(theirs)
        assert (done.returncode, set(read_devices(cluster))) == (code, left), done.stderr
        assert "remove 1 device? [y/N]" in done.stderr
