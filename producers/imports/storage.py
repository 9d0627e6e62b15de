"""Whether what the broker has taken is in the database. Knows groups and offsets; knows no SQL.

The stage's committed offset moves in the transaction that wrote its results, the sink's after the transaction that
stored them. So a record of `readings.raw` is stored once the stage has passed it, and the sink has passed what the
stage had written by then. What stage or sink could not take is in `readings.rejected`, with where it lay.
"""

from collections.abc import Iterable
from datetime import datetime

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.client import reader
from infra.offsets import committed, mark_of, span
from infra.whole_topic import partitions_of, read_to_end
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Unavailable
from schemas.keys import partition_of
from schemas.records import ImportStatus, Rejected
from schemas.topics import READINGS_CLEAN, READINGS_RAW, READINGS_REJECTED, SINK_GROUP, STREAMS_GROUP

SINCE_MS = 60_000  # clocks of broker and importer may differ


class Storage:
    """Asks the broker; remembers what it has to ask next."""

    def __init__(self, kafka: str) -> None:
        self.kafka = kafka
        self._stage = Consumer(reader(kafka, group=STREAMS_GROUP))
        self._sink = Consumer(reader(kafka, group=SINK_GROUP))
        self._count = 0
        self._clean_ends: dict[tuple[int, int], int] = {}  # (partition, end in readings.raw): end in readings.clean

    def close(self) -> None:
        self._stage.close()
        self._sink.close()

    def raw_end(self, device_id: str) -> tuple[int, int]:
        """The device's partition of `readings.raw` and its end. Raises `Unavailable`."""
        if not self._count:
            self._count = len(partitions_of(self._stage, self.kafka, READINGS_RAW))
        partition = partition_of(device_id, self._count)
        return partition, self._end(READINGS_RAW, partition)

    def stored(self, ends: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
        """Of (partition, end), those up to which all of `readings.raw` is in the database. Raises `Unavailable`."""
        wanted = set(ends)
        stage = self._positions(self._stage, READINGS_RAW, {partition for partition, _ in wanted})
        for partition, end in wanted - self._clean_ends.keys():
            if stage.get(partition, -1) >= end:  # asked before the end of what it has written
                self._clean_ends[partition, end] = self._end(READINGS_CLEAN, partition)
        passed = {each: self._clean_ends[each] for each in wanted & self._clean_ends.keys()}
        sink = self._positions(self._sink, READINGS_CLEAN, {partition for partition, _ in passed})
        done = {each for each, clean_end in passed.items() if sink.get(each[0], -1) >= clean_end}
        for each in done:
            del self._clean_ends[each]
        return done

    def _positions(self, consumer: Consumer, topic: str, partitions: set[int]) -> dict[int, int]:
        """What a group has committed itself; an offset that an operator has set says nothing of what was done."""
        if not partitions:
            return {}
        try:
            found = committed(consumer, [TopicPartition(topic, partition) for partition in sorted(partitions)])
        except KafkaException as error:
            raise Unavailable(f"kafka at {self.kafka} does not answer: {error.args[0].str()}") from None
        return {one.partition: one.offset for one in found if mark_of(one.metadata)}

    def _end(self, topic: str, partition: int) -> int:
        try:
            return span(self._stage, topic, partition)[1]
        except KafkaException as error:
            raise Unavailable(f"kafka at {self.kafka} does not answer: {error.args[0].str()}") from None


def rejections(kafka: str, *, since: datetime, codec: Codec | None = None) -> list[Rejected]:
    """What could not be taken since a time. Raises `Unavailable`."""
    codec = codec or Codec()
    since_ms = int(since.timestamp() * 1000) - SINCE_MS
    found = []
    for message in read_to_end(kafka, READINGS_REJECTED, group="telltale-imports-rejected", since_ms=since_ms):
        try:
            found.append(codec.decode(Rejected, message.value()))
        except Unreadable:
            continue
    return found


def rejected_of(status: ImportStatus, found: Iterable[Rejected]) -> list[Rejected]:
    """Of those, what was in a file: by where it lay in `readings.raw`; of the sink's, by device and time."""
    mine = []
    for each in found:
        if each.topic == READINGS_RAW:
            inside = (status.raw_from or 0) <= each.offset < (status.raw_to or 0)
            if each.partition == status.raw_partition and inside and each.device_id in (None, status.device_id):
                mine.append(each)
        elif each.device_id == status.device_id and status.found is not None and each.time >= status.found:
            mine.append(each)
    return mine
