"""The spool itself: accept, cut, read, acknowledge. Knows SQLite; knows no network and no clock but the one given.

- `accept` returns when its rows are on disk. Callers that come while another commits share the next commit.
- `turn` takes acknowledged frames out and cuts new ones, in one commit. A frame's identity is on disk before the
  caller sees it; its content is fixed from then on.
- Everything is in one lock; a transaction that fails leaves nothing behind, in memory neither.

The same identity always means the same content: groups never change, and a frame is always the same groups.
"""

import shutil
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from producers.spool import database, queries, recovery
from producers.spool.lock import WriterLock
from producers.spool.policy import Counts, DiskTrouble, FileMark, FrameKey, Limits, SpoolFull, WhenFull
from producers.spool.rows import Rows, joined, unpacked
from schemas.errors import Unavailable
from schemas.frames import RawFrame

GROUP_OVERHEAD_BYTES = 64  # of a group in the file, about: keys, counters, its place in `framed`
CUT_GROUPS_MAX = 20_000  # looked at in one turn: a fraction of a second on a Raspberry Pi


@dataclass(frozen=True, slots=True)
class Cut:
    """A frame that has its identity on disk."""

    key: FrameKey
    groups: int
    rows: int
    readings: int
    bytes: int


def _where(key: FrameKey) -> tuple[str, str, int]:
    """The parameters of `OF_FRAME`."""
    return key.spool_id, key.device_id, key.sequence


@dataclass(slots=True, eq=False)
class _Ticket:
    """One caller's rows on the way to disk."""

    rows: Sequence[Rows]
    mark: FileMark | None
    done: bool = False
    failure: Exception | None = None


