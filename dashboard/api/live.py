"""Events as they come, for `GET /api/v1/stream`: one consumer for the whole process, whoever listens.

One consumer reads the live topics from their end while anybody listens, in a thread of its own, decodes what somebody
wants and hands it to the loop, which puts it before each client. A client's queue is bounded in events and bytes: one
that does not read in time is let go, keeps nobody waiting, and resumes where it stood. What a client has missed is read
for it alone, by a consumer that ends where the shared one has been; `CATCHING_UP_MAX` of those at a time.

All reads are `read_committed`. Public methods are for the loop's thread.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from dashboard.api.events import KIND_OF, LETTER, At, Event, Kind, Positions, told
from dashboard.web.problems import Problem, too_many, unavailable
from infra.client import reader
from infra.offsets import ANSWER_S_MAX, span
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.keys import partition_of
from schemas.topics import ALARMS

log = structlog.get_logger(__name__)

RECORDS_MAX = 500
POLL_S = 0.05
IDLE_S = 30.0
"""The shared consumer goes on so long without a client: one that reconnects finds it where it was."""
CATCHING_UP_MAX = 4
"""Each is a consumer with its buffers; the next client that has missed something is asked to come again."""
QUEUE_BYTES_MAX = 8_000_000
SILENT_S_MAX = 20.0
"""Without a record or the end of the log, a broker is away: it leads elections in some seconds."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What all who listen want together. `round` counts the changes."""

    kinds: frozenset[Kind] = frozenset()
    devices: frozenset[str] | None = frozenset()
    round: int = 0


@dataclass(eq=False, slots=True)
class Client:
    """One who listens. `devices` None: all."""

    kinds: frozenset[Kind]
    devices: frozenset[str] | None
    queue_max: int
    waiting: list[Event] = field(default_factory=list)
    waiting_bytes: int = 0
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: str | None = None
    """Why it hears no more."""
    joined: int = 0
    """Which round of `Feed` first knew what it wants."""

    def wants(self, event: Event) -> bool:
        return event.kind in self.kinds and (self.devices is None or event.device in self.devices)

    def offer(self, event: Event) -> None:
        """Puts an event before it, or lets it go."""
        if len(self.waiting) >= self.queue_max or self.waiting_bytes > QUEUE_BYTES_MAX:
            self.release("you are too slow for what you asked for; connect again to go on")
        elif self.let_go is None:
            self.waiting.append(event)
            self.waiting_bytes += len(event.data)
            self.woken.set()

    def release(self, why: str) -> None:
        self.let_go = self.let_go or why
        self.woken.set()

    def take(self) -> list[Event]:
        taken, self.waiting, self.waiting_bytes = self.waiting, [], 0
        self.woken.clear()
        return taken


