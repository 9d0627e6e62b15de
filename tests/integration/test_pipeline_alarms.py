"""What people do about alarms of the pipeline itself, over real topics: by command, beside their keeper, to the end of
a shelf."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from fix_services import await_true
from fix_sink import until

from dashboard import acting
from infra.kept_alarms import KeptAlarms
from infra.telling import tell_all
from infra.told_alarms import stands, told
from infra.watchdog import shelves as shelving
from infra.watchdog.shelves import Shelves
from schemas.alarms import Action, Severity

pytestmark = pytest.mark.integration

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)  # when no shelf had ended


class Keeper:
    """A service that says its backups fail."""

    def __init__(self, kafka, folder):
        self.kafka = kafka
        self.alarms = KeptAlarms(
            folder / "alarms.json",
            speaker="backup",
            tell=lambda events: tell_all(kafka, events, client_id="test", within_s=30),
        )

    def fails(self):
        facts = {"severity": Severity.MAJOR, "reason": "failed", "message": "no room"}
        event = self.alarms.raised("backup_failed", source="backup/telltale", now=datetime.now(UTC), **facts)
        assert self.alarms.ring()
        self.alarm_id = event.data.alarm_id
        return event

    def is_well(self):
        self.alarms.cleared("backup_failed", source="backup/telltale", now=datetime.now(UTC), message="made")
        assert self.alarms.ring()

    def states(self):
        """As they lie in the topic."""
        return [event.data.state.value for event in told(self.kafka, [self.alarm_id])]


@pytest.fixture
def keeper(cluster, tmp_path):
    return Keeper(cluster, tmp_path)


def telltale(kafka, *words):
    command = [sys.executable, "-m", "infra.command", "alarms", *words, "--kafka", kafka]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_a_services_alarm_is_acknowledged_by_command_without_a_stage_and_cleared_by_its_keeper(keeper) -> None:
    alarm_id = keeper.fails().data.alarm_id
    code, said = telltale(keeper.kafka, "acknowledge", alarm_id[:6], "--reason", "a disk is coming", "--json")
    assert (code, json.loads(said)["state"]) == (0, "acknowledged"), said
    listed = json.loads(telltale(keeper.kafka, "list", "--json")[1])
    assert (listed["state"], listed["why"]) == ("acknowledged", "a disk is coming")
    code, said = telltale(keeper.kafka, "acknowledge", alarm_id)
    assert (code, "already_acknowledged" in said) == (2, True)
    keeper.is_well()
    assert keeper.states() == ["raised", "acknowledged", "cleared"]
    code, said = telltale(keeper.kafka, "comment", alarm_id, "--reason", "late")
    assert (code, "not_active" in said) == (2, True)


def test_an_alarm_that_its_keeper_ends_while_somebody_acts_is_over_for_all_who_read(keeper, monkeypatch) -> None:
    event, tell, ended = keeper.fails(), acting.tell_all, []

    def slowly(kafka, events, **how):
        if not ended:
            ended.append(keeper.is_well())
        tell(kafka, events, **how)

    monkeypatch.setattr(acting, "tell_all", slowly)
    acting.act_on(keeper.kafka, event, Action.SHELVE, reason="", until=datetime.now(UTC) + timedelta(hours=1), who="a")
    assert keeper.states() == ["raised", "cleared", "shelved", "cleared"]
    assert acting.standing(keeper.kafka) == []


def read(shelves: Shelves) -> Shelves:
    """With all there is in the topic known."""
    newest = {alarm_id: event.id for alarm_id, event in acting.newest(shelves.kafka).items()}

    def knows() -> bool:
        shelves.look(LONG_AGO)
        return {alarm_id: event.id for alarm_id, event in shelves._last.items()} == newest

    await_true(knows, what="the topic is read")
    return shelves


def test_what_still_stands_when_its_shelf_ends_is_told_once_as_it_was_before(keeper, stored, start_sink) -> None:
    start_sink().working()
    event, now = keeper.fails(), datetime.now(UTC)
    acting.act_on(keeper.kafka, event, Action.ACKNOWLEDGE, reason="seen", until=None, who="ada")
    acting.act_on(keeper.kafka, event, Action.SHELVE, reason="works", until=now + timedelta(minutes=5), who="ada")
    until(lambda: stored.one("SELECT state FROM alarms") == "shelved", what="it is shelved")
    shelves = read(Shelves(keeper.kafka))
    assert shelves.look(now + timedelta(minutes=4)) == []
    assert [each.data.state for each in shelves.look(now + timedelta(minutes=5))] == ["acknowledged"]
    assert shelves.look(now + timedelta(minutes=6)) == []
    assert read(Shelves(keeper.kafka)).look(now + timedelta(minutes=6)) == []
    until(lambda: stored.one("SELECT state FROM alarms") == "acknowledged", what="it is off the shelf")
    keeper.is_well()
    until(lambda: stored.one("SELECT state FROM alarms") == "cleared", what="it is over")
    assert keeper.states() == ["raised", "acknowledged", "shelved", "acknowledged", "cleared"]


def test_an_alarm_that_ends_beside_its_shelf_is_over(keeper, monkeypatch) -> None:
    event, now = keeper.fails(), datetime.now(UTC)
    acting.act_on(keeper.kafka, event, Action.SHELVE, reason="", until=now + timedelta(minutes=5), who="ada")
    tell, ended, shelves = shelving.tell_all, [], read(Shelves(keeper.kafka))

    def slowly(kafka, events, **how):
        if not ended:
            ended.append(keeper.is_well())
        tell(kafka, events, **how)

    monkeypatch.setattr(shelving, "tell_all", slowly)
    assert [each.data.state for each in shelves.look(now + timedelta(minutes=5))] == ["raised"]
    await_true(lambda: shelves.look(now + timedelta(minutes=5)), what="its end is told again")
    assert keeper.states() == ["raised", "shelved", "cleared", "raised", "cleared"]
    assert read(Shelves(keeper.kafka)).look(now + timedelta(minutes=5)) == []


def test_what_was_told_is_known_to_stand_until_it_is_over(keeper) -> None:
    alarm_id = keeper.fails().data.alarm_id
    assert stands(keeper.kafka, alarm_id)
    assert not stands(keeper.kafka, "0" * 16)
    keeper.is_well()
    assert not stands(keeper.kafka, alarm_id)
