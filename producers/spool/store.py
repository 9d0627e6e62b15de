"""The spool itself: accept, cut, read, acknowledge. Knows SQLite; knows no network and no clock but the one given.

- `accept` returns when its rows are on disk. Callers that come while another commits share the next commit.
- `turn` takes acknowledged frames out and cuts new ones, in one commit. A frame's identity is on disk before the
  caller sees it; its content is fixed from then on.
- Everything is in one lock; a transaction that fails leaves nothing behind, in memory neither.
- A database that is found damaged is set aside and what can be read of it goes into a new one, at the start or in the
  middle of work; `healed` counts those in the middle, and frames known from before must then be asked for again.
"""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from producers.spool import admission, database, framing, kept, queries, recovery
from producers.spool.admission import Ticket
from producers.spool.framing import Cut
from producers.spool.ledger import FileDamaged, Ledger
from producers.spool.lock import WriterLock
from producers.spool.policy import Counts, DiskTrouble, FileMark, FrameKey, Limits, SpoolFull
from producers.spool.rows import Rows
from schemas.errors import Unavailable
from schemas.frames import RawFrame

T = TypeVar("T")

DAMAGE = (sqlite3.DatabaseError, LookupError, TypeError, ValueError)
"""What a damaged file makes of a look through it. SQLite does not notice all of it, and what it says may be no text."""
DAMAGED_TEXTS = ("no such", "decode")
"""Column names and texts that are not as they were written; else an operational error is the disk's."""


