"""Records beside the readings: heartbeats, what others publish. Not spooled. Knows librdkafka and the spool.

A heartbeat also measures the clock: the broker stamps it when it comes, halfway between sending and acknowledgement.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from producers.delivery import clock
from producers.delivery.heartbeat import heartbeat
from producers.delivery.link import PURGED, LinkState
from producers.delivery.signing import Headers, Signatures
from producers.spool import Spool
from schemas.codec import Codec
from schemas.records import SourceState
from schemas.topics import HEARTBEATS

OUTBOX_MAX = 1_000  # records that wait; the oldest goes first
ROUND_TRIP_US_MAX = 2_000_000  # a slower acknowledgement says nothing about the clock

States = Callable[[str], Sequence[SourceState]]


class Aside:
    """Used by the sender's thread, but for `publish` and `hush`."""

    def __init__(
        self,
        spool: Spool,
        *,
        devices: Sequence[str],
        every_s: float | None,  # None: never
        clock_us: Callable[[], int],
        codec: Codec,
        sources: States,
        signatures: Signatures,
        heard: Callable[[KafkaError | None], None],
    ) -> None:
        self._spool = spool
        self._devices = tuple(devices)
        self._every_s = every_s
        self._clock_us = clock_us
        self._codec = codec
        self._sources = sources
        self._signatures = signatures
        self._heard = heard  # is told of every acknowledgement and refusal
        self._outbox: deque[tuple[str, str, bytes]] = deque(maxlen=OUTBOX_MAX)
        self._hushed: set[str] = set()
        self._beating: set[str] = set()
        self._generation = 0
        self._offset_s: float | None = None
        self._started_us = clock_us()
        self.beat_at = 0.0
        self.in_flight = 0

    # for other threads

    def publish(self, topic: str, key: str, value: bytes) -> None:
        self._outbox.append((topic, key, value))

    def hush(self, device_id: str, *, silent: bool) -> None:
        """Whether a device's heartbeats are withheld, as the simulator wants it."""
        (self._hushed.add if silent else self._hushed.discard)(device_id)

    # for the sender

    @property
    def empty(self) -> bool:
        return not self.in_flight and not self._outbox

    def opened(self, producer: Producer) -> None:
        """A new producer; what the one before had is lost, and nobody waits for it."""
        self._producer = producer
        self._generation += 1
        self.in_flight = 0
        self._beating.clear()

    def beat(self, now: float, link: LinkState) -> None:
        """A heartbeat of every device."""
        if self._every_s is None:
            self.beat_at = math.inf
            return
        self.beat_at = now + self._every_s
        recovered = self._spool.recovered
        for device_id in dict.fromkeys((*self._devices, *self._spool.devices())):
            # The last one has not gone out yet; another would only wait behind it.
            if device_id in self._beating or device_id in self._hushed:
                continue
            sent_us = self._clock_us()
            record = heartbeat(
                self._spool.counts(device_id),
                spool_id=self._spool.spool_id,
                now_us=sent_us,
                started_us=self._started_us,
                free_disk_bytes=self._spool.free_disk_bytes(),
                clock_offset_s=self._offset_s,
                clock_synchronised=clock.synchronised(),
                link=link,
                sources=self._sources(device_id),
                recovered=None if recovered is None else str(recovered),
            )
            heard = partial(self._on_beat, self._generation, device_id, sent_us)
            value = self._codec.encode(record)
            headers = self._signatures.headers(HEARTBEATS, device_id, value)
            if self._produce(HEARTBEATS, device_id, value, heard, headers):
                self._beating.add(device_id)

    def say(self) -> None:
        """What others published."""
        while self._outbox:
            topic, key, value = self._outbox.popleft()
            if not self._produce(topic, key, value, partial(self._on_other, self._generation)):
                self._outbox.appendleft((topic, key, value))
                return

    def _on_beat(self, generation: int, device_id: str, sent_us: int, error: KafkaError | None, beat: Message) -> None:
        if generation != self._generation:
            return
        self._beating.discard(device_id)
        self._on_other(generation, error, beat)
        if error is not None:
            return
        kind, broker_ms = beat.timestamp()
        now_us = self._clock_us()
        if kind == TIMESTAMP_LOG_APPEND_TIME and 0 <= now_us - sent_us < ROUND_TRIP_US_MAX:
            self._offset_s = (broker_ms * 1000 - (sent_us + now_us) / 2) / 1e6

    def _on_other(self, generation: int, error: KafkaError | None, _: Message) -> None:
        if generation != self._generation:
            return
        self.in_flight -= 1
        if error is None or error.code() not in PURGED:
            self._heard(error)

    def _produce(
        self, topic: str, key: str, value: bytes, heard: Callable[..., Any], headers: Headers | None = None
    ) -> bool:
        try:
            self._producer.produce(topic, value, key=key, on_delivery=heard, headers=headers)
        except BufferError:
            return False
        except KafkaException as error:
            self._heard(error.args[0])
            return True
        self.in_flight += 1
        return True
