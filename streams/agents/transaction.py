"""One Kafka transaction for each batch: outputs, new states and marked source offsets, visible together or not at all.

Blocks. Knows the wire; decides nothing. Made, it fences the partition's former owner; whatever fails afterwards ends
the process.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from infra.client import connection
from infra.offsets import Mark
from infra.telling import is_fatal
from schemas.alarms import STAGE, Alarm, alarm_event, answer_event
from schemas.codec import Codec
from schemas.frames import CleanFrame, DeviceState, WindowFrame
from schemas.keys import PARTITIONER
from schemas.records import Rejected
from schemas.topics import (
    ALARM_ACTIONS,
    ALARMS,
    READINGS_CLEAN,
    READINGS_REJECTED,
    STREAMS_GROUP,
    STREAMS_STATE,
    WINDOWS,
)
from streams.agents import measured
from streams.pipeline import Outcome
from streams.state import State, to_record
from streams.stored import side_by_side

log = structlog.get_logger()

Headers = tuple[tuple[str, bytes], ...]

CELLS_MAX = 65_536
"""Readings in one output frame: 1.2 MB at most, far below the topic's limit, and enough to pay for its header."""


class Transactions:
    """A partition's, one after another."""

    def __init__(self, kafka: str, codec: Codec, number: int, *, timeout_s: int) -> None:
        self._codec = codec
        self._number = number
        self._timeout_s = timeout_s
        self._why: KafkaError | None = None
        self._producer = Producer(
            {
                **connection(kafka),
                "transactional.id": f"{STREAMS_GROUP}-{number}",
                "transaction.timeout.ms": timeout_s * 1000,
                "enable.idempotence": True,
                "acks": "all",
                "partitioner": PARTITIONER,
                "compression.type": "lz4",
                "linger.ms": 0,
                "message.max.bytes": 16 << 20,
                "queue.buffering.max.messages": 200_000,
                "queue.buffering.max.kbytes": 256 << 10,
                "error_cb": self._on_error,
            }
        )
        self._producer.init_transactions(timeout_s)

    def commit(
        self,
        outcomes: Sequence[tuple[str, Outcome]],
        rejected: Sequence[Rejected],
        touched: Sequence[State],
        *,
        offsets: Mapping[str, int],
        mark: Mark,
        group: Any,
        forgotten: Iterable[bytes] = (),
        headers: Mapping[str, Headers] | None = None,
    ) -> None:
        """One transaction.

        Args:
            outcomes: by device, in the order in which they came about.
            touched: the states that these have left.
            offsets: of the source topics, committed with `mark` for the consumer group of the metadata `group`.
            forgotten: keys of states that are to be no more.
            headers: of the output frames, by device.
        """
        began = time.monotonic()
        self._producer.begin_transaction()
        parts = [part for _, outcome in outcomes for clean in outcome.clean for part in _parts(clean)]
        closed = [frame for _, outcome in outcomes for frame in outcome.windows]
        sent: tuple[tuple[str, Sequence[CleanFrame | WindowFrame]], ...] = ((READINGS_CLEAN, parts), (WINDOWS, closed))
        for topic, frames in sent:
            for frame, value in zip(frames, self._codec.encode_each(frames), strict=True):
                self._produce(topic, frame.device_id.encode(), value, headers.get(frame.device_id) if headers else None)
        for device_id, outcome in outcomes:
            self._say(device_id, outcome)
        for refusal in rejected:
            self._produce(READINGS_REJECTED, (refusal.device_id or "").encode() or None, self._codec.encode(refusal))
        self._store(touched)
        for key in forgotten:
            self._produce(STREAMS_STATE, key, None)
        marked = [TopicPartition(topic, self._number, at, metadata=str(mark)) for topic, at in offsets.items()]
        self._producer.send_offsets_to_transaction(marked, group, self._timeout_s)
        self._producer.commit_transaction(self._timeout_s)
        measured.TRANSACTION.observe(time.monotonic() - began)
        measured.COMMITTED.is_now()
        measured.READINGS.inc(sum([part.values.size for part in parts]))
        measured.WINDOWS.inc(sum([len(frame.channels) for frame in closed]))
        for reason, count in Counter(refusal.reason for refusal in rejected).items():
            measured.REJECTED.labels(reason).inc(count)

    def alarm(self, alarm: Alarm) -> None:
        """A transaction of one alarm's event and nothing else."""
        self._producer.begin_transaction()
        self._produce_alarm(alarm)
        self._producer.commit_transaction(self._timeout_s)

    def end(self, records: Iterable[tuple[str, bytes | None, bytes | None]], *, commit: bool) -> None:
        """A transaction of these records (topic, key, value), and with it whatever is pending where they go."""
        self._producer.begin_transaction()
        for topic, key, value in records:
            self._produce(topic, key, value)
        if commit:
            self._producer.commit_transaction(self._timeout_s)
        else:
            self._producer.flush(self._timeout_s)  # what has not been sent would not be aborted, either
            self._producer.abort_transaction(self._timeout_s)

    def _say(self, device_id: str, outcome: Outcome) -> None:
        """The alarms of an outcome, and the answers to actions."""
        for alarm in outcome.alarms:
            self._produce_alarm(alarm)
        for answer in outcome.answers:
            said = answer_event(answer, time=datetime.now(UTC), speaker=STAGE)
            self._produce(ALARM_ACTIONS, device_id.encode(), said.model_dump_json().encode())
            log.info("action", action=answer.action, id=answer.alarm_id, refused=answer.reason)

    def _store(self, touched: Sequence[State]) -> None:
        together, singly = side_by_side(touched)
        for some, columns in together:
            for at, value in zip(some, self._codec.encode_columns(DeviceState, columns), strict=True):
                self._produce(STREAMS_STATE, touched[at].device_id.encode(), value)
        for at in singly:
            state = touched[at]
            self._produce(STREAMS_STATE, state.device_id.encode(), self._codec.encode(to_record(state)))

    def _produce(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        self._produce_to(self._number, topic, key, value, headers)

    def _produce_alarm(self, alarm: Alarm) -> None:
        event = alarm_event(alarm, time=datetime.now(UTC), speaker=STAGE)
        self._produce_to(-1, ALARMS, alarm.alarm_id.encode(), event.model_dump_json().encode())
        measured.ALARM_EVENTS.labels(alarm.state, alarm.severity).inc()
        log.info("alarm", state=alarm.state, rule=alarm.rule, source=alarm.source, id=alarm.alarm_id)

    def _produce_to(
        self, partition: int, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None
    ) -> None:
        marks = None if headers is None else list(headers)
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, partition=partition, headers=marks)
            except BufferError:  # librdkafka's queue is full: what is in it goes out meanwhile
                self._producer.poll(0.05)
            except KafkaException as error:
                raise self._cause(error) from None
            else:
                return

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error):
            self._why = error

    def _cause(self, error: KafkaException) -> KafkaException:
        """Why: of a producer that fails in the background (fenced, mostly), `produce` says only that it is fatal."""
        self._producer.poll(0)
        return error if self._why is None else KafkaException(self._why)


def _parts(frame: CleanFrame) -> Iterable[CleanFrame]:
    """The frame, cut into records of a bounded size."""
    rows = max(1, CELLS_MAX // max(1, len(frame.channels)))
    if len(frame.times) <= rows:
        return (frame,)
    return (
        replace(
            frame,
            times=frame.times[at : at + rows],
            logged=frame.logged[at : at + rows],
            values=frame.values[at : at + rows],
            quality=frame.quality[at : at + rows],
            tests=frame.tests[at : at + rows],
        )
        for at in range(0, len(frame.times), rows)
    )
