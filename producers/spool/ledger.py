"""What the spool's database says, held in memory beside it. Knows SQLite and counters; decides nothing.

Every change is made in a `transaction`: committed it is in both, failed it is in neither.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from producers.spool import queries
from producers.spool.policy import Counts, DiskTrouble, FrameKey

GROUP_OVERHEAD_BYTES = 64  # of a group in the file, about: keys, counters, its place in `framed`


class FileDamaged(Exception):  # noqa: N818 - what has happened
    """SQLite says that the database is not as it was written. What can be read of it can be recovered."""


@dataclass(slots=True)
class Known:
    """Made anew from the database when a transaction fails."""

    devices: dict[str, int] = field(default_factory=dict)
    counts: dict[int, Counts] = field(default_factory=dict)
    streams: dict[tuple[int, tuple[str, ...]], int] = field(default_factory=dict)
    channels: dict[int, tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    next_group: int = 1
    unframed: int = 0
    unframed_bytes: int = 0
    cut_to: int = 0  # every group up to here has a frame
    live_from: int | None = None  # groups from here on go before the older ones; None: all in one order
    live_to: int = 0  # of those, every group up to here has a frame
    bytes: int = 0
    kept_bytes: int = 0  # of acknowledged frames that stay
    changed: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Waits:
    """What waits of one device."""

    groups: int = 0
    bytes: int = 0
    readings: int = 0
    oldest_us: int | None = None


def waiting(db: sqlite3.Connection, streams: Mapping[int, int]) -> dict[int, Waits]:
    """{device: what waits}, of {stream: device}; in one pass, in bounded memory."""
    by_stream: dict[int, Waits] = defaultdict(Waits)
    for stream, size, accepted_us, readings in db.execute(queries.WAITING):
        waits = by_stream[stream]
        waits.groups += 1
        waits.bytes += size + GROUP_OVERHEAD_BYTES
        waits.readings += readings
        if waits.oldest_us is None or accepted_us < waits.oldest_us:
            waits.oldest_us = accepted_us
    by_device: dict[int, Waits] = {}
    for stream, waits in by_stream.items():
        device = streams[stream]
        of = by_device.setdefault(device, Waits())
        of.groups += waits.groups
        of.bytes += waits.bytes
        of.readings += waits.readings
        of.oldest_us = min(each for each in (of.oldest_us, waits.oldest_us) if each is not None)
    return by_device


def where(key: FrameKey) -> tuple[str, str, int]:
    """The parameters of queries for one frame."""
    return key.spool_id, key.device_id, key.sequence


class Ledger:
    """Of one open database. Its owner holds a lock around every call."""

    def __init__(self, db: sqlite3.Connection, folder: Path) -> None:
        self.db = db
        self.folder = folder
        self.refused: dict[str, int] = defaultdict(int)  # not yet in the database
        self.known = Known()
        self.is_stale = True  # what a transaction that failed has left in memory, until it can be read anew
        self.load()
        self.number, self.spool_id = db.execute(
            "select number, spool_id from spools order by number limit 1"
        ).fetchone()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits what the block did, with every counter it moved; on any error undoes both and reads memory anew.

        Raises `DiskTrouble` and `FileDamaged`.
        """
        try:
            self.db.execute("begin immediate")
            yield
            refused = dict(self.refused)
            for device_id, readings in refused.items():
                device = self.device(device_id)
                self.set(device, refused=self.known.counts[device].refused + readings)
            for number in self.known.changed:
                c = self.known.counts[number]
                values = (c.next_sequence, c.accepted, c.sent, c.dropped, c.refused, c.acknowledged_us, number)
                self.db.execute(queries.SAVE_DEVICE, values)
            self.db.execute("commit")
        except BaseException as error:
            if self.db.in_transaction:
                with suppress(sqlite3.DatabaseError):
                    self.db.execute("rollback")
            self.is_stale = True
            with suppress(sqlite3.DatabaseError):
                self.load()
            if isinstance(error, sqlite3.OperationalError):
                raise DiskTrouble(f"spool {self.folder}: {error}; nothing that was accepted is lost") from None
            if isinstance(error, sqlite3.DatabaseError):
                raise FileDamaged(str(error)) from None
            raise
        self.known.changed.clear()
        for device_id, readings in refused.items():
            self.refused[device_id] -= readings
            if not self.refused[device_id]:
                del self.refused[device_id]

    def load(self) -> None:
        """Memory from the database."""
        known = Known()
        for row in self.db.execute(queries.DEVICES):
            known.devices[row[1]] = row[0]
            known.counts[row[0]] = Counts(*row[1:])
        for number, device, channels in self.db.execute(queries.STREAMS):
            names = tuple(orjson.loads(channels))
            known.streams[device, names] = number
            known.channels[number] = (device, names)
        streams = {stream: device for stream, (device, _) in known.channels.items()}
        for device, waits in waiting(self.db, streams).items():
            known.counts[device] = replace(
                known.counts[device], groups=waits.groups, bytes=waits.bytes, oldest_us=waits.oldest_us
            )
            known.bytes += waits.bytes
        last, count = self.db.execute(queries.TOTALS).fetchone()
        known.next_group = last + 1
        framed, framed_bytes = self.db.execute(queries.FRAMED_TOTALS).fetchone()
        known.unframed = count - framed
        known.unframed_bytes = known.bytes - framed_bytes - framed * GROUP_OVERHEAD_BYTES
        known.kept_bytes = sum(size + GROUP_OVERHEAD_BYTES for _, _, size in self.db.execute(queries.KEPT))
        self.known, self.is_stale = known, False

    def set(self, device: int, **values: int | None) -> None:
        """Counters of a device, by the names of `Counts`."""
        self.known.counts[device] = replace(self.known.counts[device], **values)  # type: ignore[arg-type]  # names are those of Counts
        self.known.changed.add(device)

    def device(self, device_id: str) -> int:
        """Its number; made when it is new."""
        known = self.known
        number = known.devices.get(device_id)
        if number is None:
            row = self.db.execute(queries.INSERT_DEVICE, (device_id,))
            number = known.devices[device_id] = int(row.fetchone()[0])
            known.counts[number] = Counts(device_id)
        return number

    def stream(self, device_id: str, channels: tuple[str, ...]) -> tuple[int, int]:
        """Numbers of device and stream; made when they are new."""
        device = self.device(device_id)
        stream = self.known.streams.get((device, channels))
        if stream is None:
            text = orjson.dumps(channels).decode()
            row = self.db.execute(queries.INSERT_STREAM, (device, text))
            stream = self.known.streams[device, channels] = int(row.fetchone()[0])
            self.known.channels[stream] = (device, channels)
        return device, stream

    def release(self, device: int, *, groups: int, size: int, sent: int = 0, dropped: int = 0) -> None:
        """Counts groups that have left the table."""
        counts = self.known.counts[device]
        self.known.bytes -= size
        left = counts.groups - groups
        self.set(
            device,
            groups=left,
            bytes=counts.bytes - size,
            sent=counts.sent + sent,
            dropped=counts.dropped + dropped,
            oldest_us=counts.oldest_us if left else None,
        )
        if left and counts.oldest_us is not None:
            oldest = self.db.execute(queries.OLDEST, (device,)).fetchone()
            self.set(device, oldest_us=oldest[0] if oldest else None)