@dataclass(slots=True)
class _Known:
    """What the database says, held in memory between transactions. Made anew when one fails."""

    devices: dict[str, int] = field(default_factory=dict)
    counts: dict[int, Counts] = field(default_factory=dict)
    streams: dict[tuple[int, tuple[str, ...]], int] = field(default_factory=dict)
    channels: dict[int, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    next_group: int = 1
    unframed: int = 0
    unframed_bytes: int = 0
    cut_to: int = 0  # every group up to here has a frame
    bytes: int = 0
    changed: set[int] = field(default_factory=set)


class Spool:
    """Safe to share between threads. Raises `Refused` when another process has the folder."""

    def __init__(self, folder: Path, *, clock_us: Callable[[], int], limits: Limits | None = None) -> None:
        self.folder = folder
        self._limits = limits or Limits()
        self._clock_us = clock_us
        self._lock = threading.RLock()
        self._waiting: list[_Ticket] = []
        self._waiting_lock = threading.Lock()
        self._refused: dict[str, int] = defaultdict(int)  # not yet in the database
        self.recovered: recovery.Recovered | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"spool {folder}: {error.strerror}") from None
        self._writer = WriterLock(folder)
        try:
            self._open()
        except BaseException:
            self._writer.release()
            raise

    def _open(self) -> None:
        now_us = self._clock_us()
        try:
            self._db = database.connect(self.folder, created_us=now_us)
            self._load()
        except sqlite3.OperationalError as error:
            if "full" in str(error) and database.free_reserve(self.folder):
                self._open()
                return
            raise Unavailable(f"spool {self.folder}: {error}") from None
        except sqlite3.DatabaseError:
            if hasattr(self, "_db"):
                self._db.close()
            stamp = datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y%m%dT%H%M%S%fZ")
            aside = database.set_aside(self.folder, stamp=stamp)
            self._db = database.connect(self.folder, created_us=now_us)
            self._load()
            with self._transaction():
                self.recovered = recovery.recover(aside, self._db)
            self._load()
        row = self._db.execute("select number, spool_id from spools order by number limit 1").fetchone()
        database.make_reserve(self.folder)
        self._spool: int = row[0]
        self.spool_id: str = row[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the folder. What is in the spool stays."""
        with self._lock, suppress(sqlite3.ProgrammingError):  # closed twice is closed
            if self._refused:
                with suppress(DiskTrouble), self._transaction():
                    pass  # notes what was refused
            self._db.close()
            self._writer.release()

    # accepting

    def accept(self, rows: Sequence[Rows], *, mark: FileMark | None = None) -> None:
        """All of `rows`, and `mark` with them, are on disk when this returns; or none, and it raises.

        Raises `SpoolFull` (policy `refuse`) and `DiskTrouble`.
        """
        ticket = _Ticket(rows, mark)
        with self._waiting_lock:
            self._waiting.append(ticket)
        with self._lock:
            if not ticket.done:
                with self._waiting_lock:
                    tickets, self._waiting = self._waiting, []
                self._commit(tickets)
        if ticket.failure is not None:
            raise ticket.failure

    def _commit(self, tickets: list[_Ticket]) -> None:
        try:
            with self._transaction():
                for ticket in tickets:
                    try:
                        self._take(ticket)
                    except SpoolFull as full:
                        ticket.failure = full
        except DiskTrouble as trouble:
            for ticket in tickets:
                self._count_refused(ticket)
                ticket.failure = trouble
        except BaseException as error:
            for ticket in tickets:
                ticket.failure = RuntimeError(f"the spool failed: {error!r}")
            raise
        finally:
            for ticket in tickets:
                ticket.done = True

    def _take(self, ticket: _Ticket) -> None:
        now_us = self._clock_us()
        pieces = [piece for rows in ticket.rows for piece in rows.pieces()]
        wanted = sum(len(p.times) * p.row_bytes + GROUP_OVERHEAD_BYTES for p in pieces)
        if wanted:
            self._make_room(ticket, wanted, now_us)
        file = None if ticket.mark is None else self._save_mark(ticket.mark)
        known = self._known
        for piece in pieces:
            device, stream = self._stream(piece.device_id, piece.channels)
            body, crc32 = piece.packed()
            values = (stream, now_us, len(piece.times), piece.readings, piece.status is not None, file, crc32, body)
            self._db.execute(queries.INSERT_GROUP, (known.next_group, *values))
            known.next_group += 1
            known.unframed += 1
            size = len(body) + GROUP_OVERHEAD_BYTES
            known.unframed_bytes += size
            known.bytes += size
            counts = known.counts[device]
            self._set(
                device,
                accepted=counts.accepted + piece.readings,
                groups=counts.groups + 1,
                bytes=counts.bytes + size,
                oldest_us=now_us if counts.oldest_us is None else counts.oldest_us,
            )

    def _make_room(self, ticket: _Ticket, wanted: int, now_us: int) -> None:
        """Raises `SpoolFull`, having counted it, where the policy or the frames on their way leave no room."""
        limits, known = self._limits, self._known
        oldest = min((c.oldest_us for c in known.counts.values() if c.oldest_us is not None), default=now_us)
        too_old = limits.age_s_max is not None and now_us - oldest > limits.age_s_max * 1e6
        if known.bytes + wanted <= limits.bytes_max and not too_old:
            return
        if limits.when_full is WhenFull.DROP_OLDEST and known.bytes - known.unframed_bytes + wanted <= limits.bytes_max:
            age = None if limits.age_s_max is None else now_us - int(limits.age_s_max * 1e6)
            self._drop_oldest(known.bytes + wanted - limits.bytes_max, age)
            return
        self._count_refused(ticket)
        what = f"{known.bytes} of {limits.bytes_max} bytes are in use"
        if too_old and known.bytes + wanted <= limits.bytes_max:
            what = f"its oldest reading has waited for {(now_us - oldest) / 1e6:.0f} s, limit {limits.age_s_max:.0f} s"
        raise SpoolFull(f"spool {self.folder} is full: {what}; readings wait for the broker and new ones are refused")

    def _drop_oldest(self, bytes_over: int, accepted_before_us: int | None) -> None:
        """Frames on their way are not dropped: the broker may have them already."""
        rows = self._db.execute(queries.UNFRAMED, (self._known.cut_to, -1))
        gone: list[tuple[int]] = []
        freed: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])  # groups, readings, bytes
        for group, stream, _, readings, body, accepted_us in rows:
            if bytes_over <= 0 and (accepted_before_us is None or accepted_us >= accepted_before_us):
                break
            size = body + GROUP_OVERHEAD_BYTES
            bytes_over -= size
            self._known.unframed_bytes -= size
            gone.append((group,))
            tally = freed[self._known.channels[stream][0]]
            tally[0] += 1
            tally[1] += readings
            tally[2] += size
        rows.close()
        self._db.executemany(queries.DELETE_GROUP, gone)
        self._known.unframed -= len(gone)
        for device, (groups, readings, size) in freed.items():
            self._release(device, groups=groups, size=size, dropped=readings)

    def _count_refused(self, ticket: _Ticket) -> None:
        for rows in ticket.rows:
            self._refused[rows.device_id] += rows.readings

    # sending

    def turn(self, acknowledged: Iterable[FrameKey] = (), *, room_bytes: int = 0, frame_bytes_max: int) -> list[Cut]:
        """Delete what the broker has acknowledged and cut new frames for up to `room_bytes`, in one commit.

        Raises `DiskTrouble`; then nothing has happened and the same call may be made again.
        """
        keys = list(acknowledged)
        try:
            return self._turn(keys, room_bytes, frame_bytes_max)
        except DiskTrouble:
            with self._lock:
                if not database.free_reserve(self.folder, self._db):
                    raise
            return self._turn(keys, room_bytes, frame_bytes_max)

    def _turn(self, keys: list[FrameKey], room_bytes: int, frame_bytes_max: int) -> list[Cut]:
        with self._lock:
            if not keys and not (room_bytes > 0 and self._known.unframed):
                return []
            with self._transaction():
                for key in keys:
                    self._remove(key, sent=True)
                cuts = self._cut(room_bytes, frame_bytes_max) if room_bytes > 0 else []
            if not self._known.bytes:
                self._give_back()
        return cuts

    def _cut(self, room_bytes: int, frame_bytes_max: int) -> list[Cut]:
        """Oldest first; neighbours in one stream go into one frame."""
        open_frames: dict[int, list[tuple[int, int, int, int]]] = {}
        done: list[tuple[int, list[tuple[int, int, int, int]]]] = []
        sizes: dict[int, int] = {}
        for group, stream, rows, readings, size, _ in self._db.execute(
            queries.UNFRAMED, (self._known.cut_to, CUT_GROUPS_MAX)
        ):
            if room_bytes <= 0:
                break
            if stream in open_frames and sizes[stream] + size > frame_bytes_max:
                done.append((stream, open_frames.pop(stream)))
            if stream not in open_frames:
                open_frames[stream], sizes[stream] = [], 0
            open_frames[stream].append((group, rows, readings, size))
            sizes[stream] += size
            room_bytes -= size
            self._known.cut_to = group
        done.extend(open_frames.items())
        done.sort(key=lambda entry: entry[1][0][0])
        return [self._frame(stream, groups) for stream, groups in done]

    def _frame(self, stream: int, groups: list[tuple[int, int, int, int]]) -> Cut:
        device, _ = self._known.channels[stream]
        counts = self._known.counts[device]
        sequence = counts.next_sequence
        self._db.executemany(
            queries.INSERT_FRAMED,
            [(group, self._spool, device, sequence) for group, *_ in groups],
        )
        self._db.execute(
            queries.MARK_LAST,
            (sequence, groups[0][0], groups[-1][0], stream),
        )
        self._set(device, next_sequence=sequence + 1)
        self._known.unframed -= len(groups)
        self._known.unframed_bytes -= sum(g[3] + GROUP_OVERHEAD_BYTES for g in groups)
        return Cut(
            FrameKey(counts.device_id, self.spool_id, sequence),
            groups=len(groups),
            rows=sum(g[1] for g in groups),
            readings=sum(g[2] for g in groups),
            bytes=sum(g[3] for g in groups),
        )

    def unacknowledged(self) -> list[Cut]:
        """Frames that have an identity and wait for the broker's word, oldest first."""
        with self._lock:
            return [Cut(FrameKey(*row[:3]), *row[3:]) for row in self._db.execute(queries.FRAMED)]

    def read(self, key: FrameKey) -> RawFrame:
        """A frame's content. Raises `Damaged` where a group is not as it was written, `KeyError` for no such frame."""
        with self._lock:
            found = self._db.execute(queries.CONTENT, _where(key)).fetchall()
        if not found:
            raise KeyError(key)
        parts = [
            unpacked(key.device_id, tuple(orjson.loads(channels)), body, rows=rows, has_status=bool(st), crc32=crc32)
            for body, rows, st, crc32, channels in found
        ]
        rows = joined(parts)
        return RawFrame(key.device_id, key.spool_id, key.sequence, rows.times, rows.channels, rows.values, rows.status)

    def discard(self, key: FrameKey) -> None:
        """Drop a frame that can never be sent, counted as dropped."""
        with self._lock, self._transaction():
            self._remove(key, sent=False)

    def split(self, key: FrameKey) -> bool:
        """Half of a frame that the broker found too large keeps its identity, the rest is cut anew later.

        Only for a frame that no broker has ever taken. False if it is a single row: then nothing can be done.
        """
        with self._lock, self._transaction():
            ids = [row[0] for row in self._db.execute(queries.MEMBERS, _where(key))]
            if len(ids) > 1:
                freed = ids[len(ids) // 2 :]
                self._db.executemany(queries.DELETE_FRAMED, [(group,) for group in freed])
                done = True
            else:
                done = bool(ids) and self._halve(ids[0])
        with self._lock:
            self._load()  # rare, and simpler than to count along
        return done

    def _halve(self, group: int) -> bool:
        """Make two groups of one; the new one has no frame. False for a single row."""
        found = self._db.execute(queries.GROUP, (group,)).fetchone()
        stream, accepted_us, count, has_status, file, crc32, body = found
        if count < 2:
            return False
        device, channels = self._known.channels[stream]
        device_id = self._known.counts[device].device_id
        rows = unpacked(device_id, channels, body, rows=count, has_status=bool(has_status), crc32=crc32)
        first, second = rows.part(0, count // 2), rows.part(count // 2, count)
        body, crc32 = first.packed()
        self._db.execute(
            queries.SHRINK_GROUP,
            (len(first.times), first.readings, crc32, body, group),
        )
        body, crc32 = second.packed()
        values = (stream, accepted_us, len(second.times), second.readings, has_status, file, crc32, body)
        self._db.execute(queries.INSERT_GROUP, (self._known.next_group, *values))
        return True

    def _remove(self, key: FrameKey, *, sent: bool) -> None:
        """A frame that is gone already is no news: the broker may tell twice."""
        groups = self._db.execute(queries.FRAME_GROUPS, _where(key)).fetchall()
        if not groups:
            return
        device = self._known.devices[key.device_id]
        ids = [(group[0],) for group in groups]
        self._db.executemany(queries.DELETE_GROUP, ids)
        self._db.executemany(queries.DELETE_FRAMED, ids)
        if sent:
            of_files = [(rows, readings, file) for _, rows, readings, _, file in groups if file is not None]
            self._db.executemany(queries.MARK_ACKNOWLEDGED, of_files)
        readings = sum(group[2] for group in groups)
        size = sum(group[3] + GROUP_OVERHEAD_BYTES for group in groups)
        self._release(device, groups=len(groups), size=size, **{"sent" if sent else "dropped": readings})
        if sent:
            self._set(device, acknowledged_us=self._clock_us())

    def _release(self, device: int, *, groups: int, size: int, sent: int = 0, dropped: int = 0) -> None:
        counts = self._known.counts[device]
        self._known.bytes -= size
        left = counts.groups - groups
        self._set(
            device,
            groups=left,
            bytes=counts.bytes - size,
            sent=counts.sent + sent,
            dropped=counts.dropped + dropped,
            oldest_us=counts.oldest_us if left else None,
        )
        if left and counts.oldest_us is not None:
            oldest = self._db.execute(queries.OLDEST, (device,)).fetchone()
            self._set(device, oldest_us=oldest[0] if oldest else None)

    # looking

    def counts(self, device_id: str) -> Counts:
        """What one device has gone through, by this spool."""
        with self._lock:
            number = self._known.devices.get(device_id)
            counts = Counts(device_id) if number is None else self._known.counts[number]
            return replace(counts, refused=counts.refused + self._refused.get(device_id, 0))

    def devices(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._known.devices)

    @property
    def unframed(self) -> int:
        """Groups that no frame holds yet."""
        return self._known.unframed

    @property
    def bytes(self) -> int:
        return self._known.bytes

    def free_disk_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    # files

    def mark(self, sha256: str, device_id: str) -> FileMark | None:
        """How far a file has come for a device, if this spool knows it."""
        with self._lock:
            row = self._db.execute(queries.MARK, (sha256, device_id)).fetchone()
        return None if row is None else FileMark(*row)

    def forget(self, sha256: str, device_id: str) -> None:
        """Let a file be sent once more. Its rows that still wait stay."""
        with self._lock, self._transaction():
            self._db.execute(queries.UNMARK_GROUPS, (sha256, device_id))
            self._db.execute(queries.FORGET, (sha256, device_id))

    def _save_mark(self, mark: FileMark) -> int:
        device = self._device(mark.device_id)
        values = (mark.sha256, device, mark.name, mark.format, mark.options, mark.rows_accepted)
        rest = (mark.readings_accepted, mark.complete)
        return int(self._db.execute(queries.SAVE_MARK, values + rest).fetchone()[0])

    # keeping memory and database the same

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commits what the block did, with every counter it moved; on any error undoes both and reads memory anew."""
        try:
            self._db.execute("begin immediate")
            yield
            refused = dict(self._refused)
            for device_id, readings in refused.items():
                device = self._device(device_id)
                self._set(device, refused=self._known.counts[device].refused + readings)
            for number in self._known.changed:
                c = self._known.counts[number]
                values = (c.next_sequence, c.accepted, c.sent, c.dropped, c.refused, c.acknowledged_us, number)
                self._db.execute(queries.SAVE_DEVICE, values)
            self._db.execute("commit")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("rollback")
            with suppress(sqlite3.DatabaseError):
                self._load()
            if isinstance(error, sqlite3.OperationalError):
                raise DiskTrouble(f"spool {self.folder}: {error}; nothing that was accepted is lost") from None
            if isinstance(error, sqlite3.DatabaseError):
                raise DiskTrouble(f"spool {self.folder} is damaged ({error}); start again to recover it") from None
            raise
        self._known.changed.clear()
        for device_id, readings in refused.items():
            self._refused[device_id] -= readings
            if not self._refused[device_id]:
                del self._refused[device_id]

    def _load(self) -> None:
        known = _Known()
        for row in self._db.execute(queries.DEVICES):
            known.devices[row[1]] = row[0]
            known.counts[row[0]] = Counts(*row[1:])
        for number, device, channels in self._db.execute(queries.STREAMS):
            names = tuple(orjson.loads(channels))
            known.streams[device, names] = number
            known.channels[number] = (device, names)
        for device, groups, size, oldest_us in self._db.execute(queries.WAITING):
            whole = size + groups * GROUP_OVERHEAD_BYTES
            known.counts[device] = replace(known.counts[device], groups=groups, bytes=whole, oldest_us=oldest_us)
            known.bytes += whole
        last, count = self._db.execute(queries.TOTALS).fetchone()
        known.next_group = last + 1
        framed, framed_bytes = self._db.execute(queries.FRAMED_TOTALS).fetchone()
        known.unframed = count - framed
        known.unframed_bytes = known.bytes - framed_bytes - framed * GROUP_OVERHEAD_BYTES
        self._known = known

    def _set(self, device: int, **values: int | None) -> None:
        self._known.counts[device] = replace(self._known.counts[device], **values)  # type: ignore[arg-type]  # names are those of Counts
        self._known.changed.add(device)

    def _device(self, device_id: str) -> int:
        known = self._known
        number = known.devices.get(device_id)
        if number is None:
            row = self._db.execute(queries.INSERT_DEVICE, (device_id,))
            number = known.devices[device_id] = int(row.fetchone()[0])
            known.counts[number] = Counts(device_id)
        return number

    def _stream(self, device_id: str, channels: tuple[str, ...]) -> tuple[int, int]:
        device = self._device(device_id)
        stream = self._known.streams.get((device, channels))
        if stream is None:
            text = orjson.dumps(channels).decode()
            row = self._db.execute(queries.INSERT_STREAM, (device, text))
            stream = self._known.streams[device, channels] = int(row.fetchone()[0])
            self._known.channels[stream] = (device, channels)
        return device, stream

    def _give_back(self) -> None:
        """Return the room of a long backlog to the disk, now that nothing waits. A nicety: failing is no harm."""
        database.make_reserve(self.folder)
        try:
            if self._db.execute("pragma freelist_count").fetchone()[0] > 1024:
                self._db.execute("pragma incremental_vacuum").fetchall()
                self._db.execute("pragma wal_checkpoint(truncate)").fetchall()
        except sqlite3.OperationalError:
            return
