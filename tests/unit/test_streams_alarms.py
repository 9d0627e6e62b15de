"""Device silent, told as time lines with a manual clock (seconds after START_US)."""

from dataclasses import dataclass, field

import pytest
from core_examples import START_US, US, in_log, instant, make_device, make_frame

from schemas.alarms import Alarm
from schemas.codec import Codec
from schemas.devices import Device
from schemas.frames import DeviceState
from streams.pipeline import Outcome, advance, hear, look
from streams.plan import Plan, plan_of
from streams.state import State, from_record, to_record

CODEC = Codec()


@dataclass
class TimeLine:
    """One device, expected since START_US, with a limit of a minute."""

    device: Device = field(default_factory=lambda: make_device(silence_limit_s=60))
    state: State = field(default_factory=lambda: State("mast-7"))
    offset: int = 0

    @property
    def plan(self) -> Plan:
        return plan_of(self.device)

    def frame(self, at_s: float, *, generation: int = 0, offset: int | None = None) -> list[Alarm]:
        appended_us = START_US + round(at_s * US)
        place = self.offset if offset is None else offset
        log = in_log([make_frame([at_s], sequence=place)], first=place, appended_us=appended_us)
        self.offset = place + 1
        self.state, outcome = advance(self.state, log, self.plan, generation=generation)
        return outcome.alarms

    def heartbeat(self, at_s: float) -> list[Alarm]:
        outcome = Outcome()
        self.state = hear(self.state, START_US + round(at_s * US), self.plan, outcome)
        return outcome.alarms

    def look(self, at_s: float, *, expected_s: float = 0) -> list[Alarm]:
        now_us, expected_us = START_US + round(at_s * US), START_US + round(expected_s * US)
        self.state, outcome = look(self.state, self.plan, expected_us=expected_us, now_us=now_us)
        return outcome.alarms

    def restart(self) -> None:
        self.state = from_record(CODEC.decode_frame(DeviceState, CODEC.encode(to_record(self.state))))


@pytest.fixture
def line() -> TimeLine:
    return TimeLine()


def test_silence_is_raised_past_the_limit_and_once(line: TimeLine) -> None:
    assert line.frame(0) == line.look(59) == line.look(60) == []
    (alarm,) = line.look(60.000001)
    assert (alarm.rule, alarm.source, alarm.state, alarm.reason) == (
        "device_silent",
        "device/mast-7",
        "raised",
        "silent",
    )
    assert (alarm.onset, alarm.value, alarm.limit, alarm.unit) == (instant(START_US), 60.0, 60.0, "s")
    assert (alarm.device_id, alarm.station_id) == ("mast-7", "hill")
    assert line.look(61) == line.look(3600) == []


def test_a_heard_device_clears_it(line: TimeLine) -> None:
    line.frame(0)
    (raised,) = line.look(100)
    (cleared,) = line.frame(130)
    assert (cleared.alarm_id, cleared.state, cleared.reason, cleared.value) == (
        raised.alarm_id,
        "cleared",
        "heard_again",
        130.0,
    )
    assert cleared.onset == raised.onset
    assert line.state.alarms.standing == ()


def test_a_heartbeat_is_hearing_too(line: TimeLine) -> None:
    line.heartbeat(0)
    assert [a.state for a in line.look(61)] == ["raised"]
    assert [a.state for a in line.heartbeat(62)] == ["cleared"]


def test_after_a_clear_it_is_raised_only_for_a_new_silence(line: TimeLine) -> None:
    line.frame(0)
    (first,) = line.look(100)
    line.frame(130)
    assert line.look(131) == line.look(190) == []
    (second,) = line.look(191)
    assert second.alarm_id != first.alarm_id
    assert second.onset == instant(START_US + 130 * US)


def test_a_restarted_worker_remembers_it(line: TimeLine) -> None:
    line.frame(0)
    (raised,) = line.look(100)
    line.restart()
    assert line.look(200) == []
    (cleared,) = line.frame(210)
    assert cleared.alarm_id == raised.alarm_id


def test_a_worker_that_lost_its_memory_of_it_finds_the_same_alarm(line: TimeLine) -> None:
    line.frame(0)
    before = line.state
    (first,) = line.look(100)
    line.state = before  # its transaction was aborted
    (again,) = line.look(170)
    assert again.alarm_id == first.alarm_id


def test_a_device_never_heard_is_silent_since_it_was_expected(line: TimeLine) -> None:
    assert line.look(70, expected_s=10) == []
    (alarm,) = line.look(71, expected_s=10)
    assert alarm.onset == instant(START_US + 10 * US)
    assert [a.alarm_id for a in line.frame(80)] == [alarm.alarm_id]


@pytest.mark.parametrize("appended_s", [-5, 0])
def test_a_frame_from_before_the_silence_does_not_end_it(line: TimeLine, appended_s: float) -> None:
    """It lay in the log before the device was configured, and is read only now."""
    line.look(61)
    assert line.frame(appended_s) == []
    assert [a.state for a in line.frame(62)] == ["cleared"]


@pytest.mark.parametrize("at_s", [1, 1e6, 1e9])
def test_without_a_limit_silence_is_no_alarm(at_s: float) -> None:
    line = TimeLine(make_device())
    line.frame(0)
    assert line.look(at_s) == []


def test_a_raised_alarm_ends_although_the_limit_was_taken_away(line: TimeLine) -> None:
    line.frame(0)
    line.look(100)
    line.device = make_device()
    assert [a.state for a in line.frame(110)] == ["cleared"]


def test_data_read_again_are_not_hearing(line: TimeLine) -> None:
    line.frame(0)
    line.frame(10)
    (raised,) = line.look(100)
    assert line.frame(0, generation=1, offset=0) == line.frame(10, generation=1) == []
    assert [alarm.alarm_id for alarm in line.state.alarms.standing] == [raised.alarm_id]


def test_a_frame_that_is_refused_or_repeated_is_still_hearing(line: TimeLine) -> None:
    line.frame(0)
    line.look(100)
    again = in_log([make_frame([0], sequence=0)], first=1, appended_us=START_US + 120 * US)
    line.state, outcome = advance(line.state, again, line.plan, generation=0)
    assert (outcome.repeated, [a.state for a in outcome.alarms]) == (1, ["cleared"])


def test_a_brokers_clock_that_steps_back_does_not_unhear(line: TimeLine) -> None:
    line.frame(100)
    line.frame(50)
    assert line.look(155) == []


def test_other_alarms_stay_when_one_ends(line: TimeLine) -> None:
    line.frame(0)
    line.look(100)
    assert line.state.alarms.standing[0].source == "device/mast-7"
    assert line.look(101) == []
    assert len(line.state.alarms.standing) == 1
