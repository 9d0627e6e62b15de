"""What a heartbeat says of the way to the broker: it is read when the way is there."""

import pytest

from producers.delivery.heartbeat import heartbeat
from producers.delivery.link import Link, LinkState
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