class Spool:
    """Safe to share between threads. Raises `Refused` when another process has the folder."""

    def __init__(self, folder: Path, *, clock_us: Callable[[], int], limits: Limits | None = None) -> None:
        self.folder = folder
        self._limits = limits or Limits()
        self._clock_us = clock_us
        self._lock = threading.RLock()
        self._waiting: list[Ticket] = []
        self._waiting_lock = threading.Lock()
        self.recovered: recovery.Recovered | None = None
        self.healed = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"spool {folder}: {error.strerror}") from None
        self._writer = WriterLock(folder)
        try:
            self._ledger = self._open()
        except BaseException:
            self._writer.release()
            raise

    def _open(self) -> Ledger:
        aside = database.waiting_aside(self.folder)
        db: sqlite3.Connection | None = None
        try:
            db = database.connect(self.folder, created_us=self._clock_us())
            ledger = Ledger(db, self.folder)
        except DAMAGE as error:
            if db is not None:
                db.close()
            if isinstance(error, sqlite3.OperationalError) and not any(word in str(error) for word in DAMAGED_TEXTS):
                if "full" in str(error) and database.free_reserve(self.folder):
                    return self._open()
                raise Unavailable(f"spool {self.folder}: {error}") from None
            ledger = self._recover()
        else:
            self._take_back(ledger, aside)
        database.make_reserve(self.folder)
        return ledger

    def _recover(self) -> Ledger:
        """A new database with what can be read of the damaged one."""
        now_us = self._clock_us()
        stamp = datetime.fromtimestamp(now_us / 1e6, UTC).strftime("%Y%m%dT%H%M%S%fZ")
        database.set_aside(self.folder, stamp=stamp)
        ledger = Ledger(database.connect(self.folder, created_us=now_us), self.folder)
        self._take_back(ledger, database.waiting_aside(self.folder))
        return ledger

    def _take_back(self, ledger: Ledger, aside: Iterable[Path]) -> None:
        """What can be read of databases that were set aside, each once."""
        for folder in aside:
            noted = f"recovered from {folder.name}"
            if ledger.db.execute(queries.PLACE, (noted,)).fetchone() is None:
                with ledger.transaction():
                    self.recovered = recovery.recover(folder, ledger.db)
                    ledger.db.execute(queries.SAVE_PLACE, (noted, str(self.recovered)))
                ledger.load()
            (folder / database.WAITS).unlink(missing_ok=True)

    def _work(self, work: Callable[[], T]) -> T:
        """`work` in the lock, once more on a recovered database when this one turns out to be damaged."""
        with self._lock:
            try:
                if self._ledger.is_stale:
                    self._ledger.load()
                return work()
            except sqlite3.OperationalError as error:
                raise DiskTrouble(f"spool {self.folder}: {error}; nothing that was accepted is lost") from None
            except (FileDamaged, sqlite3.DatabaseError) as error:
                if isinstance(error, sqlite3.ProgrammingError):
                    raise
            refused = self._ledger.refused
            self._ledger.db.close()
            self._ledger = self._recover()
            self._ledger.refused.update(refused)
            self.healed += 1
            return work()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the folder. What is in the spool stays."""
        with self._lock, suppress(sqlite3.ProgrammingError):  # closed twice is closed
            if self._ledger.refused:
                with suppress(DiskTrouble, FileDamaged), self._ledger.transaction():
                    pass  # notes what was refused
            self._ledger.db.close()
            self._writer.release()

    # accepting

    def accept(
        self,
        rows: Sequence[Rows],
        *,
        mark: FileMark | None = None,
        place: tuple[str, str] | None = None,
        waits: bool = False,
    ) -> None:
        """All of `rows`, `mark` and `place` with them, are on disk when this returns; or none, and it raises.

        `place` is (source, how far it has come), see `place`; with `waits` the caller keeps what is refused and tries
        again, so it is not counted. Raises `SpoolFull` (policy `refuse`) and `DiskTrouble`.
        """
        ticket = Ticket(rows, mark, place, waits)
        with self._waiting_lock:
            self._waiting.append(ticket)
        with self._lock:
            if not ticket.done:
                with self._waiting_lock:
                    tickets, self._waiting = self._waiting, []
                self._commit(tickets)
        if ticket.failure is not None:
            raise ticket.failure

    def _commit(self, tickets: list[Ticket]) -> None:
        try:
            try:
                self._work(lambda: self._take(tickets))
            except DiskTrouble:
                if not self._make_way():
                    raise
                self._work(lambda: self._take(tickets))
        except DiskTrouble as trouble:
            for ticket in tickets:
                admission.count_refused(self._ledger, ticket)
                ticket.failure = trouble
        except BaseException as error:
            for ticket in tickets:
                ticket.failure = RuntimeError(f"the spool failed: {error!r}")
            raise
        finally:
            for ticket in tickets:
                ticket.done = True

    def _take(self, tickets: list[Ticket]) -> None:
        with self._ledger.transaction():
            for ticket in tickets:
                try:
                    admission.take(self._ledger, ticket, limits=self._limits, now_us=self._clock_us())
                except SpoolFull as full:
                    ticket.failure = full

    def place(self, source: str) -> str | None:
        """How far a source has come, as it said with its last rows."""
        row = self._work(lambda: self._ledger.db.execute(queries.PLACE, (source,)).fetchone())
        return None if row is None else row[0]

    def places(self, prefix: str) -> dict[str, str]:
        """Those of all sources whose names begin so."""
        rows = self._work(lambda: self._ledger.db.execute(queries.PLACES, (len(prefix), prefix)).fetchall())
        return dict(rows)

    # sending

    def turn(
        self,
        acknowledged: Iterable[FrameKey] = (),
        *,
        room_bytes: int = 0,
        frame_bytes_max: int,
        live_share: float = 0.5,
    ) -> list[Cut]:
        """Delete what the broker has acknowledged and cut new frames for up to `room_bytes`, in one commit.

        Raises `DiskTrouble`; then nothing has happened and the same call may be made again.
        """
        keys = list(acknowledged)

        def work() -> list[Cut]:
            return self._turn(keys, room_bytes, frame_bytes_max, live_share)

        try:
            return self._work(work)
        except DiskTrouble:
            with self._lock:
                if not self._make_way() and not database.free_reserve(self.folder, self._ledger.db):
                    raise
            return self._work(work)

    def _turn(self, keys: list[FrameKey], room_bytes: int, frame_bytes_max: int, live_share: float) -> list[Cut]:
        ledger = self._ledger
        cuts: list[Cut] = []
        if not keys and not (room_bytes > 0 and ledger.known.unframed):
            return cuts
        with ledger.transaction():
            now_us = self._clock_us()
            for key in keys:
                if self._limits.keeps:
                    kept.keep(ledger, key, acknowledged_us=now_us)
                framing.remove(ledger, key, acknowledged_us=now_us)
            kept.forget(ledger, self._limits, now_us)
            if room_bytes > 0:
                cuts = framing.cut(ledger, room_bytes, frame_bytes_max, live_share=live_share)
        if not ledger.known.bytes:
            self._give_back()
        return cuts

    def send_again(self) -> list[Cut]:
        """The next frames that a person asked to be sent again, cut as they were. Forgets what was kept long enough."""

        def work() -> list[Cut]:
            ledger, now_us = self._ledger, self._clock_us()
            asked = kept.asked(ledger)
            if not asked and not kept.overdue(ledger, self._limits, now_us):
                return []
            with ledger.transaction():
                cuts = kept.again(ledger, limits=self._limits, now_us=now_us) if asked else []
                kept.forget(ledger, self._limits, now_us)
            return cuts

        return self._work(work)

    def _make_way(self) -> bool:
        """Copies of what the broker has go when the disk is full. False if there are none."""
        if not self._ledger.known.kept_bytes:
            return False
        database.free_reserve(self.folder, self._ledger.db)
        with suppress(DiskTrouble, FileDamaged), self._ledger.transaction():
            kept.forget_all(self._ledger)
        return not self._ledger.known.kept_bytes

    def prefer_new(self, *, waited_s_max: float = 0.0) -> None:
        """If what goes first has waited so long: from now on new readings go before it. Not remembered.

        What came with `waits` (files) keeps its order.
        """
        before_us = self._clock_us() - int(waited_s_max * 1e6)
        self._work(lambda: framing.prefer_new(self._ledger, accepted_before_us=before_us))

    @property
    def prefers_new(self) -> bool:
        known = self._ledger.known
        return known.live_from is not None and known.unframed > 0

    def unacknowledged(self) -> list[Cut]:
        """Frames that have an identity and wait for the broker's word, oldest first."""
        rows = self._work(lambda: self._ledger.db.execute(queries.FRAMED).fetchall())
        return [Cut(FrameKey(*row[:3]), *row[3:]) for row in rows]

    def read(self, key: FrameKey) -> RawFrame:
        """A frame's content. Raises `Damaged` where a group is not as it was written, `KeyError` for no such frame."""
        return self._work(lambda: framing.read(self._ledger, key))

    def discard(self, key: FrameKey) -> None:
        """Drop a frame that can never be sent, counted as dropped."""

        def work() -> None:
            with self._ledger.transaction():
                framing.remove(self._ledger, key, acknowledged_us=None)

        self._work(work)

    def split(self, key: FrameKey) -> bool:
        """Half of a frame that the broker found too large keeps its identity, the rest is cut anew later.

        Only for a frame that no broker has ever taken. False if it is a single row: then nothing can be done.
        """

        def work() -> bool:
            with self._ledger.transaction():
                done = framing.split(self._ledger, key)
            self._ledger.load()  # rare, and simpler than to count along
            return done

        return self._work(work)

    # looking

    def counts(self, device_id: str) -> Counts:
        """What one device has gone through, by this spool."""
        with self._lock:
            known = self._ledger.known
            number = known.devices.get(device_id)
            counts = Counts(device_id) if number is None else known.counts[number]
            return replace(counts, refused=counts.refused + self._ledger.refused.get(device_id, 0))

    def devices(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._ledger.known.devices)

    @property
    def spool_id(self) -> str:
        return str(self._ledger.spool_id)

    @property
    def unframed(self) -> int:
        """Groups that no frame holds yet."""
        return self._ledger.known.unframed

    @property
    def bytes(self) -> int:
        return self._ledger.known.bytes

    @property
    def kept_bytes(self) -> int:
        """Of acknowledged frames that stay; not among `bytes`."""
        return self._ledger.known.kept_bytes

    def free_disk_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    # files

    def mark(self, sha256: str, device_id: str) -> FileMark | None:
        """How far a file has come for a device, if this spool knows it."""
        row = self._work(lambda: self._ledger.db.execute(queries.MARK, (sha256, device_id)).fetchone())
        return None if row is None else FileMark(*row)

    def forget(self, sha256: str, device_id: str) -> None:
        """Let a file be sent once more. Its rows that still wait stay."""
        with self._lock, self._ledger.transaction():
            self._ledger.db.execute(queries.UNMARK_GROUPS, (sha256, device_id))
            self._ledger.db.execute(queries.FORGET, (sha256, device_id))

    def _give_back(self) -> None:
        """Return the room of a long backlog to the disk, now that nothing waits. A nicety: failing is no harm."""
        database.make_reserve(self.folder)
        db = self._ledger.db
        with suppress(sqlite3.OperationalError):
            if db.execute("pragma freelist_count").fetchone()[0] > 1024:
                db.execute("pragma incremental_vacuum").fetchall()
                db.execute("pragma wal_checkpoint(truncate)").fetchall()
