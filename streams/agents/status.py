"""How the stage stands, from what the broker knows: anybody may ask, no worker has to answer.

The age of the last commit is that of the newest state record: both belong to one transaction.
"""

import time
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from infra.client import connection, reader
from infra.offsets import ANSWER_S_MAX, committed, listed, mark_of
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Unavailable
from schemas.frames import RawFrame
from schemas.topics import READINGS_RAW, STREAMS_GROUP, STREAMS_STATE
from streams.agents.app import count_partitions


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition of readings.raw."""

    partition: int
    owner: str | None
    offset: int | None
    end: int
    lag_records: int
    lag_s: float  # age of the oldest record that is not processed, by the broker's clock
    event_lag_s: float | None  # how far behind now that record's first reading is
    records_per_s: float | None
    generation: int | None
    devices: int | None  # with a state, as of the last commit; None: no worker has committed
    state_records: int  # in the topic; compaction leaves one per device
    last_commit_age_s: float | None


def status(kafka: str, *, sample_s: float) -> list[PartitionStatus]:
    """Every partition, observed over `sample_s` for the rate. Raises `Unavailable`, `Refused`."""
    admin = AdminClient(connection(kafka))
    consumer = Consumer(reader(kafka, group=STREAMS_GROUP))
    try:
        partitions = range(count_partitions(admin, kafka))
        owners = _owners(admin)
        before = _committed(consumer, partitions)
        began = time.monotonic()
        if sample_s:
            time.sleep(sample_s)
        after = _committed(consumer, partitions)
        seconds = time.monotonic() - began
        ends = _offsets(admin, READINGS_RAW, partitions, OffsetSpec.latest())
        starts = _offsets(admin, READINGS_RAW, partitions, OffsetSpec.earliest())
        newest = _offsets(admin, STREAMS_STATE, partitions, OffsetSpec.max_timestamp())
        states = _offsets(admin, STREAMS_STATE, partitions, OffsetSpec.latest())
        state_starts = _offsets(admin, STREAMS_STATE, partitions, OffsetSpec.earliest())
        found = []
        for number in partitions:
            at = after[number]
            position = at.offset if at.offset >= 0 else starts[number][0]
            lag = max(0, ends[number][0] - max(position, starts[number][0]))
            lag_s, event_lag_s = _oldest(consumer, number, position) if lag else (0.0, None)
            moved = max(0, at.offset) - max(0, before[number].offset)
            mark = mark_of(at.metadata)
            stamp = newest[number][1]
            found.append(
                PartitionStatus(
                    partition=number,
                    owner=owners.get(number),
                    offset=at.offset if at.offset >= 0 else None,
                    end=ends[number][0],
                    lag_records=lag,
                    lag_s=round(lag_s, 3),
                    event_lag_s=None if event_lag_s is None else round(event_lag_s, 3),
                    records_per_s=round(moved / seconds, 1) if sample_s else None,
                    generation=mark.generation if mark else None,
                    devices=mark.devices if mark else None,
                    state_records=states[number][0] - state_starts[number][0],
                    last_commit_age_s=round(time.time() - stamp / 1000, 3) if stamp > 0 else None,
                )
            )
        return found
    except KafkaException as error:
        raise Unavailable(f"kafka at {kafka} does not answer: {error.args[0].str()}") from None
    finally:
        consumer.close()


def _owners(admin: AdminClient) -> dict[int, str]:
    """Who has which partition: the client's name and where it is."""
    known = {group.group_id for group in admin.list_consumer_groups(request_timeout=ANSWER_S_MAX).result().valid}
    if STREAMS_GROUP not in known:  # no worker has ever run
        return {}
    described = admin.describe_consumer_groups([STREAMS_GROUP], request_timeout=ANSWER_S_MAX)[STREAMS_GROUP].result()
    return {
        tp.partition: f"{member.member_id.rsplit('-', 5)[0]}@{member.host.lstrip('/')}"
        for member in described.members
        for tp in (member.assignment.topic_partitions or ())
        if tp.topic == READINGS_RAW
    }


def _committed(consumer: Consumer, partitions: range) -> dict[int, TopicPartition]:
    wanted = [TopicPartition(READINGS_RAW, number) for number in partitions]
    return {tp.partition: tp for tp in committed(consumer, wanted)}


def _offsets(admin: AdminClient, topic: str, partitions: range, spec: OffsetSpec) -> dict[int, tuple[int, int]]:
    """Offset and time stamp (ms) per partition."""
    wanted = {TopicPartition(topic, number): spec for number in partitions}
    return {number: (found.offset, found.timestamp) for (_, number), found in listed(admin, wanted).items()}


def _oldest(consumer: Consumer, number: int, position: int) -> tuple[float, float | None]:
    """How long the record at `position` has waited, and how old its first reading is; seconds."""
    consumer.assign([TopicPartition(READINGS_RAW, number, position)])
    message = consumer.poll(ANSWER_S_MAX)
    consumer.unassign()
    if message is None or message.error() is not None:
        return 0.0, None
    now = time.time()
    waited = max(0.0, now - message.timestamp()[1] / 1000)
    try:
        times = Codec().decode_frame(RawFrame, message.value()).times
    except Unreadable:
        return waited, None
    return waited, now - int(times.min()) / 1e6 if len(times) else None
