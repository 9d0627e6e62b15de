"""What is said of a record that is refused, whatever is in it; no broker."""

from dataclasses import replace

from fix_stage import consumed, make_frame

from schemas.codec import Codec
from schemas.rejection import Rejection
from schemas.topics import READINGS_REJECTED, TOPICS
from streams.agents.refusals import Refusals


def test_what_is_said_of_a_record_fits_into_topic_and_database() -> None:
    record = replace(
        consumed(7, make_frame("d0", 0, first=0, rows=1), at_s=1), key=b"a\0b\xff" * 400, value=bytes(20_000_000)
    )
    said = Refusals(3).of(record, Rejection.UNKNOWN_DEVICE, "device a\0b is not configured" * 400)
    assert (said.partition, said.offset) == (3, 7)
    assert not {"\0"} & {*(said.device_id or ""), *said.detail}
    assert len(Codec().encode(said)) < TOPICS[READINGS_REJECTED].max_message_bytes
