"""When a look becomes an alarm: time lines by a manual clock."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.kept_alarms import KeptAlarms
from infra.processes import Identity, identify
from infra.stack import Service, Stack
from infra.telemetry.health import Health
from infra.telemetry.serving import serving
from infra.telemetry.settings import MetricsSettings
from infra.watchdog import probes
from infra.watchdog.findings import (
    Filling,
    Finding,
    Patience,
    Progress,
    Restarts,
    Rule,
    Work,
    of_copies,
    of_disk,
    of_expiry,
    of_group,
)
from infra.watchdog.rounds import Rounds
from infra.watchdog.settings import WatchdogSettings

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DAY = 86_400.0
OURS, GONE = identify(os.getpid()), Identity(os.getpid(), "before")


def after(seconds):
    return NOW + timedelta(seconds=seconds)


def finding(bad):
    return Finding(Rule.BROKER, "kafka", bad, "", "no_answer")


def test_trouble_counts_once_it_has_lasted():
    patience = Patience({Rule.BROKER: 20})
    seen = [(0, True), (19, True), (20, True), (25, False), (30, True)]
    assert [patience.lasting(finding(bad), after(at)) for at, bad in seen] == [None, None, True, False, None]


def work(position, waited_s=1.0, retention_s=7 * DAY, partition=0):
    return Work("g", "readings.clean", partition, position, waited_s, retention_s)


def test_a_group_stands_still_only_while_the_same_record_comes_next():
    progress = Progress()
    positions = [(0, 5), (30, 5), (61, 5), (62, 6), (100, 6)]
    assert [progress.still_s(work(position), after(at)) for at, position in positions] == [0, 30, 61, 0, 38]


def test_what_was_done_in_between_is_no_standstill():
    progress = Progress()
    progress.still_s(work(5), after(0))
    progress.keep([])
    assert progress.still_s(work(5), after(100)) == 0


def rules(left, still):
    found = of_group("g", left, still, still_limit_s=60, lag_limit_s=300, retention_share=0.8)
    return {each.rule for each in found if each.bad}


@pytest.mark.parametrize(
    ("left", "still", "bad"),
    [
        ([], [], set()),
        ([work(5)], [59], set()),
        ([work(5), work(7, partition=1)], [0, 61], {Rule.NO_PROGRESS}),
        ([work(5, 301)], [0], {Rule.LAG}),
        ([work(5, 5.7 * DAY)], [0], {Rule.LAG, Rule.RETENTION}),
        ([work(5, 5.7 * DAY, None)], [0], {Rule.LAG}),  # compacted: nothing is deleted
    ],
)
def test_standing_still_lagging_and_losing_are_told_apart(left, still, bad):
    assert rules(left, still) == bad


def disk(filling, at_s, free, total=1000):
    full = filling.full_in_s("/x", free, after(at_s))
    return of_disk("/x", free_bytes=free, total_bytes=total, full_in_s=full, share_min=0.1, hours_min=24)


def test_a_disk_that_will_be_full_is_told_before_it_is():
    filling = Filling()
    assert not disk(filling, 0, 901).bad
    assert not disk(filling, 599, 900).bad  # a minute's import is no pace
    soon = disk(filling, 3600, 800)  # 100 an hour: eight hours left
    assert (soon.bad, soon.reason) == (True, "soon_full")
    assert "7.9 h" in soon.said
    assert disk(Filling(), 0, 99).reason == "little_left"
    assert not disk(filling, 7200, 950).bad  # somebody has made room


@pytest.mark.parametrize(
    ("days", "bad", "reason"), [(22, False, "expires"), (20, True, "expires"), (-1, True, "expired")]
)
def test_what_ends_soon_is_told(days, bad, reason):
    ends = NOW + timedelta(days=days)
    found = of_expiry(Rule.CERTIFICATE, "certificate/x", "x", ends=ends, now=NOW, days=21, advice="Renew it.")
    assert (found.bad, found.reason, "Renew it." in found.said) == (bad, reason, bad)


@pytest.mark.parametrize(
    ("in_step", "at_work", "bad", "said"),
    [
        ([1, 2, 3], [1, 2, 3], False, "all 2 partitions have all copies"),
        ([1, 3], [1, 3], True, "Kafka's node 2 is away, and 1 of 2 partitions"),
        ([1], [1, 2, 3], True, "All of Kafka's nodes are at work, and 1 of 2"),
    ],
)
def test_missing_copies_are_told_with_the_node_that_is_away(in_step, at_work, bad, said):
    found = of_copies([([1, 2, 3], in_step), ([1], [1])], at_work)
    assert (found.rule, found.bad) == (Rule.COPIES, bad)
    assert said in found.said


def service(name="imports", *, state="running", restarts=0, process=OURS, metrics=None):
    return Service(name, state, process, restarts, metrics=metrics)


def of_services(*services, restarts=None, supervisor=OURS, at_s=0):
    seen = Stack(Path("/stack"), supervisor, services=services)
    found = probes.services(seen, Restarts() if restarts is None else restarts, after(at_s))
    return {each.source.removeprefix("service/"): each.reason for each in found if each.bad}


def test_a_part_that_does_not_run_is_found_whichever_it_is():
    assert of_services(service(), service("topics", state="done", process=None)) == {}
    assert of_services(service(state="restarting", process=None), service("dashboard")) == {"imports": "restarting"}
    assert of_services(service(process=GONE)) == {"imports": "stopped"}  # its supervisor has not seen it yet
    own_rules = [service(name, state="restarting") for name in ("kafka", "postgres", "watchdog")]
    assert of_services(*own_rules) == {}


def test_a_supervisor_that_was_killed_is_found_and_a_stack_that_was_stopped_is_none():
    assert of_services(service(), supervisor=GONE) == {"supervisor": "gone"}
    assert of_services(service(state="stopped", process=None), supervisor=GONE) == {}


def test_a_part_that_ends_again_and_again_is_found_until_it_has_been_quiet_for_ten_minutes():
    restarts = Restarts()
    looks = [(0, 7), (10, 9), (20, 11), (30, 12), (620, 12), (631, 12), (640, 0), (650, 1)]
    found = [of_services(service(restarts=count), restarts=restarts, at_s=at) for at, count in looks]
    again = {"imports": "restarts"}
    assert found == [{}, {}, {}, again, {}, {}, {}, {}]


def test_a_part_that_hangs_is_found_by_its_own_word_and_by_its_silence():
    now = [0.0]
    health = Health("imports", stuck_s=10, clock=lambda: now[0])
    with serving(health, settings=MetricsSettings(port=0)) as metrics:
        hangs = service(metrics=metrics)
        assert of_services(hangs) == {}
        now[0] = 11
        assert of_services(hangs) == {"imports": "hangs"}
    assert of_services(hangs) == {"imports": "hangs"}


def test_a_record_of_another_version_is_no_stack_to_look_at(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    kept = KeptAlarms(tmp_path / "alarms.json", speaker="watchdog", tell=lambda _: None)
    rounds = Rounds(
        "127.0.0.1:1", "dbname=x", "x", tmp_path, WatchdogSettings(), kept, lambda: NOW, inbox=tmp_path / "inbox"
    )
    assert rounds._recorded() is None
