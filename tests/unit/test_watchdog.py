"""When a look becomes an alarm: time lines by a manual clock."""

from datetime import UTC, datetime, timedelta

import pytest

from infra.watchdog.findings import (
    Filling,
    Finding,
    Patience,
    Progress,
    Rule,
    Work,
    of_copies,
    of_disk,
    of_expiry,
    of_group,
)

NOW = datetime(2026, 11, 26, tzinfo=UTC)
DAY = 86_400.0


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
    assert not disk(filling, 0, 900).bad
    soon = disk(filling, 3600, 800)  # 100 an hour: eight hours left
    assert (soon.bad, soon.reason) == (True, "soon_full")
    assert "8.0 h" in soon.said
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
