"""Every kind of rule, and every step of the life cycle, as time lines with a manual clock (seconds after START_US)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from core_examples import START_US, US, in_log, instant, make_device, make_frame, make_sensor
from pydantic import ValidationError

from schemas.alarms import Action, ActionAnswer, Alarm, AlarmAction, AlarmActionEvent
from schemas.codec import Codec
from schemas.devices import AlarmRule, Device, Sensor, Station
from schemas.frames import DeviceState
from schemas.limits import Limits, Spike
from schemas.records import Heartbeat, SourceState
from streams.alarms.rules import rules_of
from streams.alarms.silence import StationView
from streams.pipeline import Outcome, advance, apply_action, hear_heartbeat, look, threw
from streams.plan import Plan, plan_of
from streams.state import State, from_record, to_record

CODEC = Codec()
HOT = {"name": "hot", "kind": "above", "limit": 30.0}


def rule(**facts: Any) -> AlarmRule:
    return AlarmRule.model_validate(facts)


@dataclass
class Line:
    """One device and its past."""

    device: Device
    state: State = field(default_factory=lambda: State("mast-7"))
    offset: int = 0
    sequence: int = 0
    generation: int = 0

    @property
    def plan(self) -> Plan:
        return plan_of(self.device)

    def frame(
        self,
        seconds: Sequence[float],
        values: Any = None,
        *,
        at_s: float | None = None,
        channels: tuple[str, ...] = ("a",),
        sequence: int | None = None,
    ) -> list[Alarm]:
        """Rows at `seconds`, taken by the broker at `at_s` (by default with the last row)."""
        number = self.sequence if sequence is None else sequence
        appended_us = START_US + round((seconds[-1] if at_s is None else at_s) * US)
        frame = make_frame(seconds, values, channels=channels, sequence=number)
        log = in_log([frame], first=self.offset, appended_us=appended_us)
        self.offset, self.sequence = self.offset + 1, number + 1
        self.state, outcome = advance(self.state, log, self.plan, generation=self.generation)
        self.restart()
        return outcome.alarms

    def look(self, at_s: float, *, station: StationView | None = None) -> list[Alarm]:
        self.state, outcome = look(
            self.state, self.plan, expected_us=START_US, now_us=START_US + round(at_s * US), station=station
        )
        self.restart()
        return outcome.alarms

    def beat(self, at_s: float, **facts: Any) -> list[Alarm]:
        counts = dict.fromkeys(("next_sequence", "depth", "depth_bytes", "accepted", "sent", "dropped", "refused"), 0)
        now = instant(START_US + round(at_s * US))
        said = {"spool_id": "spool", "version": "1", "free_disk_bytes": 1, **counts, **facts}
        beat = Heartbeat(device_id="mast-7", time=now, started=now, **said)
        outcome = Outcome()
        self.offset += 1
        self.state = hear_heartbeat(self.state, beat, self.offset, START_US + round(at_s * US), self.plan, outcome)
        return outcome.alarms

    def act(self, at_s: float, alarm_id: str, action: str, *, until_s: float | None = None) -> ActionAnswer:
        until = None if until_s is None else instant(START_US + round(until_s * US))
        data = AlarmAction(
            alarm_id=alarm_id, device_id="mast-7", action=Action(action), who="anna", why="looking", until=until
        )
        event = AlarmActionEvent(
            id=f"act{self.offset}", source="test", subject=alarm_id, time=datetime.now(UTC), data=data
        )
        self.outcome = Outcome()
        self.offset += 1
        self.state = apply_action(self.state, event, self.offset, START_US + round(at_s * US), self.plan, self.outcome)
        self.restart()
        (answer,) = self.outcome.answers
        return answer

    def restart(self) -> None:
        """A worker may end between any two steps."""
        self.state = from_record(CODEC.decode_frame(DeviceState, CODEC.encode(to_record(self.state))))

    def replay(self) -> None:
        self.generation += 1
        self.sequence = 0


def line_of(*rules: dict[str, Any], sensors: tuple[Sensor, ...] = (), **changes: Any) -> Line:
    """A device with these rules for its sensor `a`."""
    own = make_sensor("a", alarm_rules=[rule(**facts) for facts in rules], windows_s=changes.pop("windows_s", (600,)))
    return Line(make_device(own, *sensors, **changes))


def states(alarms: list[Alarm]) -> list[str]:
    return [alarm.state.value for alarm in alarms]


# values


def test_above_raises_beyond_the_limit_and_clears_behind_the_hysteresis() -> None:
    line = line_of({**HOT, "hysteresis": 2.0, "severity": "critical"})
    assert line.frame([0, 1], [29, 30]) == []
    (raised,) = line.frame([2, 3], [30.5, 29])
    assert (raised.state, raised.rule, raised.source) == ("raised", "hot", "device/mast-7/a")
    assert (raised.value, raised.limit, raised.unit, raised.severity) == (30.5, 30.0, "m/s", "critical")
    assert (raised.onset, raised.replayed) == (instant(START_US + 2 * US), False)
    assert line.frame([4], [28.1]) == []
    (cleared,) = line.frame([5], [28])
    assert (cleared.state, cleared.alarm_id, cleared.onset) == ("cleared", raised.alarm_id, raised.onset)


def test_below() -> None:
    line = line_of({"name": "low", "kind": "below", "limit": 11.5, "hysteresis": 0.5})
    assert states(line.frame([0, 1, 2, 3], [12, 11.4, 11.6, 12.1])) == ["raised", "cleared"]


def test_rate_counts_over_frames_and_not_over_missing_readings() -> None:
    line = line_of({"name": "jump", "kind": "rate", "limit": 5.0})
    assert line.frame([0, 1], [10, 14]) == []
    (raised,) = line.frame([2], [20])
    assert (raised.value, raised.unit) == (6.0, "m/s/s")
    assert states(line.frame([3, 4], [np.nan, 90])) == []
    assert states(line.frame([5], [90])) == ["cleared"]


def test_a_direction_turns_the_short_way() -> None:
    vane = make_sensor("v", quantity="wind_direction", alarm_rules=[rule(name="turn", kind="rate", limit=5.0)])
    line = Line(make_device(vane))
    assert line.frame([0, 1], [359, 2], channels=("v",)) == []


def test_on_delay_lets_a_short_excess_pass_and_off_delay_a_short_calm() -> None:
    line = line_of({**HOT, "on_delay_s": 10, "off_delay_s": 20})
    assert line.frame([0, 5, 9, 10], [40, 40, 40, 10]) == []
    assert line.frame([20, 29], [40, 40]) == []
    (raised,) = line.frame([30, 31], [40, 40])
    assert raised.onset == instant(START_US + 20 * US)
    assert line.frame([40, 50, 55], [10, 10, 40]) == []
    assert line.frame([60, 79], [10, 10]) == []
    assert states(line.frame([80], [10])) == ["cleared"]


def test_a_long_gap_in_the_data_is_no_delay_that_passed() -> None:
    line = line_of({**HOT, "on_delay_s": 10})
    assert line.frame([0], [40]) == line.frame([600], [10]) == []


def test_failed_missing_and_late_readings_are_not_judged() -> None:
    limits = {"gross_range": {"fail": [0, 50]}}
    line = Line(make_device(make_sensor("a", limits=limits, alarm_rules=[rule(**HOT)])))
    assert line.frame([0, 1, 2], [60, np.nan, 10]) == []
    assert line.frame([1.5], [40]) == []
    assert states(line.frame([3], [40])) == ["raised"]


def test_a_device_level_rule_is_for_all_sensors_it_means_and_the_nearest_of_a_name_counts() -> None:
    warm = make_sensor("t", quantity="air_temperature")
    quiet = make_sensor("b", alarm_rules=[rule(**HOT, enabled=False)])
    lax = make_sensor("c", alarm_rules=[rule(**{**HOT, "limit": 90.0})])
    device = make_device(
        make_sensor("a"), warm, quiet, lax,
        alarm_rules=[rule(**HOT, quantity="wind_speed")],
        station=Station(station_id="hill", name="Hill", alarm_rules=(rule(**{**HOT, "limit": 1.0}),)),
    )  # fmt: skip
    found = {bound.channel: bound.limit for bound in rules_of(device).values}
    assert found == {"a": 30.0, "c": 90.0}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"kind": "above"}, 'alarm rule "r" (above) needs a limit'),
        ({"kind": "rate", "limit": -1}, "limit must be above 0, got -1"),
        ({"kind": "quality_share", "limit": 50}, "must be in [0, 1), got 50"),
        ({"kind": "window_above", "limit": 1}, "needs a figure"),
        ({"kind": "above", "limit": 1, "window_s": 600}, "has no window_s"),
        ({"kind": "clock_skew", "limit": 1, "quantity": "wind_speed"}, "about the whole device"),
        ({"kind": "loud", "limit": 1}, "kind"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_what_is_wrong(facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as error:
        rule(name="r", **facts)
    assert said in str(error.value)


def test_rules_must_fit_their_sensor() -> None:
    with pytest.raises(ValidationError, match="belongs among the device's alarm_rules"):
        make_sensor(alarm_rules=[rule(name="s", kind="sequence_gap")])
    with pytest.raises(ValidationError, match="window_s = 60 is none of windows_s"):
        make_sensor(alarm_rules=[rule(name="q", kind="quality_share", limit=0.1, window_s=60)])
    with pytest.raises(ValidationError, match='"hot" stands 2 times'):
        make_sensor(alarm_rules=[rule(**HOT), rule(**HOT)])


# windows


def test_a_windows_figure() -> None:
    line = line_of(
        {"name": "calm", "kind": "window_below", "limit": 2.0, "window_s": 60, "figure": "mean"}, windows_s=(60,)
    )
    assert line.frame([0, 30], [1, 2]) == []
    (raised,) = line.frame([60, 90], [5, 5])
    assert (raised.value, raised.onset) == (1.5, instant(START_US + 60 * US))
    assert states(line.frame([120], [5])) == ["cleared"]


def test_completeness_of_a_window() -> None:
    facts = {"name": "thin", "kind": "window_below", "limit": 0.9, "window_s": 60, "figure": "completeness"}
    line = line_of(facts, windows_s=(60,))
    (raised,) = line.frame([0, 30, 60], [1, 1, 1])
    assert raised.value == pytest.approx(2 / 60, abs=1e-6)


def test_quality_share_of_a_window() -> None:
    limits = {"gross_range": {"fail": [0, 50]}}
    share = rule(name="bad", kind="quality_share", limit=0.5)
    line = Line(make_device(make_sensor("a", limits=limits, windows_s=(60,), alarm_rules=[share])))
    assert line.frame([0, 1, 60], [60, 5, 60]) == []
    (raised,) = line.frame([61, 62, 120], [60, 5, 5])
    assert raised.value == pytest.approx(2 / 3, abs=1e-6)
    assert raised.unit == "share"
    assert states(line.frame([180], [5])) == ["cleared"]


# the device


def test_sequence_gap_is_raised_after_its_delay_and_cleared_when_the_frames_come() -> None:
    line = Line(make_device(alarm_rules=[rule(name="sequence_gap", kind="sequence_gap", on_delay_s=60)]))
    line.frame([0])
    assert line.frame([1], sequence=4) == line.look(60) == []
    (raised,) = line.look(62)
    assert (raised.rule, raised.value, raised.unit) == ("sequence_gap", 3.0, "frames")
    assert states(line.frame([2], sequence=1)) == []
    line.frame([3], sequence=2)
    assert states(line.frame([4], sequence=3, at_s=70)) == ["cleared"]


def test_missing_frames_that_were_given_up_are_no_alarm_until_more_are_missing() -> None:
    line = Line(make_device(alarm_rules=[rule(name="sequence_gap", kind="sequence_gap")]))
    line.frame([0])
    (raised,) = line.frame([1], sequence=4)
    assert line.act(5, raised.alarm_id, "acknowledge").reason is None
    assert states(line.frame([6])) == ["cleared"]
    assert line.frame([7]) == line.look(8) == []
    assert states(line.frame([9], sequence=20)) == ["raised"]


def test_clock_skew_either_way() -> None:
    line = Line(make_device())
    assert line.beat(0, clock_offset_s=None) == line.beat(1, clock_offset_s=-60.0) == []
    (raised,) = line.beat(2, clock_offset_s=-61.0)
    assert (raised.rule, raised.value, raised.limit, raised.unit) == ("clock_skew", 61.0, 60.0, "s")
    assert line.beat(3, clock_offset_s=31.0) == []
    assert states(line.beat(4, clock_offset_s=1.0)) == ["cleared"]


def test_rejected_share() -> None:
    line = Line(make_device())
    assert line.frame([0, 1], [[1, 1], [1, 1]], channels=("a", "strange")) == []
    (raised,) = line.frame([20])
    assert (raised.rule, raised.value) == ("rejected_share", 0.5)
    assert line.frame([40]) == []
    assert line.look(89) == []
    assert states(line.look(90)) == ["cleared"]


def test_rejected_readings_of_a_device_that_then_stops_are_told_by_the_clock() -> None:
    line = Line(make_device())
    line.frame([0], channels=("strange",))
    assert line.look(5) == []
    assert states(line.look(10)) == ["raised"]


def test_spool_dropping() -> None:
    line = Line(make_device())
    assert line.beat(0, dropped=7) == line.beat(10, dropped=7) == []
    (raised,) = line.beat(20, dropped=7, refused=3)
    assert (raised.rule, raised.value, raised.unit) == ("spool_dropping", 3.0, "readings")
    assert line.beat(30, dropped=7, refused=3) == line.look(600) == []
    assert states(line.look(631)) == ["cleared"]
    assert line.beat(700, spool_id="new card") == []
    assert states(line.beat(710, spool_id="new card", dropped=1)) == ["raised"]


def test_one_device_id_on_two_machines_is_told_with_their_spools_until_one_is_alone() -> None:
    line = Line(make_device())
    assert [line.beat(at, spool_id="ab"[number % 2]) for number, at in enumerate((0, 7, 30))] == [[], [], []]
    (raised,) = line.beat(37, spool_id="b")
    assert (raised.rule, raised.source, raised.value, raised.limit) == ("duplicate_device", "device/mast-7", 2.0, 1.0)
    assert "is heard from 2 spools in turns (a, b)" in raised.message
    line.restart()
    assert line.beat(60, spool_id="a") == line.beat(90, spool_id="a") == line.beat(630, spool_id="a") == []
    assert states(line.beat(638, spool_id="a")) == ["cleared"]


def test_a_new_spool_and_an_old_one_that_is_put_back_are_one_machine() -> None:
    line = Line(make_device())
    turns = (
        ("card", (0, 30, 60)),
        ("new card", (75, 105, 135)),
        ("card", (200, 230)),
        ("set aside since", (240, 270)),
    )
    assert [line.beat(at, spool_id=spool) for spool, times in turns for at in times if not line.restart()] == [[]] * 10


def test_machines_in_turns_lose_what_each_has_lost() -> None:
    line = Line(make_device(alarm_rules=(rule(name="duplicate_device", kind="duplicate_device", enabled=False),)))
    assert [line.beat(10 * at, spool_id="ab"[at % 2], dropped=(3, 0)[at % 2]) for at in range(6)] == [[]] * 6
    assert states(line.beat(60, spool_id="a", dropped=4)) == ["raised"]


def test_a_damaged_spool_is_told_with_what_became_of_it() -> None:
    line = Line(make_device())
    said = "spool was damaged: 40 readings recovered, 2 lost"
    (raised,) = line.beat(0, recovered=said)
    assert raised.rule == "spool_damaged"
    assert said in raised.message
    assert line.beat(30, recovered=said) == []
    assert states(line.beat(60)) == ["cleared"]


def test_a_source_that_fails_is_told_with_its_reason() -> None:
    line = Line(make_device())
    well, ill = SourceState(name="a", state="running"), SourceState(name="b", state="failed", detail="no such file")
    assert line.beat(0, sources=(well,)) == []
    (raised,) = line.beat(30, sources=(well, ill))
    assert (raised.rule, raised.value, raised.unit) == ("source_failed", 1.0, "sources")
    assert "b: no such file" in raised.message
    assert states(line.beat(60, sources=(well,))) == ["cleared"]


def test_sensor_silence_while_its_device_is_heard() -> None:
    own = make_sensor("a", alarm_rules=[rule(name="sensor_silent", kind="sensor_silence", limit=60)])
    line = Line(make_device(own, make_sensor("b")))
    line.frame([0], [[1, 1]], channels=("a", "b"))
    line.frame([50], [[np.nan, 1]], channels=("a", "b"))
    assert line.look(60) == []
    (raised,) = line.look(61)
    assert (raised.source, raised.reason, raised.value) == ("device/mast-7/a", "silent", 61.0)
    assert states(line.frame([70], channels=("a",))) == ["cleared"]


# known causes


def test_a_silent_device_stands_for_its_silent_sensors() -> None:
    both = [make_sensor(c, alarm_rules=[rule(name="sensor_silent", kind="sensor_silence", limit=90)]) for c in "ab"]
    line = Line(make_device(*both, silence_limit_s=60))
    line.frame([0], [[1, 1]], channels=("a", "b"))
    assert states(line.look(61)) == ["raised"]
    covered = line.look(91)
    assert states(covered) == ["suppressed", "suppressed"]
    assert {alarm.reason for alarm in covered} == {"device_silent"}
    back = line.frame([100], [[1, 1]], channels=("a", "b"))
    assert sorted(states(back)) == ["cleared", "cleared", "cleared"]
    assert states(line.look(191)) == ["raised", "suppressed", "suppressed"]


def test_sensors_get_their_time_anew_when_their_device_is_heard_again() -> None:
    own = make_sensor("a", alarm_rules=[rule(name="sensor_silent", kind="sensor_silence", limit=90)])
    line = Line(make_device(own, silence_limit_s=60))
    line.frame([0])
    line.look(100)
    assert states(line.beat(110)) == ["cleared", "cleared"]
    assert line.look(120) == []


def test_a_silent_devices_alarm_is_held_back_while_its_station_may_be_silent() -> None:
    line = Line(make_device(silence_limit_s=60))
    line.frame([0])
    (held,) = line.look(61, station=StationView(silent=False))
    assert (held.state, held.reason) == ("suppressed", "station_may_be_silent")
    assert line.look(75, station=StationView(silent=False)) == []
    (raised,) = line.look(76, station=StationView(silent=False))
    assert (raised.state, raised.alarm_id) == ("raised", held.alarm_id)


def test_a_silent_station_stands_for_its_devices_until_it_is_heard() -> None:
    line = Line(make_device(silence_limit_s=60))
    line.frame([0])
    line.look(61, station=StationView(silent=False))
    assert line.look(500, station=StationView(silent=True)) == []
    heard = StationView(silent=False, cleared_us=START_US + 600 * US)
    assert line.look(601, station=heard) == []
    assert states(line.look(616, station=heard)) == ["raised"]
    assert states(line.look(700, station=StationView(silent=True))) == ["suppressed"]
    assert states(line.frame([701])) == ["cleared"]


def test_a_flood_is_one_alarm_for_those_that_follow() -> None:
    names = tuple(f"c{number:02}" for number in range(30))
    device = make_device(*(make_sensor(name, alarm_rules=[rule(**HOT)]) for name in names))
    line = Line(device)
    line.frame([0], [[10] * 30], channels=names)
    first = line.frame([1], [[40] * 10 + [10] * 20], channels=names)
    assert states(first) == ["raised"] * 11
    assert first[-1].rule == "alarm_flood"
    assert set(states(line.frame([2], [[40] * 30], channels=names))) == {"suppressed"}
    end = line.frame([3], [[10] * 30], channels=names)
    assert states(end) == ["cleared"] * 31


def test_chattering_becomes_one_alarm_that_ends_with_calm() -> None:
    line = line_of(HOT)
    alarms = [alarm for second in range(40) for alarm in line.frame([second], [40 if second % 2 else 10])]
    assert states(alarms) == ["raised", "cleared"] * 4 + ["raised"]
    assert alarms[-1].reason == "chattering"
    assert line.frame([40, 639], [10, 10]) == []
    assert states(line.frame([640], [10])) == ["cleared"]


# what people do


def test_acknowledge_then_clear() -> None:
    line = line_of(HOT)
    (raised,) = line.frame([0], [40])
    answer = line.act(1, raised.alarm_id, "acknowledge")
    assert (answer.reason, answer.state) == (None, "acknowledged")
    (told,) = line.outcome.alarms
    assert (told.state, told.who, told.why, told.step) == ("acknowledged", "anna", "looking", 1)
    assert line.act(2, raised.alarm_id, "acknowledge").reason == "already_acknowledged"
    assert states(line.frame([3], [10])) == ["cleared"]


def test_a_latched_alarm_waits_for_somebody() -> None:
    line = line_of({**HOT, "latched": True})
    (raised,) = line.frame([0], [40])
    assert states(line.frame([1], [10])) == ["latched"]
    assert states(line.frame([2], [40])) == ["raised"]
    assert states(line.frame([3], [10])) == ["latched"]
    assert line.act(4, raised.alarm_id, "acknowledge").state == "cleared"
    (again,) = line.frame([5], [40])
    assert again.alarm_id != raised.alarm_id


def test_a_shelved_alarm_is_quiet_and_told_again_when_its_time_is_over() -> None:
    line = line_of(HOT)
    (raised,) = line.frame([0], [40])
    assert line.act(1, raised.alarm_id, "shelve", until_s=100).state == "shelved"
    assert line.outcome.alarms[0].until == instant(START_US + 100 * US)
    assert line.frame([10], [10]) == line.frame([20], [40]) == line.look(99) == []
    (told,) = line.look(100)
    assert (told.state, told.reason, told.alarm_id) == ("raised", "shelf_over", raised.alarm_id)


def test_an_alarm_that_ended_on_the_shelf_is_cleared_when_it_is_taken_off() -> None:
    line = line_of(HOT)
    (raised,) = line.frame([0], [40])
    line.act(1, raised.alarm_id, "shelve", until_s=100)
    line.frame([10], [10])
    assert line.act(11, raised.alarm_id, "acknowledge").reason == "not_active"
    assert line.act(12, raised.alarm_id, "unshelve").state == "cleared"
    assert line.state.alarms.standing == ()


@pytest.mark.parametrize(
    ("action", "until_s", "reason"),
    [("shelve", None, "no_end"), ("shelve", -5, "end_is_past"), ("unshelve", None, "not_shelved")],
)
def test_an_action_that_does_not_fit_is_refused_with_its_reason(
    action: str, until_s: float | None, reason: str
) -> None:
    line = line_of(HOT)
    (raised,) = line.frame([0], [40])
    before = line.state.alarms
    assert line.act(1, raised.alarm_id, action, until_s=until_s).reason == reason
    assert (line.outcome.alarms, line.state.alarms) == ([], before)


def test_an_unknown_and_a_stale_action_are_answered() -> None:
    line = line_of(HOT)
    assert line.act(0, "no such", "acknowledge").reason == "not_active"
    (raised,) = line.frame([0], [40])
    line.frame([1], [10])
    assert line.act(2, raised.alarm_id, "acknowledge").reason == "not_active"


def test_a_comment_changes_nothing_but_the_history() -> None:
    line = line_of(HOT)
    (raised,) = line.frame([0], [40])
    assert line.act(1, raised.alarm_id, "comment").state == "raised"
    assert [(a.state, a.reason, a.why) for a in line.outcome.alarms] == [("raised", "comment", "looking")]


def test_an_action_is_applied_once() -> None:
    line = line_of(HOT)
    (raised,) = line.frame([0], [40])
    line.act(1, raised.alarm_id, "comment")
    line.offset -= 1
    with pytest.raises(ValueError, match="not enough values"):
        line.act(1, raised.alarm_id, "comment")


# configuration and replays


def test_an_alarm_of_a_rule_that_was_taken_away_ends() -> None:
    line = line_of(HOT)
    (raised,) = line.frame([0], [40])
    line.device = make_device(make_sensor("a"))
    (cleared,) = line.look(1)
    assert (cleared.state, cleared.reason, cleared.alarm_id) == ("cleared", "rule_removed", raised.alarm_id)


def test_a_replay_tells_everything_as_replayed_and_leaves_what_stands() -> None:
    line = line_of(HOT)
    past = [([0, 1], [10, 40]), ([2], [10]), ([3], [40])]
    first = [alarm for rows in past for alarm in line.frame(*rows)]
    assert states(first) == ["raised", "cleared", "raised"]
    line.act(4, first[-1].alarm_id, "acknowledge")
    line.replay()
    again = [alarm for rows in past for alarm in line.frame(*rows)]
    assert [(a.state, a.alarm_id, a.replayed) for a in again] == [(a.state, a.alarm_id, True) for a in first[:2]]
    (entry,) = line.state.alarms.standing
    assert (entry.phase, entry.alarm_id) == ("acknowledged", first[-1].alarm_id)
    (cleared,) = line.frame([5], [10])
    assert (cleared.state, cleared.replayed, cleared.alarm_id) == ("cleared", False, first[-1].alarm_id)


def test_replaying_twice_pages_nobody() -> None:
    line = line_of(HOT, {"name": "w", "kind": "window_above", "limit": 20, "window_s": 600, "figure": "mean"})
    past = [([t], [40 if (t // 300) % 3 else 10]) for t in range(0, 6000, 100)]
    told = [alarm for rows in past for alarm in line.frame(*rows)]
    assert told
    standing = line.state.alarms.live
    for _ in range(2):
        line.replay()
        assert all(alarm.replayed for rows in past for alarm in line.frame(*rows))
        assert line.state.alarms.live == standing


def test_what_a_replay_found_with_new_limits_is_told_when_it_still_is_so() -> None:
    line = line_of(HOT)
    line.frame([0, 1], [20, 25])
    line.device = make_device(make_sensor("a", alarm_rules=[rule(**{**HOT, "limit": 22.0})]))
    line.replay()
    assert [(a.state, a.replayed) for a in line.frame([0, 1], [20, 25])] == [("raised", True)]
    live = line.frame([2], [25])
    assert [(a.state, a.replayed) for a in live] == [("cleared", True), ("raised", False)]


def test_frames_that_throw_are_one_alarm_until_frames_have_passed_for_a_minute() -> None:
    line = Line(make_device())

    def throw(at_s: float) -> list[Alarm]:
        outcome = Outcome()
        (arrival,) = in_log([make_frame([at_s])], appended_us=START_US + round(at_s * US))
        line.state = threw(line.state, arrival, "IndexError, traceback 4fe2", line.plan, outcome, line.generation)
        line.restart()
        return outcome.alarms

    (alarm,) = throw(1)
    assert (alarm.rule, alarm.source, alarm.state) == ("frames_throw", "device/mast-7", "raised")
    assert "IndexError, traceback 4fe2" in alarm.message
    assert throw(2) == line.frame([3]) == throw(4) == line.frame([5]) == line.look(64) == []
    (over,) = line.look(65)
    assert (over.alarm_id, over.state) == (alarm.alarm_id, "cleared")


def test_a_spike_raises_no_alarm_on_values_however_it_is_cut() -> None:
    sensor = make_sensor(alarm_rules=[rule(**HOT)], limits=Limits(spike=Spike(fail=20)))
    for cut in ([[0], [1], [2], [3], [4]], [[0, 1], [2, 3, 4]], [[0, 1, 2, 3, 4]]):
        line, alarms = Line(make_device(sensor)), []
        for seconds in cut:
            alarms += line.frame(seconds, [(10, 90, 10, 35, 36)[second] for second in seconds])
        assert [(alarm.state, alarm.value) for alarm in alarms] == [("raised", 35.0)]
