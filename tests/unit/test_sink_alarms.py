"""The sink's own alarms, as a time line."""

from datetime import UTC, datetime, timedelta

from schemas.alarms import AlarmState, Severity, alarm_event
from sinks.timescale.alarms import Waits, log_lost, ours
from sinks.timescale.batch import Part

NOW = datetime(2020, 1, 1, tzinfo=UTC)


def waiting(waits, lasting_s):
    now = NOW + timedelta(seconds=lasting_s)
    return waits.waiting(lasting_s, why="database_away", detail="57P01 going down", now=now)


def test_short_wait_is_no_alarm():
    waits = Waits("sink-1", 60)
    assert [waiting(waits, second) for second in (0, 30, 59.9)] == [None] * 3
    assert waits.working() is None


def test_long_wait_is_raised_once_and_ends_as_the_same_alarm():
    waits = Waits("sink-1", 60)
    raised = waiting(waits, 61)
    assert waiting(waits, 300) is None
    over = waits.working()
    assert (raised.onset, raised.severity, raised.reason) == (NOW, Severity.MAJOR, "database_away")
    assert (over.alarm_id, over.state, over.step) == (raised.alarm_id, AlarmState.CLEARED, 1)
    assert waits.working() is None


def test_second_wait_is_another_alarm():
    waits = Waits("sink-1", 60)
    first, _ = waiting(waits, 61), waits.working()
    second = waits.waiting(61, why="database_away", detail="", now=NOW + timedelta(hours=1))
    assert second.alarm_id != first.alarm_id


def test_lost_log_is_the_same_alarm_until_somebody_moves_the_position():
    raised = [
        log_lost(Part("readings.clean", 3), generation=generation, now=now, detail="lost")
        for generation, now in ((0, NOW), (0, NOW + timedelta(hours=1)), (1, NOW))
    ]
    assert raised[0].alarm_id == raised[1].alarm_id != raised[2].alarm_id


def test_only_our_standing_alarms_are_looked_after():
    raised = log_lost(Part("readings.clean", 3), generation=0, now=NOW, detail="lost")
    told = [raised, raised.model_copy(update={"state": "cleared"}), raised.model_copy(update={"rule": "silence"})]
    assert [ours(alarm_event(alarm, time=NOW, speaker="sink")) for alarm in told] == [True, False, False]
