"""A topic followed whole: a thread reads it from its beginning on, and goes on with what comes. Knows no record.

The first failure of whoever takes the records ends the thread and is told, for a worker must not judge by half a topic.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.client import reader
from schemas.errors import Refused

log = structlog.get_logger()

RECORDS_MAX, POLL_S = 1000, 0.05
"""Of one read: more would keep `between` waiting."""


class Followed:
    """`take` is called in the thread for each record, `between` after each read."""

    def __init__(
        self,
        kafka: str,
        topic: str,
        *,
        take: Callable[[Any], None],
        failed: Callable[[BaseException], None],
        fetch_wait_ms: int,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        self._topic = topic
        self._take, self._failed, self._between = take, failed, between
        self._read_to: dict[int, int] = {}
        self._unended: set[int] = set()
        self._moved = threading.Condition()
        self._stop = threading.Event()
        about = {"fetch.wait.max.ms": fetch_wait_ms}
        self._consumer = Consumer({**reader(kafka, group=f"telltale-streams-{topic}"), **about})
        self._thread = threading.Thread(target=self._run, name=topic, daemon=True)

    def start(self, *, within_s: float) -> None:
        """Begin to read. Raises `Refused` where there is no such topic."""
        partitions = sorted(self._consumer.list_topics(self._topic, timeout=within_s).topics[self._topic].partitions)
        if not partitions:
            raise Refused(f"the broker has no topic {self._topic}; make it with: telltale topics provision")
        self._read_to, self._unended = dict.fromkeys(partitions, 0), set(partitions)
        self._consumer.assign([TopicPartition(self._topic, number, 0) for number in partitions])
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    @property
    def partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in self._read_to]

    def await_end(self, *, within_s: float) -> None:
        """Until each partition's end has been met once. Raises `TimeoutError`."""
        self._await(lambda: not self._unended, within_s)

    def await_ends(self, ends: Mapping[int, int], *, within_s: float) -> None:
        """Until each partition is read up to an offset. Raises `TimeoutError`."""
        self._await(lambda: all(self._read_to[number] >= end for number, end in ends.items()), within_s)

    def _await(self, is_read: Callable[[], bool], within_s: float) -> None:
        until = time.monotonic() + within_s
        with self._moved:
            while not is_read():
                if not self._moved.wait(timeout=max(0.0, until - time.monotonic())):
                    raise TimeoutError(f"the topic {self._topic} was not read to its end in {within_s:.0f} s")

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.consume(RECORDS_MAX, timeout=POLL_S):
                    error = message.error()
                    if error is None:
                        self._take(message)
                        self._advance(message.partition(), message.offset() + 1)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        self._advance(message.partition(), message.offset(), ended=True)
                    elif not error.retriable():
                        log.warning(f"{self._topic}.read_failed", error=str(error))
                self._between()
        except BaseException as error:  # noqa: BLE001 - a thread's failure must end the process
            self._failed(error)
        finally:
            self._consumer.close()

    def _advance(self, partition: int, offset: int, *, ended: bool = False) -> None:
        with self._moved:
            self._read_to[partition] = max(self._read_to[partition], offset)
            if ended:
                self._unended.discard(partition)
            self._moved.notify_all()
