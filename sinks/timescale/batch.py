"""What has been read and not yet stored: records in Kafka's order, with the stretch of each partition they cover.

Pure: knows records and positions; knows no broker and no database. Stretches tile: a batch begins where the last one
ended, also over offsets that hold no record for us (transaction markers, aborted and compacted records).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas.alarms import AlarmEvent
from schemas.devices import Device
from schemas.frames import CleanFrame, WindowFrame
from schemas.records import Heartbeat, ImportStatus, Rejected


class Part(NamedTuple):
    """A partition of a topic. Sorts by topic, then number: the order in which locks are taken."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


class Refusal(NamedTuple):
    """The record cannot be taken and goes to `readings.rejected`."""

    reason: str
    detail: str


class Removed(NamedTuple):
    """A null record of a compacted topic: the key is no more."""

    key: str


Body = CleanFrame | WindowFrame | Heartbeat | Device | AlarmEvent | Rejected | ImportStatus | Removed | Refusal


@dataclass(slots=True, eq=False)
class Entry:
    """One record: where it lay, what it was, what it says."""

    part: Part
    offset: int
    key: bytes | None
    payload: bytes | None
    timestamp_ms: int
    body: Body
    traceparent: bytes | None = None  # the header, where traces are collected
    rows: int = field(init=False)  # what it makes in the database; 0 where that cannot be told
    told: bool = False  # a refusal that stands in `readings.rejected`
    remainder: Body | None = None  # of a refusal of some rows: the body once the refusal is told

    def __post_init__(self) -> None:
        self.rows = self.rows_of(self.body)

    @staticmethod
    def rows_of(body: Body) -> int:
        if isinstance(body, CleanFrame):
            return body.quality.size
        if isinstance(body, WindowFrame):
            return len(body.starts)
        return 0 if isinstance(body, Refusal) else 1

    def tell(self) -> None:
        """The refusal stands in `readings.rejected`; what it left is now to be stored."""
        self.told = True
        if self.remainder is not None:
            self.body, self.remainder, self.told = self.remainder, None, False
            self.rows = self.rows_of(self.body)


class Stretch(NamedTuple):
    """Offsets [start, end) of a partition."""

    start: int
    end: int


@dataclass(slots=True, eq=False)
class Batch:
    """Entries, and the stretches that they come from; stored together or not at all."""

    entries: Sequence[Entry]
    stretches: dict[Part, Stretch]
    doubted: bool = False  # the database has found fault with one of the entries
    prepared: Any = None  # the store's: rows as they go to the database; None once an entry has changed

    @property
    def followed(self) -> list[bytes]:
        """Whose way is followed here."""
        return [entry.traceparent for entry in self.entries if entry.traceparent is not None]

    @property
    def rows(self) -> int:
        return sum(entry.rows for entry in self.entries)

    @property
    def oldest_ms(self) -> int | None:
        """When its first record was appended."""
        return self.entries[0].timestamp_ms if self.entries else None

    def halves(self) -> tuple["Batch", "Batch"]:
        """The same in two, one after the other."""
        half = len(self.entries) // 2
        former, later = self.entries[:half], self.entries[half:]
        reached = {entry.part: entry.offset + 1 for entry in former}
        return (
            Batch(former, {part: Stretch(self.stretches[part].start, end) for part, end in reached.items()}, True),
            Batch(
                later,
                {
                    p: Stretch(reached.get(p, s.start), s.end)
                    for p, s in self.stretches.items()
                    if reached.get(p, s.start) < s.end
                },
                True,
            ),
        )

    def refused(self) -> Iterator[Entry]:
        """Entries that cannot be taken and have not been told yet."""
        return (entry for entry in self.entries if isinstance(entry.body, Refusal) and not entry.told)


@dataclass(slots=True)
class Pile:
    """Records as they arrive, up to a bound. `positions` is where each partition stands before the pile."""

    rows_max: int
    bytes_max: int
    positions: dict[Part, int] = field(default_factory=dict)
    rows: int = 0
    bytes: int = 0
    _entries: list[Entry] = field(default_factory=list)
    _reached: dict[Part, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def full(self) -> bool:
        return max(self.rows, len(self._entries)) >= self.rows_max or self.bytes >= self.bytes_max

    @property
    def moved(self) -> bool:
        """Whether any partition stands further than before, with or without records."""
        return bool(self._reached)

    @property
    def oldest_ms(self) -> int | None:
        """When its first record was appended."""
        return self._entries[0].timestamp_ms if self._entries else None

    def add(self, entry: Entry) -> None:
        """A record; those of one partition come in the order of their offsets."""
        if entry.part not in self.positions:
            return  # read before the partition went away
        self._entries.append(entry)
        self.rows += entry.rows
        self.bytes += len(entry.payload or b"")
        self._reached[entry.part] = entry.offset + 1

    def reach(self, part: Part, offset: int) -> None:
        """The partition holds nothing for us before `offset`."""
        if part in self.positions and offset > self._reached.get(part, self.positions[part]):
            self._reached[part] = offset

    def take(self) -> Batch:
        """All of it; the next pile begins where this one ends."""
        stretches = {part: Stretch(self.positions[part], end) for part, end in sorted(self._reached.items())}
        batch = Batch(self._entries, stretches)
        self.positions |= self._reached
        self._entries, self._reached, self.rows, self.bytes = [], {}, 0, 0
        return batch

    def begin(self, positions: dict[Part, int]) -> None:
        """Forget everything and stand at `positions`."""
        self.take()
        self.positions = dict(positions)
