"""Looks at a partition by the wall clock, in seconds after START_US: who is silent, and who only could not be heard."""

from dataclasses import dataclass, field
from typing import Any, cast

from core_examples import START_US, US, instant, make_device

from schemas.alarms import Alarm, AlarmState
from schemas.devices import Device, Station
from streams.agents.devices import DeviceTable
from streams.agents.looks import Looks
from streams.agents.told import Told
from streams.pipeline import Outcome, hear
from streams.plan import Plan, plan_of
from streams.state import State

EVERY_US = US
FLEET = 40


@dataclass
class Fleet:
    """Devices of one partition, each at a station of its own, with a silence limit of a minute."""

    plans_: list[Plan] = field(default_factory=lambda: [plan_of(of_number(number)) for number in range(FLEET)])
    states: dict[str, State] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.looks = Looks(0, 1, devices=cast(DeviceTable, self), told=cast(Told, self))

    # what looks ask of the table and of the alarms told elsewhere

    complete: bool = True
    changes: int = 0

    def plans(self) -> list[Plan]:
        return self.plans_

    def plan(self, device_id: str) -> None:
        return None

    def catch_up(self) -> None:
        pass

    def station(self, station_id: str) -> tuple[Plan, ...]:
        return tuple(plan for plan in self.plans_ if plan.device.station.station_id == station_id)

    def standing(self, rule: str, source: str) -> None:
        return None

    def ended(self, rule: str, source: str) -> None:
        return None

    def cleared_us(self, rule: str, source: str) -> int:
        return 0

    told: dict[str, tuple[Alarm, ...]] = field(default_factory=dict)

    def devices(self) -> list[str]:
        return list(self.told)

    def of_device(self, device_id: str) -> tuple[Alarm, ...]:
        return self.told.get(device_id, ())

    # what happens

    def send(self, at_s: float, *, but: int = 0) -> None:
        """All devices are heard, except the first few."""
        for plan in self.plans_[but:]:
            name = plan.device.device_id
            before = self.states.get(name) or State(name)
            self.states[name] = hear(before, START_US + round(at_s * US), plan, Outcome())

    def look(self, at_s: float) -> list[Alarm]:
        now_us = START_US + round(at_s * US)
        self.looks.began(now_us, every_us=EVERY_US)
        changed = self.looks.at_devices(self.states, now_us, generation=0)
        self.states.update({state.device_id: state for state, _ in changed})
        return [alarm for _, outcome in changed for alarm in outcome.alarms]

    def look_all_through(self, from_s: int, to_s: int) -> list[Alarm]:
        return [alarm for second in range(from_s, to_s) for alarm in self.look(second)]

    def reopened(self) -> "Fleet":
        """Another worker has taken the partition over with its states."""
        return Fleet(self.plans_, self.states)


def of_number(number: int) -> Device:
    place = Station(station_id=f"s{number}", name=f"S{number}")
    facts: Any = {"silence_limit_s": 60, "station": place, "configured_at": instant(START_US - 10**10)}
    return make_device(device_id=f"m{number:02}", **facts)


def test_devices_that_stop_are_silent_after_their_limit() -> None:
    fleet = Fleet()
    assert fleet.look_all_through(-10, 0) == []
    fleet.send(0)
    assert fleet.look_all_through(0, 61) == []
    assert len(fleet.look(61)) == FLEET


def test_a_fleet_that_nobody_listened_to_is_not_called_silent() -> None:
    fleet = Fleet()
    fleet.send(0)
    later = fleet.reopened()  # the worker was down for a quarter of an hour
    assert later.look_all_through(900, 910) == []
    later.send(910, but=2)
    raised = later.look_all_through(910, 960)
    assert {alarm.source for alarm in raised} == {"device/m00", "device/m01"}  # these two really are silent
    assert {alarm.onset for alarm in raised} == {instant(START_US)}


def test_a_worker_that_was_frozen_listens_before_it_judges() -> None:
    fleet = Fleet()
    fleet.look_all_through(-10, 0)
    fleet.send(0)
    assert fleet.look_all_through(0, 10) == []
    assert fleet.look(300) == []  # the same worker, woken; or the broker, which could take nothing meanwhile
    fleet.send(301)
    assert fleet.look_all_through(301, 360) == []


def test_a_device_that_never_spoke_is_silent_from_its_configuration_on() -> None:
    fleet = Fleet()
    fleet.send(0, but=1)
    assert fleet.look_all_through(0, 15) == []
    (raised,) = fleet.look_all_through(15, 30)
    assert (raised.source, raised.onset) == ("device/m00", instant(START_US - 10**10))


def test_nobody_is_judged_before_all_devices_are_known() -> None:
    fleet = Fleet()
    fleet.complete = False
    assert fleet.look_all_through(-20, 120) == []
    fleet.complete = True
    assert len(fleet.look(120)) == FLEET


def test_an_alarm_that_a_lost_state_had_told_of_ends_and_one_that_is_found_again_goes_on() -> None:
    fleet = Fleet()
    fleet.send(0)
    raised = fleet.look_all_through(-10, 62)
    acknowledged = [alarm.model_copy(update={"state": AlarmState.ACKNOWLEDGED, "step": 3}) for alarm in raised]
    again = Fleet(fleet.plans_, told={f"m{number:02}": (alarm,) for number, alarm in enumerate(acknowledged)})
    again.send(0)  # what is read again: m00 is silent since then, the others were heard later
    again.send(50, but=1)
    first, *others = again.look_all_through(62, 79)
    assert (first.alarm_id, first.state, first.step) == (raised[0].alarm_id, AlarmState.RAISED, 0)
    lost = {(alarm.alarm_id, AlarmState.CLEARED, "state_lost", 4) for alarm in raised[1:]}
    assert {(alarm.alarm_id, alarm.state, alarm.reason, alarm.step) for alarm in others} == lost
    again.told = {"m00": tuple(acknowledged[:1])}
    assert again.look(79) == []
    assert [entry.step for entry in again.states["m00"].alarms.standing] == [4]


def test_an_alarm_that_has_just_ended_is_not_ended_again() -> None:
    fleet = Fleet()
    fleet.send(0)
    raised = fleet.look_all_through(-10, 62)
    fleet.send(62)  # all are cleared, which Told has not read yet
    fleet.told = {alarm.source.removeprefix("device/"): (alarm,) for alarm in raised}
    assert fleet.look(63) == []
    fleet.told = {}
    assert fleet.look_all_through(64, 80) == []
