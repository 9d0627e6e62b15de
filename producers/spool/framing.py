"""Groups into frames and out of the spool. Knows SQLite and the ledger; knows no network.

The same identity always means the same content: groups never change, and a frame is always the same groups.
`prefer_new` splits what waits in two: what sensors bring from then on is cut first, in order within each.
"""

import sqlite3
from dataclasses import dataclass

import orjson

from producers.spool import queries
from producers.spool.ledger import GROUP_OVERHEAD_BYTES, Ledger, where
from producers.spool.policy import FrameKey
from producers.spool.rows import joined, unpacked
from schemas.frames import RawFrame

CUT_GROUPS_MAX = 20_000  # looked at in one turn: a fraction of a second on a Raspberry Pi

Group = tuple[int, int, int, int]  # id, rows, readings, bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A frame that has its identity on disk."""

    key: FrameKey
    groups: int
    rows: int
    readings: int
    bytes: int


def cut(ledger: Ledger, room_bytes: int, frame_bytes_max: int, *, live_share: float) -> list[Cut]:
    """Frames for up to `room_bytes`, in a transaction of the caller's. Live groups come first, within their share."""
    known = ledger.known
    if known.live_from is None:
        rows = ledger.db.execute(queries.UNFRAMED, (known.cut_to, CUT_GROUPS_MAX))
        made, known.cut_to = _cut(ledger, rows, known.cut_to, room_bytes, frame_bytes_max)
        return made
    rows = ledger.db.execute(queries.LIVE, (known.live_to, CUT_GROUPS_MAX))
    live, known.live_to = _cut(ledger, rows, known.live_to, int(room_bytes * live_share), frame_bytes_max)
    rest = room_bytes - sum(each.bytes for each in live)
    rows = ledger.db.execute(queries.BACKLOG, (known.cut_to, known.live_from, CUT_GROUPS_MAX))
    old, known.cut_to = _cut(ledger, rows, known.cut_to, rest, frame_bytes_max)
    if rest > 0 and not old:  # nothing older waits: one order again
        known.cut_to, known.live_from = known.live_to, None
    return [*live, *old]


def prefer_new(ledger: Ledger, *, accepted_before_us: int) -> None:
    """What is accepted from now on goes first, if what goes first today was accepted so long ago."""
    known = ledger.known
    query, after = (queries.UNFRAMED, known.cut_to) if known.live_from is None else (queries.LIVE, known.live_to)
    first = ledger.db.execute(query, (after, 1)).fetchone()
    if first is not None and first[5] < accepted_before_us:
        known.live_from, known.live_to = known.next_group, known.next_group - 1


def _cut(ledger: Ledger, found: sqlite3.Cursor, after: int, room: int, frame_bytes_max: int) -> tuple[list[Cut], int]:
    """(frames of the groups found, oldest first, the last group taken); neighbours in one stream share a frame."""
    open_frames: dict[int, list[Group]] = {}
    done: list[tuple[int, list[Group]]] = []
    sizes: dict[int, int] = {}
    for group, stream, count, readings, size, _ in found:
        if room <= 0:
            break
        if stream in open_frames and sizes[stream] + size > frame_bytes_max:
            done.append((stream, open_frames.pop(stream)))
        if stream not in open_frames:
            open_frames[stream], sizes[stream] = [], 0
        open_frames[stream].append((group, count, readings, size))
        sizes[stream] += size
        room -= size
        after = group
    found.close()
    done.extend(open_frames.items())
    done.sort(key=lambda entry: entry[1][0][0])
    return [_frame(ledger, stream, groups) for stream, groups in done], after


def _frame(ledger: Ledger, stream: int, groups: list[Group]) -> Cut:
    known = ledger.known
    device, _ = known.channels[stream]
    counts = known.counts[device]
    sequence = counts.next_sequence
    ledger.db.executemany(queries.INSERT_FRAMED, [(group, ledger.number, device, sequence) for group, *_ in groups])
    ledger.db.execute(queries.MARK_LAST, (sequence, groups[0][0], groups[-1][0], stream))
    ledger.set(device, next_sequence=sequence + 1)
    known.unframed -= len(groups)
    known.unframed_bytes -= sum(g[3] + GROUP_OVERHEAD_BYTES for g in groups)
    return Cut(
        FrameKey(counts.device_id, ledger.spool_id, sequence),
        groups=len(groups),
        rows=sum(g[1] for g in groups),
        readings=sum(g[2] for g in groups),
        bytes=sum(g[3] for g in groups),
    )


def read(ledger: Ledger, key: FrameKey) -> RawFrame:
    """A frame's content. Raises `Damaged` where a group is not as it was written, `KeyError` for no such frame."""
    found = ledger.db.execute(queries.CONTENT, where(key)).fetchall()
    if not found:
        raise KeyError(key)
    parts = [
        unpacked(key.device_id, tuple(orjson.loads(channels)), body, rows=rows, has_status=bool(st), crc32=crc32)
        for body, rows, st, crc32, channels in found
    ]
    rows = joined(parts)
    return RawFrame(key.device_id, key.spool_id, key.sequence, rows.times, rows.channels, rows.values, rows.status)


def remove(ledger: Ledger, key: FrameKey, *, acknowledged_us: int | None) -> None:
    """Take a frame out, as dropped where it was not acknowledged. One that is gone already is no news."""
    groups = ledger.db.execute(queries.FRAME_GROUPS, where(key)).fetchall()
    if not groups:
        return
    device = ledger.known.devices[key.device_id]
    ids = [(group[0],) for group in groups]
    ledger.db.executemany(queries.DELETE_GROUP, ids)
    ledger.db.executemany(queries.DELETE_FRAMED, ids)
    readings = sum(group[2] for group in groups)
    size = sum(group[3] + GROUP_OVERHEAD_BYTES for group in groups)
    if acknowledged_us is None:
        ledger.release(device, groups=len(groups), size=size, dropped=readings)
        return
    of_files = [(rows, readings, file) for _, rows, readings, _, file in groups if file is not None]
    ledger.db.executemany(queries.MARK_ACKNOWLEDGED, of_files)
    ledger.release(device, groups=len(groups), size=size, sent=readings)
    ledger.set(device, acknowledged_us=acknowledged_us)


def split(ledger: Ledger, key: FrameKey) -> bool:
    """Free half of a frame's groups, or of its only group's rows. False for a single row."""
    ids = [row[0] for row in ledger.db.execute(queries.MEMBERS, where(key))]
    if len(ids) > 1:
        ledger.db.executemany(queries.DELETE_FRAMED, [(group,) for group in ids[len(ids) // 2 :]])
        return True
    return bool(ids) and _halve(ledger, ids[0])


def _halve(ledger: Ledger, group: int) -> bool:
    """Make two groups of one; the new one has no frame. False for a single row."""
    stream, accepted_us, count, has_status, file, patient, crc32, body = ledger.db.execute(
        queries.GROUP, (group,)
    ).fetchone()
    if count < 2:
        return False
    device, channels = ledger.known.channels[stream]
    device_id = ledger.known.counts[device].device_id
    rows = unpacked(device_id, channels, body, rows=count, has_status=bool(has_status), crc32=crc32)
    first, second = rows.part(0, count // 2), rows.part(count // 2, count)
    body, crc32 = first.packed()
    ledger.db.execute(queries.SHRINK_GROUP, (len(first.times), first.readings, crc32, body, group))
    body, crc32 = second.packed()
    values = (stream, accepted_us, len(second.times), second.readings, has_status, file, patient, crc32, body)
    ledger.db.execute(queries.INSERT_GROUP, (ledger.known.next_group, *values))
    return True
