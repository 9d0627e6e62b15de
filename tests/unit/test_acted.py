"""What people do about alarms of the pipeline itself."""

from datetime import UTC, datetime, timedelta

import pytest
from core_examples import make_device

from infra.acted import acted, shelf_over
from schemas.alarms import (
    SHELF_MAX,
    STAGE,
    Action,
    Alarm,
    AlarmAction,
    AlarmActionEvent,
    AlarmEvent,
    AlarmState,
    Severity,
    alarm_event,
    supersedes,
)
from streams.pipeline import Outcome, apply_action, hear, look
from streams.plan import plan_of
from streams.state import State

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


class AlarmLine:
    """The alarm of a device that is silent since NOW, as the stage has it."""

    def __init__(self) -> None:
        self.plan = plan_of(make_device(silence_limit_s=60))
        self.at_us, self.said = round(NOW.timestamp() * 1e6), None
        self.state = hear(State("mast-7"), self.at_us, self.plan, Outcome())
        self.pass_time(120)

    def act(self, action: str) -> AlarmState:
        facts = {"alarm_id": self.said.alarm_id, "device_id": "mast-7", "who": "ada", "action": action}
        data = AlarmAction(**facts, until=LATER if action == "shelve" else None)
        told = AlarmActionEvent(id="x", source="test", subject="x", time=NOW, data=data)
        place, outcome = self.state.actions_position + 1, Outcome()
        self.state = apply_action(self.state, told, place, self.at_us, self.plan, outcome)
        self.said = outcome.alarms[-1]
        return outcome.answers[0].state

    def pass_time(self, seconds: float) -> None:
        self.at_us += round(seconds * 1e6)
        self.state, outcome = look(self.state, self.plan, expected_us=0, now_us=self.at_us)
        self.said = outcome.alarms[-1]

    def shelf_is_over(self) -> AlarmState:
        self.pass_time((LATER - NOW).total_seconds())
        return self.said.state


def event(state=AlarmState.RAISED, *, speaker="watchdog", step=0, time=NOW, device_id=None, **facts):
    alarm = Alarm(
        alarm_id="a1",
        rule="database_down",
        source="database",
        device_id=device_id,
        station_id=None,
        severity=Severity.CRITICAL,
        state=state,
        reason="no_answer",
        onset=NOW,
        message="gone",
        step=step,
        **facts,
    )
    return alarm_event(alarm, time=time, speaker=speaker)


def act(before: AlarmEvent, action: str, *, until=None, now=NOW, reason="works", action_id="x1"):
    return acted(before, Action(action), action_id=action_id, who="ada", reason=reason, until=until, now=now)


@pytest.mark.parametrize(
    ("state", "action", "then"),
    [
        ("raised", "acknowledge", "acknowledged"),
        ("shelved", "acknowledge", "shelved"),
        ("raised", "shelve", "shelved"),
        ("acknowledged", "shelve", "shelved"),
        ("shelved", "shelve", "shelved"),
        ("shelved", "unshelve", "raised"),
        ("raised", "comment", "raised"),
        ("acknowledged", "comment", "acknowledged"),
    ],
)
def test_an_action_is_the_alarms_next_event_and_says_who_and_why(state: str, action: str, then: str) -> None:
    before = event(AlarmState(state), until=LATER if state == "shelved" else None)
    told, answer = act(before, action, until=LATER if action == "shelve" else None)
    assert told is not None
    assert (told.data.state, told.data.who, told.data.why) == (then, "ada", "works")
    assert (told.source, told.type, told.data.until) == (
        "telltale/watchdog",
        f"telltale.alarm.{then}",
        LATER if then == "shelved" else None,
    )
    assert (answer.reason, answer.state, answer.device_id) == (None, then, None)


