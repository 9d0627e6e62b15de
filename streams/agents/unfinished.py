"""What a broker has left without an end: parts of the former owner's transaction, neither committed nor aborted.

Blocks. Asked when the former owner is fenced, before its states are read.

Kafka's transaction coordinator takes a partition without a leader for one that was deleted (4.3:
`KRaftMetadataCache.getPartitionLeaderEndpoint`; before, it waited for a leader). While a broker stops or starts its
partitions have none: then the coordinator counts a transaction as complete of which some partitions, or all, never get
the marker that commits or aborts it. What lies there stays pending until our next transaction in that partition ends,
and shares its fate. So a committed transaction of which the state is not seen would be done again and be there twice,
and an aborted one would be committed beside the one that repeats it.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.client import connection, reader
from infra.offsets import ends
from infra.whole_topic import partition_to_end
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Unavailable
from schemas.frames import CleanFrame, DeviceState, WindowFrame
from schemas.topics import READINGS_CLEAN, STREAMS_GROUP, STREAMS_STATE, WINDOWS
from streams.agents.delivered import SOURCES
from streams.agents.takeover import committed_offsets
from streams.agents.transaction import Transactions
from streams.state import NOT_YET

log = structlog.get_logger()

TOPICS = (STREAMS_STATE, READINGS_CLEAN, WINDOWS)
"""Of which a partition is one owner's alone. Alarms, answers and rejected records have an identity: who reads one twice
knows it."""

MARKERS_S = 0.02  # markers take some milliseconds

TAIL = 1_000
"""Offsets before what is pending that are looked at: a transaction's last records lie right before its marker."""


class Fate(StrEnum):
    """How a transaction without an end is ended."""

    COMMIT = "commit"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Seen:
    """What shows how the transaction ended where it did end."""

    states_pending: bool  # its states are neither committed nor aborted
    states_aborted: bool = False
    offsets_moved: bool = False  # the offsets committed lie behind what its states have applied
    state_ms: int | None = None  # when the newest committed state was written, by its writer; None: there is none
    clean_ms: int | None = None  # the same of clean frames


def fate_of(seen: Seen) -> Fate:
    """As it ended where it did end; where nothing shows, nobody has seen it, and it never was.

    Clean frames are written before the states of their transaction, and after those of the one before: newer than the
    newest committed state, they are of the transaction whose states are pending.
    """
    if not seen.states_pending:
        return Fate.ABORT if seen.states_aborted else Fate.COMMIT
    clean_seen = seen.clean_ms is not None and (seen.state_ms is None or seen.clean_ms > seen.state_ms)
    return Fate.COMMIT if clean_seen or seen.offsets_moved else Fate.ABORT


def finish(kafka: str, codec: Codec, number: int, transactions: Transactions, *, timeout_s: int) -> None:
    """End what the former owner's transaction left without an end in partition `number`."""
    admin = AdminClient(connection(kafka))
    stable, left = _pending(admin, number, timeout_s)
    if not left:
        return
    certain = Consumer(reader(kafka, group=STREAMS_GROUP))
    plain = Consumer({**reader(kafka, group=STREAMS_GROUP), "isolation.level": "read_uncommitted"})
    try:
        states = _records(certain, STREAMS_STATE, number, 0, timeout_s)
        clean = _records(certain, READINGS_CLEAN, number, stable[READINGS_CLEAN] - TAIL, timeout_s)
        written = _records(plain, STREAMS_STATE, number, stable[STREAMS_STATE] - TAIL, timeout_s)
        pending = {topic: _records(plain, topic, number, stable[topic], timeout_s) for topic in left}
        offsets, _ = committed_offsets(certain, kafka, number)
    finally:
        certain.close()
        plain.close()
    fate = fate_of(
        Seen(
            states_pending=STREAMS_STATE in left,
            states_aborted=_offset(written) > _offset(states),
            offsets_moved=_moved(codec, states, pending.get(STREAMS_STATE, []), offsets),
            state_ms=_written_ms(states),
            clean_ms=_written_ms(clean),
        )
    )
    last = {topic: messages[-1] for topic, messages in pending.items() if messages}
    log.warning("transaction.unfinished", partition=number, topics=left, ended=fate)
    transactions.end(
        [(topic, m.key(), _nothing_new(codec, topic, m.value())) for topic, m in last.items()],
        commit=fate is Fate.COMMIT,
    )
    until = time.monotonic() + timeout_s  # the broker answers before it has written the markers
    while _pending(admin, number, timeout_s)[1]:
        if time.monotonic() > until:
            raise Unavailable(f"partition {number} of {', '.join(left)} is still pending after {timeout_s} s")
        time.sleep(MARKERS_S)


