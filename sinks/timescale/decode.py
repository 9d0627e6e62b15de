"""Records of the topics that belong in the database, decoded. Knows the contract; knows no broker and no database."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from schemas.alarms import read_alarm
from schemas.codec import Codec
from schemas.columnar import Unread, Unreadable
from schemas.devices import Device
from schemas.frames import CleanFrame, WindowFrame
from schemas.records import Heartbeat, ImportStatus, Rejected
from schemas.rejection import unread
from schemas.topics import ALARMS, DEVICES, HEARTBEATS, IMPORTS, READINGS_CLEAN, READINGS_REJECTED, TOPICS, WINDOWS
from sinks.timescale.batch import Body, Refusal, Removed

Decode = Callable[[bytes | None], Body]


class Coded(NamedTuple):
    """A record as Kafka has it."""

    topic: str
    key: bytes | None
    value: bytes | None


class Decoder:
    """Decodes a record by its topic; what cannot be read becomes a `Refusal`."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._by_topic: dict[str, Decode] = {
            READINGS_CLEAN: lambda data: codec.decode_frame(CleanFrame, data),
            WINDOWS: lambda data: codec.decode_frame(WindowFrame, data),
            HEARTBEATS: lambda data: codec.decode(Heartbeat, data),
            DEVICES: lambda data: codec.decode(Device, data),
            ALARMS: read_alarm,
            READINGS_REJECTED: lambda data: codec.decode(Rejected, data),
            IMPORTS: lambda data: codec.decode(ImportStatus, data),
        }

    @property
    def topics(self) -> list[str]:
        return list(self._by_topic)

    def bodies(self, records: Sequence[Coded]) -> list[Body]:
        """What the records say. Raises nothing for bad bytes."""
        # Small frames of a fleet lie alike in bytes: read together they cost a tenth.
        places = [place for place, record in enumerate(records) if record.topic == READINGS_CLEAN]
        blocks, _ = self._codec.decode_clean([records[place].value for place in places])
        found: list[Body | None] = [None] * len(records)
        for block in blocks:
            for number, frame in zip(block.at.tolist(), block.frames(), strict=True):
                found[places[number]] = frame
        return [self._body(record) if body is None else body for record, body in zip(records, found, strict=True)]

    def _body(self, record: Coded) -> Body:
        topic, key, value = record
        try:
            if value is None and TOPICS[topic].compact:
                if key is None:
                    raise Unreadable(Unread.EMPTY, "neither key nor value")
                return Removed(key.decode())
            return self._by_topic[topic](value)
        except Unreadable as error:
            return Refusal(unread(error.reason), error.detail)
        except UnicodeDecodeError as error:
            return Refusal(unread(Unread.NOT_TEXT), f"key: {error.reason}")
