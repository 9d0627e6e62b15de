"""Faust's Kafka driver with one change: all records that one poll brought for one partition are one event.

Faust's cost per message (some 70 µs) is then paid once per poll. Offsets are not committed here: they go out in the
transaction that carries what was made of them.
"""

from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.utils.futures import notify

from infra.telemetry.tracing import HEADER as TRACE
from schemas.signing import HEADER
from streams.agents.unpacking import Bounded, Fetched, Withheld, install


class Taken(NamedTuple):
    """A record as the stage needs it. aiokafka's own has eleven fields and takes three times as long to make."""

    topic: str
    partition: int
    offset: int
    timestamp: int  # ms
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    signature: bytes | None
    traceparent: bytes | None
    oversized: bool = False  # its batch unpacks to more than is taken: it has no content


def _marks(headers: list[tuple[str, bytes | None]]) -> tuple[bytes | None, bytes | None]:
    """The first signature and the first traceparent."""
    signature = traceparent = None
    for name, value in reversed(headers):
        if name == HEADER:
            signature = value
        elif name == TRACE:
            traceparent = value
    return signature, traceparent


UNMARKED = (None, None)
_taken = tuple.__new__  # without the step through the named tuple's own, which costs as much again

FETCH_WAIT_MS = 100
"""How long the broker may hold a fetch back for which it has nothing. aiokafka has one under way per broker, without
the partitions whose records are still to be taken: what comes for these waits as long. Faust says 1500."""


class TakenRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """What aiokafka fetched of one partition, unpacked into `Taken`."""

    _records_iterator: Any

    def __init__(self, tp: Any, records: Any, *args: Any) -> None:
        *others, check_crcs, isolation_level = args
        # Checked there: what is unpacked cannot be any more.
        super().__init__(tp, Bounded(records, check_crcs=check_crcs), *others, False, isolation_level)

    def __next__(self) -> Any:
        try:
            return next(self._records_iterator)
        except StopIteration:
            self._records_iterator = None  # as aiokafka does: it would be a cycle
            raise
        except UnicodeDecodeError:  # a header's name
            self._records.again()
            self._records_iterator = self._unpack_records()  # leaves out what has been taken
            return next(self)

    def _consumer_record(self, tp: Any, record: Any) -> Taken:
        headers = record.headers
        signature, traceparent = _marks(headers) if headers else UNMARKED
        return _taken(
            Taken,
            (
                tp.topic,
                tp.partition,
                record.offset,
                record.timestamp,
                record.timestamp_type,
                record.key,
                record.value,
                signature,
                traceparent,
                type(record) is Withheld,
            ),
        )


class PollMessage(ConsumerMessage):  # type: ignore[misc]  # Faust has no types
    """All records that one poll brought for one partition; its offset is the last one's."""

    __slots__ = ("records",)
    records: list[Any]


class PollThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, reading committed data only: Faust ties that to transactions of its own."""

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        install()
        # aiokafka has no place to say so; this process consumes nothing else.
        fetcher.PartitionRecords, fetcher.MemoryRecords = TakenRecords, Fetched
        return consumer


class PollConsumer(driver.Consumer):  # type: ignore[misc]
    """Faust's consumer, one event per poll and partition."""

    def _new_consumer_thread(self) -> PollThread:
        return PollThread(self, loop=self.loop, beacon=self.beacon)

    async def commit(self, *_args: Any, **_options: Any) -> bool:
        return True

    def ack(self, message: Any) -> bool:
        """Nothing is kept of it: remembered for a commit that never comes, acknowledged offsets fill the memory."""
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Events here are many records long: the offsets between them are no gaps."""

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Any]]:  # noqa: ASYNC109 - Faust's signature
        found = await super()._getmany(active_partitions, timeout)
        return {tp: [records] for tp, records in found.items() if records}

    def _to_message(self, tp: TP, records: list[Any]) -> PollMessage:
        last = records[-1]
        message = PollMessage(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            (),
            None,
            b"",
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )
        message.records = records
        return message


class PollTransport(driver.Transport):  # type: ignore[misc]
    """Faust's transport with that consumer."""

    Consumer = PollConsumer
