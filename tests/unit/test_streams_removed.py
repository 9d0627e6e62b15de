"""Devices that are taken out of the configuration, and what becomes of their alarms; in seconds after START_US.

The devices' table and what has been told are the stage's own, fed by hand instead of by a broker.
"""

from datetime import timedelta
from typing import Any, cast

import pytest
from core_examples import START_US, US, instant, make_device

from infra.told_alarms import last
from schemas.alarms import STAGE, Alarm, AlarmEvent, AlarmState, alarm_event
from schemas.codec import Codec
from schemas.devices import Station
from streams.agents import devices, told
from streams.agents.devices import DeviceTable
from streams.agents.looks import Looks
from streams.agents.told import Told
from streams.pipeline import Outcome, hear
from streams.state import State


class Record:
    def __init__(self, key: str, value: bytes | None) -> None:
        self._key, self._value = key, value

    def key(self) -> bytes:
        return self._key.encode()

    def value(self) -> bytes | None:
        return self._value


class Unread:
    """A topic that nobody reads."""

    def __init__(self, *_: object, **__: object) -> None:
        pass


def failed(error: BaseException) -> None:
    raise error


class Stage:
    """One worker, whose devices stand at one station and are silent after a minute."""

    def __init__(self) -> None:
        self.codec = Codec()
        self.devices = DeviceTable("", cast(Any, None), self.codec, failed=failed)
        self.topic: list[AlarmEvent] = []
        self.states: dict[str, State] = {}
        self.begin()

    def begin(self) -> None:
        """A worker that has just started reads what was said, and takes the states over."""
        self.told = Told("", failed=failed)
        for event in self.topic:
            self.told._take(Record(event.data.alarm_id, event.model_dump_json().encode()))
        self.looks = Looks(0, 1, devices=self.devices, told=self.told)

    def configure(self, *names: str, at_s: float = -100, station: str = "hill") -> None:
        for name in names:
            facts: Any = {"configured_at": instant(START_US + round(at_s * US)), "silence_limit_s": 60}
            device = make_device(device_id=name, station=Station(station_id=station, name="Hill"), **facts)
            self.devices._take(Record(name, self.codec.encode(device)))
            assert self.devices.plan(name)

    def remove(self, *names: str) -> None:
        for name in names:
            self.devices._take(Record(name, None))

    def send(self, at_s: float, *names: str) -> None:
        for name in names:
            plan, outcome = self.devices.plan(name), Outcome()
            assert plan
            before = self.states.get(name) or State(name)
            self.states[name] = hear(before, START_US + round(at_s * US), plan, outcome)
            self._say(outcome.alarms, at_s)

    def look(self, at_s: float) -> list[Alarm]:
        """What is said, which all workers read before the next look."""
        now_us = START_US + round(at_s * US)
        self.looks.began(now_us, every_us=US)
        changed = self.looks.at_devices(self.states, now_us, generation=0)
        self.states.update({state.device_id: state for state, _ in changed})
        alarms = [alarm for _, outcome in changed for alarm in outcome.alarms]
        self._say(alarms, at_s)
        return alarms

    def look_through(self, from_s: int, to_s: int) -> list[Alarm]:
        return [alarm for second in range(from_s, to_s) for alarm in self.look(second)]

    def stands(self) -> set[tuple[str, str]]:
        """Sources and states of alarms, as everybody who reads the topic has them."""
        events = last(self.topic).values()
        return {(event.data.source, event.data.state.value) for event in events if event.data.state != "cleared"}

    def _say(self, alarms: list[Alarm], at_s: float) -> None:
        for alarm in alarms:
            time = instant(START_US) + timedelta(seconds=at_s)
            event = alarm_event(alarm, time=time, speaker=STAGE)
            self.topic.append(event)
            self.told._take(Record(alarm.alarm_id, event.model_dump_json().encode()))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    for module in (devices, told):
        monkeypatch.setattr(module, "Followed", Unread)
    monkeypatch.setattr(DeviceTable, "catch_up", lambda _: None)
    return Stage()


def silent(stage: Stage, *names: str) -> None:
    """All are heard for the last time, one second after the other, and their silence is told."""
    stage.configure(*names)
    for second, name in enumerate(names):
        stage.send(second, name)
    stage.look_through(0, 80)


def test_the_alarms_of_a_removed_device_end_and_say_why(stage: Stage) -> None:
    silent(stage, "a")
    assert stage.stands() == {("device/a", "raised")}
    stage.remove("a")
    (over,) = stage.look(80)
    assert (over.rule, over.state, over.reason, over.step) == ("device_silent", "cleared", "device_removed", 1)
    assert (over.device_id, over.station_id, over.severity) == ("a", "hill", "major")
    assert "a is no longer configured" in over.message
    assert stage.look_through(81, 300) == []


