"""What goes to `readings.rejected`: a record of a source topic, the reason in one word and in a sentence.

Knows records and where they stood; decides nothing. Whatever is in a record, what is said of it fits into the topic,
and into the database behind it.
"""

from datetime import UTC, datetime

from infra.printable import storable
from schemas.columnar import Unreadable
from schemas.records import Rejected
from schemas.rejection import Rejection, unread
from schemas.topics import READINGS_REJECTED, TOPICS
from streams.agents.batches import Record, key_of
from streams.agents.unpacking import UNPACKED_BYTES_MAX

PAYLOAD_BYTES_MAX = TOPICS[READINGS_REJECTED].max_message_bytes - 65_536
"""What is kept of a rejected record: with room for the other fields. A record that packs well may be larger than the
topic takes, and none may end the worker."""
NAME_CHARACTERS_MAX, DETAIL_CHARACTERS_MAX = 1_000, 2_000


class Refusals:
    """Of one partition's records."""

    def __init__(self, number: int) -> None:
        self._number = number

    def of(
        self,
        record: Record,
        reason: str,
        detail: str,
        *,
        rows: int = 0,
        device_id: str | None = None,
        payload: bytes | None = None,
    ) -> Rejected:
        """Args:
        rows: readings in it, 0: unknown.
        device_id: by default what the record's key says.
        payload: what of the record is refused, by default all of it.
        """
        name = key_of(record) if device_id is None else device_id
        return Rejected(
            topic=record.topic,
            partition=self._number,
            offset=record.offset,
            device_id=storable(name)[:NAME_CHARACTERS_MAX] or None,
            reason=reason,
            detail=storable(detail)[:DETAIL_CHARACTERS_MAX],
            rows=rows,
            time=datetime.now(UTC),
            payload=((record.value or b"") if payload is None else payload)[:PAYLOAD_BYTES_MAX],
        )

    def unread(self, record: Record, error: Unreadable) -> Rejected:
        """Its bytes are not a record."""
        if record.oversized:
            detail = f"its batch unpacks to more than {UNPACKED_BYTES_MAX} bytes"
            return self.of(record, Rejection.TOO_LARGE, detail, device_id="")
        return self.of(record, unread(error.reason), error.detail)
