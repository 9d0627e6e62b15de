"""What is said of the way to the broker. A heartbeat is read when the way is there."""

import pytest
from confluent_kafka import KafkaError

from producers.delivery.heartbeat import heartbeat
from producers.delivery.link import Link, LinkState, link_state
from producers.spool import Counts


@pytest.mark.parametrize("link", Link)
def test_a_link_that_refuses_is_told_and_one_that_was_away_is_not(link: Link) -> None:
    said = heartbeat(
        Counts("mast-7"),
        spool_id="sp",
        now_us=1,
        started_us=0,
        free_disk_bytes=1,
        clock_offset_s=None,
        link=LinkState(link, "why"),
    )
    told = [(source.name, source.state, source.detail) for source in said.sources]
    quiet = link in (Link.UP, Link.CONNECTING, Link.AWAY)
    assert told == ([] if quiet else [("link", "failed", "why")])


def test_the_same_refusal_again_is_no_news() -> None:
    tries = [f"vm:1/bootstrap: no such user (after {how})" for how in (
        "428ms in state AUTH_REQ", "3ms in state AUTH_REQ, 4 identical error(s) suppressed")]  # fmt: skip
    first, second = (link_state(KafkaError(KafkaError._AUTHENTICATION, said), address="vm:1") for said in tries)
    assert first == second
    assert "no such user; check its credential" in first.detail
