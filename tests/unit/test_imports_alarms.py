"""Alarms about imports: raised by what is known of files, cleared by what becomes of them. Clocks are given."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.kept_alarms import KeptAlarms
from producers.imports.upkeep.alarms import (
    BLOCKED,
    NOT_IMPORTED,
    NOT_UPLOADED,
    REFUSED,
    STANDING_MAX,
    blocked,
    expectation,
    reconcile,
    troubles,
)
from schemas.alarms import AlarmEvent
from schemas.errors import Refused
from schemas.records import ImportStatus

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
NEVER = expectation(None, "")


def status(key: str, state: str, *, hours_ago: float = 0.0, **about: Any) -> ImportStatus:
    at = NOW - timedelta(hours=hours_ago)
    return ImportStatus(**{"sha256": key, "name": f"{key}.dat", "state": state, "time": at, "found": at, **about})


def rules(*statuses: ImportStatus, expected: Any = NEVER, devices: tuple[str, ...] = ("m",)) -> list[str]:
    found = troubles(statuses, now=NOW, waiting_s=3600, expected=expected, devices=devices)
    return [each.rule for each in found]


def test_refused_file_is_an_alarm_until_a_better_one_of_its_name_came() -> None:
    bad = status("a", "refused", hours_ago=2, reason="line 3")
    assert rules(bad) == [REFUSED]
    assert rules(bad, status("b", "stored", hours_ago=1, name="a.dat")) == []
    assert rules(bad, status("b", "stored", hours_ago=3, name="a.dat")) == [REFUSED]


@pytest.mark.parametrize("state", ["found", "parsing", "needs an answer", "unknown", "sending", "sent"])
def test_file_that_is_not_imported_in_time_is_an_alarm(state: str) -> None:
    assert rules(status("a", state, hours_ago=0.9)) == []
    assert rules(status("a", state, hours_ago=1.1)) == [NOT_IMPORTED]
    assert rules(status("a", "stored", hours_ago=9)) == []


def test_file_that_an_edge_has_sent_is_waited_for_by_nobody() -> None:
    assert rules(status("a", "sent", hours_ago=2, found=None)) == []
    assert rules(status("a", "sending", hours_ago=2, found=None)) == [NOT_IMPORTED]


def test_who_uploads_regularly_is_expected_to_go_on() -> None:
    expected = expectation(24, "")
    once = status("a", "stored", hours_ago=30, device_id="m")
    assert rules(once, expected=expected) == []
    before = status("b", "stored", hours_ago=80, device_id="m")
    assert rules(once, before, expected=expected) == [NOT_UPLOADED]
    assert rules(once, before, status("c", "sent", hours_ago=0.1, device_id="m"), expected=expected) == []
    assert rules(once, before, expected=expected, devices=()) == []  # it was taken out of the configuration
    assert rules(once, before, expected=expectation(24, "m=24"), devices=()) == [NOT_UPLOADED]


def test_single_devices_may_be_expected_otherwise() -> None:
    old = [status(key, "stored", hours_ago=hours, device_id="m") for key, hours in (("a", 30), ("b", 80))]
    assert rules(*old, expected=expectation(24, "m=48")) == []
    assert rules(*old, expected=expectation(24, "m=never")) == []
    assert rules(expected=expectation(24, "n=48")) == [NOT_UPLOADED]
    with pytest.raises(Refused, match="expected DEVICE=HOURS"):
        expectation(24, "m=soon")


def test_folder_of_wrong_files_is_a_bounded_number_of_alarms() -> None:
    found = rules(*(status(f"{number:03}", "refused") for number in range(500)))
    assert len(found) == STANDING_MAX + 1


def test_alarm_is_told_where_it_cannot_be_kept(tmp_path: Path) -> None:
    told: list[AlarmEvent] = []
    (tmp_path / "alarms.json.coming").mkdir()  # which can no more be written than on a disk that is full
    kept = KeptAlarms(tmp_path / "alarms.json", speaker="imports", tell=told.extend)
    for found in ([blocked("archive /srv: No space left on device", source="imports/waiting")], []):
        reconcile(kept, found, now=NOW)
        assert kept.ring()
    assert [(event.data.rule, str(event.data.state)) for event in told] == [(BLOCKED, "raised"), (BLOCKED, "cleared")]
    assert "No space left" in told[0].data.message


def test_alarms_are_raised_once_and_cleared_once(tmp_path: Path) -> None:
    told: list[AlarmEvent] = []
    kept = KeptAlarms(tmp_path / "alarms.json", speaker="imports", tell=told.extend)
    bad = troubles([status("a", "refused")], now=NOW, waiting_s=3600, expected=NEVER, devices=())
    for found in (bad, bad, [], []):
        reconcile(kept, found, now=NOW)
        assert kept.ring()
    assert [event.data.state for event in told] == ["raised", "cleared"]
    assert told[0].data.alarm_id == told[1].data.alarm_id