def _pending(admin: AdminClient, number: int, timeout_s: int) -> tuple[dict[str, int], list[str]]:
    """Where what is certain ends, by topic, and the topics in which more lies behind. Raises `Unavailable`."""
    parts = [TopicPartition(topic, number) for topic in TOPICS]
    stable = _ends(admin, parts, IsolationLevel.READ_COMMITTED, timeout_s)
    last = _ends(admin, parts, IsolationLevel.READ_UNCOMMITTED, timeout_s)
    return stable, [topic for topic in TOPICS if stable[topic] < last[topic]]


def _moved(codec: Codec, states: list[Message], pending: list[Message], offsets: Mapping[str, TopicPartition]) -> bool:
    """Whether offsets were committed behind what pending states have applied beyond the committed ones."""
    before = {message.key(): _positions(codec, message.value()) for message in states if message.value()}
    after = {message.key(): _positions(codec, message.value()) for message in pending if message.value()}
    return any(
        position > before.get(key, {}).get(topic, NOT_YET) and offsets[topic].offset > position
        for key, positions in after.items()
        for topic, position in positions.items()
    )


def _positions(codec: Codec, value: bytes) -> dict[str, int]:
    """Of a state that can be read."""
    try:
        state = codec.decode_frame(DeviceState, value)
    except Unreadable:
        return {}
    positions = (state.readings_position, state.heartbeats_position, state.actions_position)
    return dict(zip(SOURCES, positions, strict=True))


def _nothing_new(codec: Codec, topic: str, value: bytes | None) -> bytes | None:
    """A record that says no more than `value` does: the frame without a row, or the same state."""
    if topic == READINGS_CLEAN:
        clean = codec.decode_frame(CleanFrame, value)
        grids = ("logged", "values", "quality", "tests")
        return codec.encode(replace(clean, times=clean.times[:0], **{name: getattr(clean, name)[:0] for name in grids}))
    if topic == WINDOWS:
        closed = codec.decode_frame(WindowFrame, value)
        columns = [n for n in WindowFrame.__slots__ if isinstance(getattr(closed, n), np.ndarray)]
        return codec.encode(replace(closed, channels=(), **{name: getattr(closed, name)[:0] for name in columns}))
    return value


def _ends(admin: AdminClient, parts: list[TopicPartition], level: IsolationLevel, timeout_s: int) -> dict[str, int]:
    """Of each topic's partition, for who reads by this level. Raises `Unavailable`."""
    try:
        return {topic: end for (topic, _), end in ends(admin, parts, within_s=timeout_s, level=level).items()}
    except KafkaException as error:
        raise Unavailable(f"the ends of {', '.join(TOPICS)} are not answered: {error.args[0].str()}") from None


def _records(consumer: Consumer, topic: str, number: int, since: int, timeout_s: int) -> list[Message]:
    """Those at and behind an offset. Raises `Unavailable`."""
    found = partition_to_end(consumer, topic, number, since=since, answer_s=timeout_s, read_s=10 * timeout_s)
    return list(found)


def _offset(messages: list[Message]) -> int:
    return int(messages[-1].offset()) if messages else -1


def _written_ms(messages: list[Message]) -> int | None:
    return int(messages[-1].timestamp()[1]) if messages else None
