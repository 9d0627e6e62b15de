"""What could not be taken: list it, look into it, send it again after the reason is gone.

Knows the topic `readings.rejected`. A record there is named `PARTITION/OFFSET`. Sent again, a frame gets the identity
(spool `rejected-PARTITION`, sequence OFFSET): its own would be recognised as a repeat, and this one is if somebody
sends it again twice. Sent on the server it is signed with the server's key, as its content is no longer what the device
signed; so what was rejected as forged is sent again only if a person vouches for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer

from infra.client import connection, reader
from infra.security.keys import folder, on_behalf
from infra.whole_topic import partition_to_end, partitions_of
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.errors import Refused, Unavailable
from schemas.frames import RawFrame
from schemas.keys import PARTITIONER
from schemas.records import Rejected
from schemas.rejection import FORGED
from schemas.signing import HEADER
from schemas.topics import READINGS_RAW, READINGS_REJECTED

READ_S_MAX = 600.0
"""Of a partition: thirty days of rejected records with all their bytes; a person sees them come."""
FLUSH_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """A rejected record and its name."""

    partition: int
    offset: int
    record: Rejected

    @property
    def name(self) -> str:
        return f"{self.partition}/{self.offset}"

    def told(self) -> dict[str, Any]:
        """For scripts: everything but the payload."""
        facts = self.record.model_dump(mode="json", exclude={"payload"})
        return {"id": self.name, **facts, "bytes": len(self.record.payload)}


def rejected(kafka: str, codec: Codec, *, reason: str | None = None, device: str | None = None) -> Iterator[Found]:
    """Rejected records that fit, partition by partition. Raises `Unavailable`."""
    for partition, offset, value in _read(kafka):
        try:
            record = codec.decode(Rejected, value)
        except Unreadable:  # somebody else's: nothing that could be said about it
            continue
        if (reason is None or record.reason == reason) and (device is None or record.device_id == device):
            yield Found(partition, offset, record)


def find(kafka: str, codec: Codec, names: list[str]) -> list[Found]:
    """The named records, in that order. Raises `Refused` for one that is not there."""
    wanted = dict.fromkeys(names)
    there = {found.name: found for found in rejected(kafka, codec)}
    missing = [name for name in wanted if name not in there]
    if missing:
        raise Refused(f"no rejected record {', '.join(missing)}; `telltale rejected list` shows those there are")
    return [there[name] for name in wanted]


def frame_of(found: Found, codec: Codec) -> RawFrame:
    """The frame inside. Raises `Refused` where there is none."""
    if found.record.topic != READINGS_RAW:
        raise Refused(f"{found.name} came from {found.record.topic}; only readings can be sent again")
    try:
        frame: RawFrame = codec.decode_frame(RawFrame, found.record.payload)
    except Unreadable as error:
        raise Refused(f"{found.name} cannot be sent again: it is no frame ({error})") from None
    return frame


def retry(kafka: str, codec: Codec, chosen: list[Found], *, vouched: bool = False, keys: Path | None = None) -> int:
    """Send frames again; how many readings. All are checked first. Raises `Refused`, `Unavailable`.

    Args:
        vouched: a person says that those which were rejected as forged are the devices' own.
        keys: where the server's key is; by default the stack's.
    """
    forged = [found for found in chosen if found.record.reason in FORGED]
    if forged and not vouched:
        first = forged[0]
        raise Refused(
            f"{first.name} was rejected as forged ({first.record.reason}: {first.record.detail}). Sent again from here "
            "it would count as genuine: look into it (`telltale rejected show`), and say --vouch if it is the device's "
            f"own{'' if len(forged) == 1 else f'; it is one of {len(forged)}'}"
        )
    frames = [
        replace(frame_of(found, codec), spool_id=f"rejected-{found.partition}", sequence=found.offset)
        for found in chosen
    ]
    producer = Producer({**connection(kafka), "enable.idempotence": True, "acks": "all", "partitioner": PARTITIONER})
    failed: list[str] = []

    def delivered(error: KafkaError | None, _message: Any) -> None:
        if error is not None:
            failed.append(error.str())

    for frame in frames:
        value = codec.encode(frame)
        signer = on_behalf(folder(keys), frame.device_id, topic=READINGS_RAW)
        headers = None if signer is None else [(HEADER, signer.sign(value))]
        producer.produce(READINGS_RAW, key=frame.device_id, value=value, headers=headers, on_delivery=delivered)
        producer.poll(0)
    if producer.flush(FLUSH_S_MAX) or failed:
        raise Unavailable(f"kafka at {kafka} did not take all of it: {failed[0] if failed else 'no answer'}")
    return sum(frame.values.size for frame in frames)


def _read(kafka: str) -> Iterator[tuple[int, int, bytes | None]]:
    consumer = Consumer(reader(kafka, group="telltale-rejected"))
    try:
        for number in partitions_of(consumer, kafka, READINGS_REJECTED):
            for message in partition_to_end(consumer, READINGS_REJECTED, number, read_s=READ_S_MAX):
                yield number, message.offset(), message.value()
    finally:
        consumer.close()