@pytest.mark.parametrize(
    ("state", "action", "until", "reason"),
    [
        ("cleared", "acknowledge", None, "not_active"),
        ("cleared", "comment", None, "not_active"),
        ("acknowledged", "acknowledge", None, "already_acknowledged"),
        ("raised", "unshelve", None, "not_shelved"),
        ("raised", "shelve", None, "no_end"),
        ("raised", "shelve", NOW, "end_is_past"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_reason(state, action, until, reason) -> None:
    told, answer = act(event(AlarmState(state)), action, until=until)
    assert (told, answer.reason) == (None, reason)


def test_a_comment_leaves_the_end_of_the_shelf_and_a_shelf_ends_within_a_year() -> None:
    told, _ = act(event(AlarmState.SHELVED, until=LATER), "comment")
    assert told.data.until == LATER
    told, _ = act(event(), "shelve", until=NOW + 2 * SHELF_MAX)
    assert told.data.until == NOW + SHELF_MAX


def do(before: AlarmEvent, *actions: str) -> AlarmEvent:
    """One after another, each a minute later; shelves end at LATER."""
    for minute, action in enumerate(actions, 1):
        until = LATER if action == "shelve" else None
        told, _ = act(before, action, until=until, now=NOW + timedelta(minutes=minute), action_id=f"x{minute}")
        assert told is not None
        before = told
    return before


@pytest.mark.parametrize(
    ("actions", "under"),
    [
        (["shelve"], "raised"),
        (["acknowledge", "shelve"], "acknowledged"),
        (["shelve", "acknowledge"], "acknowledged"),
        (["acknowledge", "shelve", "shelve", "comment"], "acknowledged"),
        (["acknowledge", "shelve", "unshelve", "shelve"], "acknowledged"),
    ],
)
def test_what_is_taken_off_a_shelf_is_what_it_was_under_it_as_with_alarms_of_devices(actions, under) -> None:
    shelved = do(event(), *actions)
    over = shelf_over(shelved, LATER)
    assert (shelved.data.state, over.data.state, over.data.below, over.data.until) == ("shelved", under, None, None)
    assert do(shelved, "unshelve").data.state == under
    line = AlarmLine()
    assert [line.act(action) for action in actions][-1] == "shelved"
    assert line.said.below == under
    assert line.shelf_is_over() == under


def test_what_is_acknowledged_under_its_shelf_is_not_acknowledged_again() -> None:
    told, answer = act(do(event(), "acknowledge", "shelve"), "acknowledge")
    assert (told, answer.reason, answer.state) == (None, "already_acknowledged", "shelved")


def test_the_keepers_end_counts_whichever_is_read_first() -> None:
    raised = event()
    told, _ = act(raised, "acknowledge", now=LATER)
    over = event(AlarmState.CLEARED, step=raised.data.step + 1)
    assert supersedes(told, raised)
    assert supersedes(over, told)
    assert not supersedes(told, over)


def test_an_event_that_its_keeper_tells_again_undoes_nothing() -> None:
    raised = event()
    told, _ = act(raised, "shelve", until=LATER)
    assert not supersedes(raised, told)
    assert supersedes(told, told)


def test_the_same_alarm_can_be_acted_on_again_and_by_a_clock_that_is_behind() -> None:
    first, _ = act(event(time=LATER), "shelve", until=LATER + SHELF_MAX / 2)
    again, _ = act(first, "unshelve", action_id="x2")
    assert len({first.id, again.id, event().id}) == 3
    assert LATER < first.time < again.time < LATER + timedelta(seconds=1)


def test_a_shelf_ends_by_its_time_unless_the_stage_ends_it() -> None:
    shelved = event(AlarmState.SHELVED, until=LATER)
    assert shelf_over(shelved, NOW) is None
    over = shelf_over(shelved, LATER)
    assert (over.data.state, over.data.until, over.data.step) == ("raised", None, 0)
    assert over == shelf_over(shelved, LATER + timedelta(days=1))
    assert over.id != event().id
    done, _ = act(over, "acknowledge", now=LATER + timedelta(minutes=1))
    assert not supersedes(over, done)
    assert shelf_over(event(), LATER) is None
    assert shelf_over(event(AlarmState.SHELVED, until=LATER, speaker=STAGE, device_id="d1"), LATER) is None
    assert shelf_over(event(AlarmState.SHELVED, until=LATER, speaker=STAGE), LATER) is not None
