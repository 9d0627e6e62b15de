"""Acknowledged frames that stay for a while, and are sent again when a person asks. Knows SQLite and the ledger.

Off unless the limits say otherwise. A frame sent again has its old identity and its old content; it counts as accepted
once more, so that accepted = acknowledged + spooled holds. Nothing here is sent by itself.
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from producers.spool import database, queries
from producers.spool.framing import Cut
from producers.spool.ledger import GROUP_OVERHEAD_BYTES, Ledger, where
from producers.spool.policy import FrameKey, Limits
from schemas.errors import Refused, Unavailable

AGAIN_FRAMES_MAX = 200  # of one step, which holds up accepting for its time
AGAIN_BYTES_MAX = 1 << 20
FORGET_FRAMES_MAX = 5_000  # of one step


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request to send again meets."""

    frames: int
    readings: int


def keep(ledger: Ledger, key: FrameKey, *, acknowledged_us: int) -> None:
    """A copy of a frame's groups, just before they go. In a transaction of the caller's."""
    for group, rows, body in ledger.db.execute(queries.FRAME_BODIES, where(key)).fetchall():
        times = np.frombuffer(body, "<i8", rows)
        values = (acknowledged_us, int(times.min()), int(times.max()), group)
        ledger.db.execute(queries.KEEP, values)
        ledger.known.kept_bytes += len(body) + GROUP_OVERHEAD_BYTES


def overdue(ledger: Ledger, limits: Limits, now_us: int) -> bool:
    """Whether something has to go."""
    known = ledger.known
    if not known.kept_bytes:
        return False
    if not limits.keeps or known.kept_bytes > limits.kept_bytes_max:
        return True
    if limits.keep_s is None:
        return False
    oldest = ledger.db.execute(queries.OLDEST_KEPT).fetchone()
    return oldest is not None and now_us - oldest[3] > limits.keep_s * 1e6


def forget(ledger: Ledger, limits: Limits, now_us: int) -> None:
    """The oldest, until the limits are kept, or as many as one step may take. In a transaction of the caller's."""
    for _ in range(FORGET_FRAMES_MAX):
        if not overdue(ledger, limits, now_us):
            return
        found = ledger.db.execute(queries.OLDEST_KEPT).fetchone()
        _take(ledger, found[:3])


def forget_all(ledger: Ledger) -> None:
    """For a full disk: copies go before anything that waits."""
    ledger.db.execute("delete from kept")
    ledger.db.execute("delete from resends")
    ledger.known.kept_bytes = 0


def _take(ledger: Ledger, identity: tuple[int, int, int]) -> None:
    for (size,) in ledger.db.execute(queries.FORGET_KEPT, identity).fetchall():
        ledger.known.kept_bytes -= size + GROUP_OVERHEAD_BYTES


def asked(ledger: Ledger) -> bool:
    """Whether a request waits."""
    return bool(ledger.known.kept_bytes) and ledger.db.execute(queries.RESEND).fetchone() is not None


def again(ledger: Ledger, *, limits: Limits, now_us: int) -> list[Cut]:
    """The next frames of the oldest request, back among those on their way. In a transaction of the caller's."""
    number, *asked_for = ledger.db.execute(queries.RESEND).fetchone()
    cuts: list[Cut] = []
    size = 0
    for identity in ledger.db.execute(queries.ASKED, (*asked_for, AGAIN_FRAMES_MAX)).fetchall():
        parts = ledger.db.execute(queries.KEPT_FRAME, identity).fetchall()
        frame_bytes = sum(len(part[-1]) + GROUP_OVERHEAD_BYTES for part in parts)
        full = ledger.known.bytes + frame_bytes > limits.bytes_max
        if full or (cuts and size + frame_bytes > AGAIN_BYTES_MAX):
            return cuts  # the rest goes when there is room
        size += frame_bytes
        cuts.append(_back(ledger, identity, parts, now_us))
        _take(ledger, identity)
    if len(cuts) < AGAIN_FRAMES_MAX:
        ledger.db.execute(queries.ANSWERED, (number,))
    return cuts


def _back(ledger: Ledger, identity: tuple[int, int, int], parts: list[tuple], now_us: int) -> Cut:  # type: ignore[type-arg]  # rows of KEPT_FRAME
    spool, device, sequence = identity
    known = ledger.known
    for stream, rows, readings, has_status, crc32, body in parts:
        # Of no file any more, and not before new readings.
        values = (stream, now_us, rows, readings, has_status, None, True, crc32, body)
        ledger.db.execute(queries.INSERT_GROUP, (known.next_group, *values))
        ledger.db.execute(queries.INSERT_FRAMED, (known.next_group, spool, device, sequence))
        known.next_group += 1
    counts = known.counts[device]
    body_bytes = sum(len(part[-1]) for part in parts)
    size = body_bytes + len(parts) * GROUP_OVERHEAD_BYTES
    readings = sum(part[2] for part in parts)
    known.bytes += size
    ledger.set(
        device,
        accepted=counts.accepted + readings,
        groups=counts.groups + len(parts),
        bytes=counts.bytes + size,
        oldest_us=now_us if counts.oldest_us is None else counts.oldest_us,
    )
    spool_id = ledger.db.execute("select spool_id from spools where number = ?", (spool,)).fetchone()[0]
    key = FrameKey(counts.device_id, spool_id, sequence)
    return Cut(key, groups=len(parts), rows=sum(part[1] for part in parts), readings=readings, bytes=body_bytes)


def ask(folder: Path, *, from_us: int, to_us: int, device_id: str | None, dry_run: bool = False) -> Asked:
    """Note, for the spool's writer now or later, that what is kept with readings in [from_us, to_us) goes again.

    `dry_run` only looks what that would be.

    Raises `Refused` where nothing of that time is kept, `Unavailable` where the spool cannot be written.
    """
    connection = database.reader(folder)
    try:
        connection.execute("pragma query_only = off")
        if not database.keeps(connection):
            raise Refused(f"spool {folder} keeps nothing; `keep_s` or `keep_bytes` in edge.toml make it")
        device = None
        if device_id is not None:
            found = connection.execute("select number from devices where device_id = ?", (device_id,)).fetchone()
            if found is None:
                raise Refused(f"spool {folder} knows no device {device_id}")
            device = found[0]
        connection.execute("begin immediate")
        last = connection.execute("select coalesce(max(id), 0) from kept").fetchone()[0]
        frames, readings = connection.execute(queries.ASKED_TOTALS, (from_us, to_us, device, last)).fetchone()
        if not frames:
            raise Refused(f"spool {folder} keeps no readings of that time; `telltale edge spool` says what it keeps")
        if not dry_run:
            connection.execute(queries.ASK, (from_us, to_us, device, last))
        connection.execute("commit")
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"spool {folder}: {error}") from None
    finally:
        connection.close()
    return Asked(frames, readings)
