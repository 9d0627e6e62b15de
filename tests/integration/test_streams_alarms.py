"""Alarms over the real wire: from a reading to people and back, and what several partitions decide together."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from fix_services import Start, await_true
from fix_stage import START_US, US, Wire, make_device, make_frame

from infra.client import connection
from schemas.alarms import ActionAnswerEvent, AlarmEvent, read_action_or_answer
from schemas.devices import AlarmRule, Device, Sensor, Station
from schemas.frames import RawFrame
from schemas.keys import PARTITIONER, partition_of
from schemas.topics import ALARM_ACTIONS, READINGS_RAW

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions() -> int:
    return 3


HOT = AlarmRule.model_validate({"name": "hot", "kind": "above", "limit": 30.0})


def hot_device(device_id: str = "d0") -> Device:
    sensor = Sensor(
        channel="t", point="t", quantity="air_temperature", unit="deg_C", statistic="sum", alarm_rules=(HOT,)
    )
    return make_device(device_id, sensors=(sensor,))


class Thermometer:
    """A device of one channel that sends one value after another."""

    def __init__(self, wire: Wire, device_id: str = "d0") -> None:
        self._wire, self._device_id, self._sequence = wire, device_id, 0

    def read(self, value: float) -> None:
        at = np.array([START_US + self._sequence * US], np.int64)
        frame = RawFrame(self._device_id, "sp", self._sequence, at, ("t",), np.array([[value]]))
        self._sequence += 1
        self._wire.send(frame)


def telltale(kafka: str, *words: str) -> tuple[int, str]:
    """Exit code and output of a command."""
    command = [sys.executable, "-m", "infra.command", *words, "--kafka", kafka]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def states(events: list[AlarmEvent]) -> list[str]:
    return [event.data.state.value for event in events]


def answers(wire: Wire) -> list[ActionAnswerEvent]:
    values = [message.value() for message in wire.read(ALARM_ACTIONS) if message.value() != b"rubbish"]
    events = [read_action_or_answer(value) for value in values]
    return [event for event in events if isinstance(event, ActionAnswerEvent)]


def test_an_alarm_is_raised_in_seconds_acknowledged_by_command_and_cleared(wire: Wire, start: Start) -> None:
    wire.configure(hot_device())
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    sensor = Thermometer(wire)
    sensor.read(20)
    sensor.read(31)
    await_true(lambda: states(wire.alarms()) == ["raised"], what="raised")
    alarm = wire.alarms()[0].data
    assert (alarm.rule, alarm.source, alarm.value, alarm.limit) == ("hot", "device/d0/t", 31.0, 30.0)

    code, said = telltale(wire.kafka, "alarms", "acknowledge", alarm.alarm_id[:6], "--reason", "on my way", "--json")
    assert code == 0, said
    assert json.loads(said)["state"] == "acknowledged"
    code, said = telltale(wire.kafka, "alarms", "list", "--json")
    listed = json.loads(said)
    assert (code, listed["state"], listed["why"]) == (0, "acknowledged", "on my way")
    code, said = telltale(wire.kafka, "alarms", "acknowledge", alarm.alarm_id)
    assert (code, "already_acknowledged" in said) == (2, True)

    sensor.read(20)
    await_true(lambda: states(wire.alarms())[-1] == "cleared", what="cleared")
    assert states(wire.alarms()) == ["raised", "acknowledged", "cleared"]
    code, said = telltale(wire.kafka, "alarms", "acknowledge", alarm.alarm_id)
    assert (code, "not_active" in said) == (2, True)
    assert telltale(wire.kafka, "alarms", "acknowledge", "nonsense")[0] == 2


def test_a_shelved_alarm_keeps_quiet_over_a_restart(wire: Wire, start: Start) -> None:
    wire.configure(hot_device())
    worker = start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    sensor = Thermometer(wire)
    sensor.read(31)
    await_true(lambda: states(wire.alarms()) == ["raised"], what="raised")
    alarm_id = wire.alarms()[0].data.alarm_id
    code, said = telltale(wire.kafka, "alarms", "shelve", alarm_id, "--for", "8h")
    assert (code, "now shelved" in said) == (0, True)
    assert worker.stop() == 0
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    for value in (20, 31, 20, 31):
        sensor.read(value)
    code, said = telltale(wire.kafka, "alarms", "unshelve", alarm_id)  # behind the readings, in one partition's order
    assert (code, "now raised" in said) == (0, True), said
    assert states(wire.alarms()) == ["raised", "shelved", "raised"]
    assert {event.data.alarm_id for event in wire.alarms()} == {alarm_id}


def test_every_action_is_answered_and_what_is_none_is_rejected(wire: Wire, start: Start) -> None:
    wire.configure(hot_device())
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    producer = Producer({**connection(wire.kafka), "partitioner": PARTITIONER})
    for number, device_id in enumerate(("d0", "nobody")):
        event: dict[str, Any] = {
            "id": f"a{number}",
            "source": "test",
            "subject": "x",
            "time": datetime.now(UTC).isoformat(),
            "data": {"alarm_id": "x", "device_id": device_id, "action": "acknowledge", "who": "anna"},
        }
        producer.produce(ALARM_ACTIONS, key=device_id.encode(), value=json.dumps(event).encode())
    producer.produce(ALARM_ACTIONS, key=b"d0", value=b"rubbish")
    producer.flush(10)
    await_true(lambda: len(answers(wire)) == 2 and len(wire.rejected()) == 1, what="answered")
    assert {answer.data.action_id: answer.data.reason for answer in answers(wire)} == {
        "a0": "not_active",
        "a1": "not_configured",
    }
    assert {answer.type for answer in answers(wire)} == {"telltale.alarm.action_refused"}
    (refused,) = wire.rejected()
    assert (refused.topic, refused.reason) == (ALARM_ACTIONS, "unreadable_bad_value")


def test_a_silent_station_is_one_alarm_although_its_devices_live_in_several_partitions(
    wire: Wire, start: Start
) -> None:
    devices = [make_device(f"m{number}", silence_limit_s=3) for number in range(4)]
    assert len({partition_of(device.device_id, 3) for device in devices}) > 1
    lone = make_device("lone", silence_limit_s=3, station=Station(station_id="other", name="Other"))
    wire.configure(*devices, lone)
    workers = [start("streams", "run", TELLTALE_KAFKA=wire.kafka) for _ in range(2)]
    for worker in workers:
        worker.await_ready()
    await_true(lambda: {"station_silent", "device_silent"} <= raised(wire), what="station silent")
    time.sleep(6)  # no event is to come: the devices' alarms would have been released by now
    loud = [e.data.source for e in wire.alarms() if e.data.state == "raised"]
    assert sorted(loud) == ["device/lone", "station/mast"]
    covered = {e.data.source for e in wire.alarms() if e.data.state == "suppressed"}
    assert covered == {f"device/m{number}" for number in range(4)}

    wire.send(make_frame("m2", 0, first=0, rows=1))
    await_true(lambda: "station/mast" in cleared(wire), what="station heard")
    assert "device/m2" in cleared(wire)


def raised(wire: Wire) -> set[str]:
    return {event.data.rule for event in wire.alarms() if event.data.state == "raised"}


def cleared(wire: Wire) -> set[str]:
    return {event.data.source for event in wire.alarms() if event.data.state == "cleared"}


def test_a_stage_that_is_behind_says_so_and_calls_nobody_silent(wire: Wire) -> None:
    from confluent_kafka.admin import AdminClient

    from streams.agents.devices import DeviceTable
    from streams.agents.ownership import Ownership
    from streams.agents.told import Told

    failures: list[BaseException] = []
    table = DeviceTable(wire.kafka, AdminClient(connection(wire.kafka)), wire.codec, failed=failures.append)
    told = Told(wire.kafka, failed=failures.append)
    mine = next(name for name in (f"d{i}" for i in range(99)) if partition_of(name, 3) == 0)
    wire.configure(make_device(mine, silence_limit_s=2, configured_at=datetime(2020, 1, 1, tzinfo=UTC)))
    table.start()
    told.start()
    owned = Ownership(0, 3, kafka=wire.kafka, codec=wire.codec, devices=table, told=told)
    owned.open(transaction_timeout_s=20)
    for second in (0, 4, 5, 6, 7):  # a limit of five seconds
        owned.look_behind({READINGS_RAW: 10}, now_us=START_US + second * US, limit_us=5 * US)
        owned.look_for_silence({READINGS_RAW: 10}, now_us=START_US + second * US, look_every_us=US)
    await_true(lambda: told.standing("stage_behind", "streams/partition-0") is not None, what="told")
    owned.look_behind({READINGS_RAW: 0}, now_us=START_US + 9 * US, limit_us=5 * US)
    await_true(lambda: told.standing("stage_behind", "streams/partition-0") is None, what="untold")
    assert states(wire.alarms()) == ["raised", "cleared"]
    for second in (8, 9, 11):  # caught up, it listens and then judges
        owned.look_for_silence({}, now_us=START_US + second * US, look_every_us=US)
    assert [event.data.source for event in wire.alarms() if event.data.rule == "device_silent"] == [f"device/{mine}"]
    told.stop()
    table.stop()
    assert failures == []


def test_silence_is_still_judged_after_an_action(wire: Wire, start: Start) -> None:
    """The answer's transaction leaves a marker behind it, which is no record to wait for."""
    wire.configure(make_device("d0", silence_limit_s=2))
    wire.send(make_frame("d0", 0, first=0, rows=1))
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: len(wire.alarms()) == 1, what="silent")
    code, said = telltale(wire.kafka, "alarms", "acknowledge", wire.alarms()[0].data.alarm_id, "--reason", "seen")
    assert code == 0, said
    wire.send(make_frame("d0", 1, first=1, rows=1))

    def raised() -> int:
        return sum(event.data.state == "raised" and event.data.rule == "device_silent" for event in wire.alarms())

    await_true(lambda: raised() == 2, what="silent again")


def test_a_rule_set_by_command_counts_from_the_next_reading_on(wire: Wire, start: Start) -> None:
    wire.configure(hot_device())
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    sensor = Thermometer(wire)
    sensor.read(25)
    words = ("alarms", "rules", "set", "warm", "--kind", "above", "--limit", "20", "--all", "--json")
    code, said = telltale(wire.kafka, *words)
    assert (code, json.loads(said)["in_force"]) == (0, 1)

    def warm() -> list[str]:
        sensor.read(25)
        return [event.data.state.value for event in wire.alarms() if event.data.rule == "warm"]

    await_true(lambda: warm() == ["raised"], what="raised by the new rule")
    code, said = telltale(wire.kafka, "alarms", "rules", "remove", "warm", "--all")
    assert code == 0, said
    await_true(lambda: warm() == ["raised", "cleared"], what="cleared with its rule")