def test_a_device_whose_configuration_is_on_its_way_to_a_new_worker_is_not_removed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(stage, "a")
    stage.remove("a")  # the new worker has not read it yet
    monkeypatch.setattr(DeviceTable, "catch_up", lambda _: stage.configure("a"))
    stage.begin()
    assert stage.look_through(80, 100) == []
    assert stage.stands() == {("device/a", "raised")}


def acknowledge(stage: Stage, alarm: Alarm, at_s: float) -> None:
    stage._say([alarm.model_copy(update={"state": AlarmState.ACKNOWLEDGED, "step": alarm.step + 3})], at_s)


@pytest.mark.parametrize("lost", [False, True])
def test_also_if_the_device_was_removed_while_no_worker_was_there(stage: Stage, lost: bool) -> None:
    silent(stage, "a", "b")
    stage.remove("a")
    if lost:
        del stage.states["a"]
    acknowledge(stage, stage.topic[0].data, 80)
    stage.begin()
    ended = [alarm for alarm in stage.look_through(81, 90) if alarm.source == "device/a"]
    assert [(alarm.state, alarm.reason) for alarm in ended] == [("cleared", "device_removed")]
    assert ("device/a", "acknowledged") not in stage.stands()


def test_a_removed_device_that_is_configured_again_is_expected_from_then_on(stage: Stage) -> None:
    silent(stage, "a")
    stage.remove("a")
    stage.look(80)
    stage.configure("a", at_s=1000)
    assert stage.look_through(1000, 1061) == []
    (raised,) = stage.look(1061)
    assert (raised.onset, raised.step) == (instant(START_US + 1000 * US), 0)
    assert stage.stands() == {("device/a", "raised")}


def test_what_was_received_of_a_removed_device_is_still_known(stage: Stage) -> None:
    silent(stage, "a")
    stage.remove("a")
    before = stage.states["a"]
    stage.look(80)
    after = stage.states["a"]
    assert (after.received, after.readings_position, after.open) == (
        before.received,
        before.readings_position,
        before.open,
    )
    assert (after.heard_us, after.alarms.live.entries) == (0, {})


def station(alarms: list[Alarm]) -> list[tuple[str, int, str | None]]:
    return [(alarm.state.value, alarm.step, alarm.device_id) for alarm in alarms if alarm.rule == "station_silent"]


@pytest.mark.parametrize("gone", ["a", "c"])
def test_a_stations_alarm_stands_on_when_one_of_its_devices_is_removed(stage: Stage, gone: str) -> None:
    """The first device by id leads; the onset is that of the last that was heard."""
    silent(stage, "a", "b", "c")
    assert ("station/hill", "raised") in stage.stands()
    stage.remove(gone)
    said = stage.look_through(80, 100)
    left = sorted({"a", "b", "c"} - {gone})
    assert stage.stands() == {("station/hill", "raised"), *((f"device/{name}", "suppressed") for name in left)}
    assert not [alarm for alarm in said if alarm.rule == "device_silent" and alarm.state == "raised"]
    assert station(said) == ([("cleared", 1, "a"), ("raised", 2, "b")] if gone == "a" else [])
    stage.send(100, *left)
    stage.look(101)
    assert stage.stands() == set()


def test_a_stations_alarm_ends_with_the_last_but_one_of_its_devices(stage: Stage) -> None:
    silent(stage, "a", "b")
    stage.remove("a")
    stage.look_through(80, 100)
    assert stage.stands() == {("device/b", "raised")}


@pytest.mark.parametrize("moved", [True, False])
def test_a_stations_alarm_goes_over_to_whoever_leads_now(stage: Stage, moved: bool) -> None:
    silent(stage, "b", "c", "d")
    if moved:
        stage.configure("b", station="valley")
    else:
        stage.configure("a", at_s=0)  # configured before the others fell silent, and never heard
    said = stage.look_through(80, 100)
    assert station(said)[0] == ("cleared", 1, "b")
    assert station(said)[1:] == [("raised", 2, "c" if moved else "a")]
    assert ("station/hill", "raised") in stage.stands()
    assert ("device/d", "suppressed") in stage.stands()


def test_a_stations_alarm_that_is_found_again_after_its_end_goes_on(stage: Stage) -> None:
    silent(stage, "a", "b")
    stage.configure("c", at_s=80)
    stage.send(81, "c")
    stage.look_through(80, 90)
    assert ("station/hill", "raised") not in stage.stands()
    stage.remove("c")
    said = stage.look_through(90, 100)
    assert [step for _, step, _ in station(said)] == [2]
    assert ("station/hill", "raised") in stage.stands()


def test_a_new_worker_does_not_call_a_silent_station_heard(stage: Stage) -> None:
    silent(stage, "a", "b")
    stage.begin()
    assert station(stage.look_through(100, 130)) == []
    assert ("station/hill", "raised") in stage.stands()
