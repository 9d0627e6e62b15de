"""When rows became visible, told by the sink's positions: a row is visible with the position that is stored with it.

Positions are few: looking at them often costs the database little, where looking for rows would be its largest load.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psycopg
from confluent_kafka import Consumer, Message
from fix_services import steadily

from infra.client import reader
from infra.whole_topic import partition_to_end, partitions_of
from schemas.codec import Codec
from schemas.frames import CleanFrame
from schemas.topics import READINGS_CLEAN

READ_S_MAX = 600.0  # of a partition: who asks decodes meanwhile
POSITIONS = "SELECT part, next_offset FROM sink_offsets WHERE topic = %s"
Positions = dict[int, int]  # next offset by partition


class Marks(list[tuple[float, Positions]]):
    """What was seen: (`time.time()`, positions), one for each change."""

    @property
    def offsets(self) -> int:
        """Below the last positions, all partitions together."""
        return sum(self[-1][1].values()) if self else 0

    def seen(self) -> dict[tuple[int, int], float]:
        """When each (partition, offset) became visible."""
        found: dict[tuple[int, int], float] = {}
        stands: Positions = {}
        for at, positions in self:
            for part, offset in positions.items():
                found.update(((part, each), at) for each in range(stands.get(part, 0), offset))
            stands = positions
        return found


@contextmanager
def watched(dsn: str, *, every_s: float) -> Iterator[Marks]:
    """The marks grow while this is open."""
    marks = Marks()
    with psycopg.connect(dsn, autocommit=True) as looking:

        def look() -> None:
            positions = dict(looking.execute(POSITIONS, (READINGS_CLEAN,)).fetchall())
            if not marks or positions != marks[-1][1]:
                marks.append((time.time(), positions))

        with steadily(look, every_s=every_s):
            yield marks


def messages(kafka: str, topic: str, since: Mapping[int, int] | None = None) -> Iterator[Message]:
    """All that is committed, partition by partition in order; from offset `since` where one is given."""
    consumer = Consumer(reader(kafka, group="bench-reads-back"))
    for part in partitions_of(consumer, kafka, topic):
        yield from partition_to_end(consumer, topic, part, since=(since or {}).get(part, 0), read_s=READ_S_MAX)
    consumer.close()


def clean(kafka: str, since: Mapping[int, int] | None = None) -> Iterator[tuple[int, int, CleanFrame]]:
    """(partition, offset, frame) of `readings.clean`."""
    codec = Codec()
    for message in messages(kafka, READINGS_CLEAN, since):
        yield message.partition(), message.offset(), codec.decode_frame(CleanFrame, message.value())


@dataclass(frozen=True)
class Stock:
    """How many readings lie before each offset of `readings.clean`: transactions' markers take offsets too."""

    parts: dict[int, tuple[np.ndarray, np.ndarray]]  # offsets of records; readings before each, and in all

    @classmethod
    def of(cls, kafka: str) -> "Stock":
        return cls.counted((part, offset, frame.values.size) for part, offset, frame in clean(kafka))

    @classmethod
    def counted(cls, records: Iterable[tuple[int, int, int]]) -> "Stock":
        """From (partition, offset, readings)."""
        found: dict[int, list[tuple[int, int]]] = {}
        for part, offset, readings in records:
            found.setdefault(part, []).append((offset, readings))
        made = {part: np.array(each).T for part, each in found.items()}
        return cls({part: (offsets, np.append(0, np.cumsum(sizes))) for part, (offsets, sizes) in made.items()})

    @property
    def readings(self) -> int:
        return sum(int(before[-1]) for _, before in self.parts.values())

    def stored(self, positions: Positions) -> int:
        """Readings below these positions."""
        return sum(
            int(before[np.searchsorted(offsets, positions.get(part, 0))])
            for part, (offsets, before) in self.parts.items()
        )

    def progress(self, marks: Marks) -> list[tuple[float, int]]:
        """(time, readings stored until then) of each mark."""
        return [(at, self.stored(positions)) for at, positions in marks]
