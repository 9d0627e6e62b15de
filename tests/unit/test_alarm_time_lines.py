"""Every step of an alarm's life, as time lines: known causes, people, configuration, replays."""

import pytest
from alarm_lines import HOT, Line, line_of, rule, states
from core_examples import START_US, US, in_log, instant, make_device, make_frame, make_sensor

from schemas.alarms import Alarm
from schemas.limits import Limits, Spike
from streams.alarms.silence import StationView
from streams.pipeline import Outcome, threw

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
