"""Taking a partition over: the states that its former owner left, where it had got to, and whether to go on from there.

Blocks. Asked when the former owner is fenced: before, what is read here could still change.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from infra.client import reader
from infra.counted import counted
from infra.offsets import committed, mark_of, span
from infra.whole_topic import partition_to_end
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Refused
from schemas.frames import DeviceState
from schemas.topics import READINGS_RAW, STREAMS_GROUP, STREAMS_STATE
from streams.agents.delivered import SOURCES
from streams.agents.same_log import POSITIONS, begins_anew
from streams.state import NOT_YET, State, from_record

log = structlog.get_logger()

PENDING_S = 2.0
"""How long offsets may be uncertain after the former owner's transaction has ended; some 20 ms are usual."""


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A partition as it is gone on with."""

    group: Any  # the consumer group's metadata, for the transactions that commit its offsets
    generation: int
    states: dict[str, State]
    next: dict[str, int]  # by source topic: the offset to go on from
    broken: Mapping[bytes, str]  # keys of states that cannot be read and are given up, and why
    is_due: bool  # a transaction must say so at once, whether records come or not
    changed: tuple[str, ...] = ()  # devices whose states it must store


def take_over(kafka: str, codec: Codec, number: int, *, timeout_s: int) -> TakenOver:
    """Partition `number` from its last committed state and offsets; an offset without our mark is an operator's.

    Raises `Refused` where states are missing or cannot be read: only an operator may begin without them.
    """
    # librdkafka wants a group's metadata; a consumer that never joins gives it, and transactional.id fences.
    consumer = Consumer(reader(kafka, group=STREAMS_GROUP))
    try:
        group = consumer.consumer_group_metadata()
        states, broken = _states(codec, _newest(consumer, number, timeout_s))
        found, pending = committed_offsets(consumer, kafka, number)
        marks = {topic: mark_of(tp.metadata) for topic, tp in found.items() if tp.offset >= 0}
        # States that are lost take their generation with them; the marks of the other topics still know it.
        latest = max([0, *(s.generation for s in states.values()), *(m.generation for m in marks.values() if m)])
        readings = marks.get(READINGS_RAW)
        by_operator = READINGS_RAW in marks and readings is None
        anew = _begins_anew(consumer, number, states, found, generation=latest, codec=codec, timeout_s=timeout_s)
        if by_operator:  # who has said where to begin, in whatever log
            anew.pop(READINGS_RAW, None)
        start = {topic: _start(consumer, tp, timeout_s) for topic, tp in found.items()} | anew
    finally:
        consumer.close()
    forgotten: dict[str, Any] = {POSITIONS[topic]: NOT_YET for topic in anew if topic != READINGS_RAW}
    changed = tuple(states) if forgotten else ()
    states = {name: replace(states[name], **forgotten) for name in changed} or states
    if not by_operator:
        _refuse_lost_states(number, max([0, *(m.devices or 0 for m in marks.values() if m)]), len(states), broken)
    if by_operator or READINGS_RAW in anew:  # whatever is read is read from there, with new states of the data
        log.info("partition.replay", partition=number, generation=1 + latest, at=start[READINGS_RAW])
        return TakenOver(group, 1 + latest, states, start, broken, is_due=True, changed=changed)
    generation = readings.generation if readings else latest
    # What is pending ends with our own transaction: then offsets can be asked for again.
    return TakenOver(group, generation, states, start, broken, is_due=pending or bool(changed), changed=changed)


# -- states --


def _newest(consumer: Consumer, number: int, timeout_s: int) -> dict[bytes, bytes | None]:
    """Every device's last committed record in `streams.state`."""
    records = partition_to_end(consumer, STREAMS_STATE, number, answer_s=timeout_s, read_s=10 * timeout_s)
    return {record.key(): record.value() for record in records}


def _states(codec: Codec, newest: Mapping[bytes, bytes | None]) -> tuple[dict[str, State], dict[bytes, str]]:
    """By device; keys whose record cannot be read, and why."""
    states: dict[str, State] = {}
    broken: dict[bytes, str] = {}
    for key, value in newest.items():
        if value is None:
            continue
        try:
            state = from_record(codec.decode_frame(DeviceState, value))
        except Unreadable as error:
            broken[key] = f"{error.reason}: {error.detail}"
        except Exception as error:  # noqa: BLE001 - columns that do not fit each other
            broken[key] = f"{type(error).__name__}: {error}"
        else:
            states[state.device_id] = state
    return states, broken


def _refuse_lost_states(number: int, expected: int, got: int, broken: Mapping[bytes, str]) -> None:
    where = f"{STREAMS_STATE}, partition {number}"
    if broken:
        key, why = next(iter(broken.items()))
        which = f"{key.decode(errors='replace')}: {why}"
        what = f"{where}: the states of {counted(len(broken), 'device')} cannot be read ({which})"
    elif got < expected:
        what = f"{where}: expected the states of {expected} devices, got {got}: the topic was deleted or cut"
    else:
        return
    raise Refused(
        f"{what}. Going on would make windows and alarms of half the data. Stop the workers, compute again what "
        f"{READINGS_RAW} still holds with `telltale replay --from-beginning`, and start them: what stood in these "
        "states (open windows, acknowledged and shelved alarms) begins anew"
    )


# -- offsets --


def committed_offsets(consumer: Consumer, kafka: str, number: int) -> tuple[dict[str, TopicPartition], bool]:
    """The offsets by topic, and whether a transaction's offsets are pending that will never end.

    Fencing has ended our former owner's transaction, so nothing of this partition should be pending. A broker that
    stops or starts meanwhile may leave the offsets' part of it without an end (`unfinished.py` says why): they stay
    pending, and nobody who asks for what is certain gets an answer. What was committed before is an answer all the
    same: states know how far each device was applied, and our next transaction, being the same producer's, ends what
    is pending.
    """
    wanted = [TopicPartition(topic, number) for topic in SOURCES]
    try:
        return {tp.topic: tp for tp in committed(consumer, wanted, within_s=PENDING_S)}, False
    except KafkaException as error:
        if error.args[0].code() != KafkaError._TIMED_OUT:
            raise
        log.warning("offsets.pending", partition=number)
    plain = Consumer({**reader(kafka, group=STREAMS_GROUP), "isolation.level": "read_uncommitted"})
    try:
        return {tp.topic: tp for tp in committed(plain, wanted)}, True
    finally:
        plain.close()


def _begins_anew(
    consumer: Consumer,
    number: int,
    states: Mapping[str, State],
    found: Mapping[str, TopicPartition],
    *,
    generation: int,
    codec: Codec,
    timeout_s: int,
) -> dict[str, int]:
    """Where to begin in source topics whose log is another than the one that states and offsets are of."""
    anew = {}
    for topic, tp in found.items():
        # A device that no frame of this generation has come of says where it stood in the one before.
        of_it = [s for s in states.values() if topic != READINGS_RAW or s.generation == generation]
        start = begins_anew(
            consumer, topic, number, committed=tp.offset, states=of_it, codec=codec, timeout_s=timeout_s
        )
        if start is not None:
            anew[topic] = start
    return anew


def _start(consumer: Consumer, found: TopicPartition, timeout_s: int) -> int:
    """The committed offset; where nothing is committed, where the log begins."""
    if found.offset >= 0:
        return int(found.offset)
    return span(consumer, found.topic, found.partition, within_s=timeout_s)[0]
