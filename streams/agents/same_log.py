"""Whether the logs of the source topics are those that a partition's states and offsets are of. Blocks.

A topic that is deleted and made again begins anew at offset 0. States and offsets of the former log would then have its
records skipped as applied before, up to where the former one ended, without a word. So who takes a partition over looks
at the last record that was applied: whether the log goes that far, and has there a record of that device, of readings a
frame that it has had. The same finds a log whose end a broker has lost, and which has grown from there.
"""

import time
from collections.abc import Collection, Mapping
from operator import attrgetter

import structlog
from confluent_kafka import Consumer, TopicPartition

from infra.offsets import span
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Unavailable
from schemas.frames import RawFrame
from schemas.topics import READINGS_RAW
from streams.agents.delivered import SOURCES
from streams.state import State

log = structlog.get_logger()

POSITIONS = dict(zip(SOURCES, ("readings_position", "heartbeats_position", "actions_position"), strict=True))
"""The field of a state that says up to where it is applied, by source topic."""

AGAIN_S, AGAIN_S_MAX = 0.1, 2.0
"""A log that is shorter than what was read of it is asked for again: a new leader may need a moment."""


def begins_anew(
    consumer: Consumer,
    topic: str,
    number: int,
    *,
    committed: int,
    states: Collection[State],
    codec: Codec,
    timeout_s: float,
) -> int | None:
    """Where to begin in partition `number` of a source topic that is not the log it was; None: it is.

    Args:
        consumer: made as a `reader`.
        topic: of `SOURCES`.
        number: of the partition.
        committed: the group's offset; below 0: none.
        states: whose positions are of this log.
        codec: for frames.
        timeout_s: for each of the broker's answers. Raises `Unavailable`, `KafkaException`.
    """
    position = attrgetter(POSITIONS[topic])
    begin, end = span(consumer, topic, number, within_s=timeout_s)
    read_to = max([committed, *(position(state) + 1 for state in states)])
    until = time.monotonic() + AGAIN_S_MAX
    while read_to > end and time.monotonic() < until:
        time.sleep(AGAIN_S)
        begin, end = span(consumer, topic, number, within_s=timeout_s)
    last = max((state for state in states if begin <= position(state) < end), key=position, default=None)
    start = begin
    if last is not None:
        where = TopicPartition(topic, number, position(last))
        if _is_last_of(last, consumer, where, codec, timeout_s):
            start = where.offset + 1  # up to there it is as it was; of what lies behind, some may be new already
    if read_to <= end and (last is None or start > begin):
        return None
    log.warning("log.made_anew", topic=topic, partition=number, read_to=read_to, end=end, start=start)
    return start


def _is_last_of(state: State, consumer: Consumer, where: TopicPartition, codec: Codec, timeout_s: float) -> bool:
    """Whether the record there can be the last one that was applied to the state."""
    consumer.assign([where])
    try:
        message = None
        while message is None or (message.error() and message.error().retriable()):
            message = consumer.poll(timeout_s)
            if message is None:
                raise Unavailable(f"{where.topic}/{where.partition} at {where.offset} is not answered")
    finally:
        consumer.unassign()
    if message.error() is not None or message.offset() != where.offset:
        return False
    if (message.key() or b"").decode(errors="replace") != state.device_id:
        return False
    return where.topic != READINGS_RAW or _has_had(state, codec, message.value())


def _has_had(state: State, codec: Codec, value: bytes | None) -> bool:
    """Whether a frame is among those that a device's state has received."""
    try:
        frame = codec.decode_frame(RawFrame, value)
    except Unreadable:
        return False
    return state.received.may_hold(frame.spool_id, frame.sequence)


def shrunk(ends: Mapping[tuple[str, int], int], before: Mapping[tuple[str, int], int]) -> list[tuple[str, int]]:
    """Partitions that end before what had been read of them: they were made anew beneath us."""
    return [where for where, end in ends.items() if end < before.get(where, 0)]
