"""Every kind of rule, as time lines: what raises it, what clears it, what it does not judge."""

from typing import Any

import numpy as np
import pytest
from alarm_lines import HOT, Line, line_of, rule, states
from core_examples import START_US, US, instant, make_device, make_sensor
from pydantic import ValidationError

from schemas.devices import Station
from schemas.records import SourceState
from streams.alarms.rules import rules_of

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


@pytest.mark.parametrize("facts", [{"kind": "below", "limit": 11.5}, {"kind": "rate", "limit": 2.0}])
def test_a_channel_in_frames_of_its_own_is_judged_while_another_waits_for_its_verdict(facts: dict[str, Any]) -> None:
    spiky = make_sensor("speed", limits={"spike": {"suspect": 5.0}})
    line = Line(make_device(spiky, make_sensor("volts", alarm_rules=[rule(name="low", **facts)])))
    assert line.frame([0, 1], [7, 7], channels=("speed",)) == []
    assert states(line.frame([0, 1, 2], [14, 14, 11], channels=("volts",))) == ["raised"]


def test_rate_counts_over_frames_and_not_over_missing_readings() -> None:
    line = line_of({"name": "jump", "kind": "rate", "limit": 5.0})
    assert line.frame([0, 1], [10, 14]) == []
    (raised,) = line.frame([2], [20])
    assert (raised.value, raised.unit) == (6.0, "m/s/s")
    assert states(line.frame([3, 4], [np.nan, 90])) == []
    assert states(line.frame([5], [90])) == ["cleared"]


def test_a_change_between_absurd_numbers_raises_and_warns_nobody() -> None:
    line = line_of({"name": "jump", "kind": "rate", "limit": 5.0})
    assert states(line.frame([0, 1], [1e308, -1e308])) == ["raised"]


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