class Feed:
    """The shared consumer and those who listen."""

    def __init__(self, kafka: str, *, queue_max: int) -> None:
        self._kafka, self._queue_max = kafka, queue_max
        self._codec = Codec()
        self._clients: set[Client] = set()
        self._wanted = Wanted()
        self._positions: Positions = {}
        self._opening = asyncio.Lock()
        self._catching = 0
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    async def join(self, kinds: frozenset[Kind], devices: frozenset[str] | None) -> tuple[Client, Positions]:
        """A client, and the positions behind which it hears everything. Raises `Problem` 503."""
        async with self._opening:
            if self._stop is None:
                await self._open()
            client = Client(kinds, devices, self._queue_max)
            self._clients.add(client)
            self._look_who_wants()
            client.joined = self._wanted.round
            return client, self._of_interest(client)

    def leave(self, client: Client) -> None:
        self._clients.discard(client)
        self._look_who_wants()
        if not self._clients:
            asyncio.get_running_loop().call_later(IDLE_S, self._close_if_idle)

    def position(self, client: Client) -> Positions:
        """Where a client stands that has taken all that waited."""
        return self._of_interest(client)

    async def close(self) -> None:
        for client in list(self._clients):
            client.release("the service stops")
        self._end()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 10)

    async def missed(
        self, client: Client, since: Positions, until: Positions, tell: Callable[[Positions], None]
    ) -> AsyncIterator[list[Event]]:
        """What lies between two positions, read for this client alone. `tell` hears what is gone. Raises `Problem`."""
        spans = {at: (since.get(at, end), end) for at, end in until.items()}
        spans = {at: span for at, span in spans.items() if span[0] != span[1]}
        if not spans:
            return
        if self._catching >= CATCHING_UP_MAX:
            raise too_many("others catch up already; come again soon", after_s=2)
        self._catching += 1
        consumer = None
        try:
            consumer = Consumer(reader(self._kafka, group="telltale-dashboard-stream"))
            starts, lost = await asyncio.to_thread(_starts, consumer, spans)
            if lost:
                tell(lost)
            left = {at: spans[at][1] for at, start in starts.items() if start < spans[at][1]}
            consumer.assign([TopicPartition(*at, starts[at]) for at in left])
            heard = time.monotonic()
            while left:
                messages = await asyncio.to_thread(consumer.consume, RECORDS_MAX, 0.2)
                if messages:
                    heard = time.monotonic()
                elif time.monotonic() - heard > SILENT_S_MAX:
                    raise unavailable("the broker does not answer; connect again")
                found = _within(messages, left)
                events = await asyncio.to_thread(self._events, found, Wanted(client.kinds, client.devices))
                yield [event for event in events if client.wants(event)]
        except KafkaException as error:
            raise unavailable(f"the broker does not answer: {error.args[0].str()}") from None
        finally:
            self._catching -= 1
            if consumer is not None:
                await asyncio.to_thread(consumer.close)

    # The loop's side of the shared consumer.

    async def _open(self) -> None:
        patient = {"enable.partition.eof": False, "fetch.wait.max.ms": 100}
        consumer = Consumer({**reader(self._kafka, group="telltale-dashboard-stream"), **patient})
        try:
            ends = await asyncio.to_thread(_ends, consumer)
        except KafkaException as error:
            await asyncio.to_thread(consumer.close)
            raise unavailable(f"the broker does not answer: {error.args[0].str()}") from None
        except Problem:
            await asyncio.to_thread(consumer.close)
            raise
        self._positions = ends
        consumer.assign([TopicPartition(*at, offset) for at, offset in ends.items()])
        self._stop = threading.Event()
        arguments = consumer, self._stop, asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=arguments, name="stream", daemon=True)
        self._thread.start()

    def _close_if_idle(self) -> None:
        if not self._clients:
            self._end()

    def _end(self) -> None:
        if self._stop is not None:
            self._stop.set()
        self._stop = None

    def _look_who_wants(self) -> None:
        kinds: frozenset[Kind] = frozenset().union(*(client.kinds for client in self._clients))
        chosen = [client.devices for client in self._clients]
        devices = None if None in chosen else frozenset().union(*(each for each in chosen if each is not None))
        self._wanted = Wanted(kinds, devices, self._wanted.round + 1)

    def _of_interest(self, client: Client) -> Positions:
        """The positions of partitions that can hold what the client wants."""
        counts: dict[str, int] = {}
        for topic, _ in self._positions:
            counts[topic] = counts.get(topic, 0) + 1
        return {
            (topic, part): offset
            for (topic, part), offset in self._positions.items()
            if KIND_OF[topic] in client.kinds
            and (
                topic == ALARMS  # keyed by alarm
                or client.devices is None
                or part in {partition_of(device, counts[topic]) for device in client.devices}
            )
        }

    def _deliver(self, messages: list[Message], events: list[Event], round_: int, stop: threading.Event) -> None:
        if stop is not self._stop:  # of a consumer that was ended meanwhile
            return
        for client in self._clients:
            heard = events
            if client.joined > round_:  # it came while these were looked through for the others
                heard = self._events(messages, Wanted(client.kinds, client.devices))
            for event in heard:
                if client.wants(event):
                    client.offer(event)
        self._positions |= {(each.topic(), each.partition()): each.offset() + 1 for each in messages}

    def _failed(self, why: str, stop: threading.Event) -> None:
        if stop is self._stop:
            self._end()
            for client in list(self._clients):
                client.release(why)

    # The thread.

    def _run(self, consumer: Consumer, stop: threading.Event, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not stop.is_set():
                messages = [each for each in consumer.consume(RECORDS_MAX, timeout=POLL_S) if _is_record(each)]
                if messages:
                    wanted = self._wanted
                    events = self._events(messages, wanted)
                    loop.call_soon_threadsafe(self._deliver, messages, events, wanted.round, stop)
        except Exception as error:  # noqa: BLE001 - clients are told, and the next one starts it again
            log.warning("stream_interrupted", detail=str(error))
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._failed, "the broker does not answer; connect again", stop)
        finally:
            consumer.close()

    def _events(self, messages: Iterable[Message], wanted: Wanted) -> list[Event]:
        found = []
        for message in messages:
            kind = KIND_OF[message.topic()]
            if kind not in wanted.kinds or message.value() is None:
                continue
            key = (message.key() or b"").decode(errors="replace")
            if kind is not Kind.ALARMS and wanted.devices is not None and key not in wanted.devices:
                continue
            try:
                device, data = told(self._codec, kind, key, message.value())
            except (Unreadable, ValueError):  # somebody else's record: the next one matters more
                continue
            at = message.topic(), message.partition()
            found.append(Event(at, message.offset(), kind, device, data))
        return found


def _is_record(message: Message) -> bool:
    """False for the end of a partition. Raises `KafkaException` for trouble that does not pass by itself."""
    error = message.error()
    if error is None:
        return True
    if error.code() != KafkaError._PARTITION_EOF and not error.retriable():
        raise KafkaException(error)
    return False


def _ends(consumer: Consumer) -> Positions:
    known = consumer.list_topics(timeout=ANSWER_S_MAX).topics
    found: Positions = {}
    for topic in LETTER:
        if topic not in known:
            raise unavailable(f"the broker has no topic {topic}; make it with: telltale topics provision")
        for part in known[topic].partitions:
            _, found[topic, part] = span(consumer, topic, part)
    return found


def _starts(consumer: Consumer, spans: dict[At, tuple[int, int]]) -> tuple[Positions, Positions]:
    """Where to begin, and where something between is gone: retention dropped it, or the topic was made anew."""
    starts, lost = {}, {}
    for at, (since, until) in spans.items():
        low, _ = span(consumer, *at)
        starts[at] = min(max(since, low), until)
        if starts[at] != since:
            lost[at] = since
    return starts, lost


def _within(messages: list[Message], left: Positions) -> list[Message]:
    """Records before the positions in `left`, from which partitions that have come so far are taken out."""
    found = []
    for message in messages:
        at = message.topic(), message.partition()
        if not _is_record(message):
            left.pop(at, None)  # the end of the partition is not before where we want to be
        elif at in left:
            if message.offset() < left[at]:
                found.append(message)
            if message.offset() + 1 >= left[at]:
                del left[at]
    return found
