"""Up to where the source topics of a partition have been delivered: nothing is taken twice, nothing is skipped."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from infra.client import reader
from schemas.topics import ALARM_ACTIONS, HEARTBEATS, READINGS_RAW, STREAMS_GROUP
from streams.agents.batches import Record

SOURCES = (READINGS_RAW, HEARTBEATS, ALARM_ACTIONS)

JUDGED_BY = (READINGS_RAW, HEARTBEATS)
"""What must have been read for silence to be judged. Actions say nothing of it, and our own answers stand among them:
behind the last stands a transaction's marker, never a record."""


class GapError(RuntimeError):
    """Records between those applied and those delivered exist and did not come: never skip, start again."""


class Delivered:
    """The next offset of each source topic, from the time the partition was taken over."""

    def __init__(self, number: int, start: Mapping[str, int], *, kafka: str, timeout_s: int) -> None:
        self.next = dict(start)
        self._number = number
        self._kafka = kafka
        self._timeout_s = timeout_s

    def fresh(self, records: Sequence[Record]) -> dict[str, list[Record]]:
        """Those that have not been delivered before, by topic; they are delivered now. Raises `GapError`.

        Args:
            records: those of one topic in log order.
        """
        found: dict[str, list[Record]] = {}
        for topic, some in groupby(records, key=attrgetter("topic")):
            found.setdefault(topic, []).extend(self._fresh(topic, list(some)))
        return found

    def left(self, ends: Mapping[str, int]) -> dict[str, int]:
        """Records up to `ends` that have not been delivered, of each topic that silence is judged by."""
        return {topic: max(0, ends[topic] - self.next[topic]) for topic in JUDGED_BY if topic in ends}

    def _fresh(self, topic: str, records: list[Record]) -> list[Record]:
        """None may be missing between them and those before."""
        expected = self.next[topic]
        if records[0].offset != expected or records[-1].offset != expected + len(records) - 1:
            fresh = []
            for record in records:
                if record.offset < expected:
                    continue  # delivered again after a rebalance
                if record.offset > expected:
                    self._refuse_a_gap(record, expected)
                expected = record.offset + 1
                fresh.append(record)
            records = fresh
        if records:
            self.next[topic] = records[-1].offset + 1
        return records

    def _refuse_a_gap(self, record: Record, expected: int) -> None:
        """Offsets may be missing from the log (a transaction's marker, retention); a record may not be skipped."""
        consumer = Consumer(reader(self._kafka, group=STREAMS_GROUP))
        try:
            consumer.assign([TopicPartition(record.topic, self._number, expected)])
            message: Any = None
            while message is None or (message.error() and message.error().retriable()):
                message = consumer.poll(self._timeout_s)
                if message is None:
                    raise TimeoutError(f"{record.topic}/{self._number} at {expected} is not answered")
            if not message.error() and message.offset() < record.offset:
                where = f"{record.topic}/{self._number}"
                raise GapError(f"{where}: expected {expected}, got {record.offset}, {message.offset()} exists")
        finally:
            consumer.close()
