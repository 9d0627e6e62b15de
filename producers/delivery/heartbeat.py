"""What an edge says about itself. Pure: counts and states in, a record out."""

from collections.abc import Sequence
from datetime import UTC, datetime

from infra.version import our_version
from producers.delivery.link import Link, LinkState
from producers.spool import Counts
from schemas.records import Heartbeat, SourceState


def utc(time_us: int) -> datetime:
    return datetime.fromtimestamp(time_us / 1e6, UTC)


def heartbeat(
    counts: Counts,
    *,
    spool_id: str,
    now_us: int,
    started_us: int,
    free_disk_bytes: int,
    clock_offset_s: float | None,
    clock_synchronised: bool | None = None,
    recovered: str | None = None,
    link: LinkState,
    sources: Sequence[SourceState] = (),
) -> Heartbeat:
    """`depth` counts groups, of which the frames are cut: the most that can still become frames."""
    # A heartbeat that tells of a dead link is read once the link is back, and an alarm of each device would follow each
    # outage; silence tells of it in time. One that tells of a refused write does get through.
    told = (
        ()
        if link.link in (Link.UP, Link.CONNECTING, Link.AWAY)
        else (SourceState(name="link", state="failed", detail=link.detail),)
    )
    return Heartbeat(
        device_id=counts.device_id,
        spool_id=spool_id,
        time=utc(now_us),
        started=utc(started_us),
        version=our_version(),
        next_sequence=counts.next_sequence,
        depth=counts.groups,
        depth_bytes=counts.bytes,
        oldest_unsent=None if counts.oldest_us is None else utc(counts.oldest_us),
        accepted=counts.accepted,
        sent=counts.sent,
        dropped=counts.dropped,
        refused=counts.refused,
        free_disk_bytes=free_disk_bytes,
        clock_offset_s=clock_offset_s,
        clock_synchronised=clock_synchronised,
        recovered=recovered,
        sources=(*sources, *told),
    )
