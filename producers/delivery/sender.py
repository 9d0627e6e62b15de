"""Carries frames from the spool to `readings.raw` in a thread of its own. Knows the spool and librdkafka.

Cut -> ready -> in flight -> acknowledged -> deleted. Everything after "cut" lives in memory only: after a crash, or
when the producer had to be made anew, what is cut and not acknowledged is read from the spool and sent again with the
same identity. Bounded by `window_bytes`; what does not fit stays in the spool, where it is cut into larger frames.

Order per device is kept while nothing is refused. What the broker refuses waits with back-off and is told as `link`.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, KafkaException, Message, Producer

from producers.delivery import client
from producers.delivery.backoff import Backoff
from producers.delivery.heartbeat import heartbeat
from producers.delivery.link import PURGED, TOO_LARGE, Link, LinkState, link_state
from producers.settings import EdgeSettings
from producers.spool import Cut, Damaged, DiskTrouble, FrameKey, Spool
from schemas.codec import Codec
from schemas.records import SourceState
from schemas.topics import HEARTBEATS, READINGS_RAW

POLL_S = 0.02  # while something is in flight; a delivery report ends the wait earlier
IDLE_S = 0.25  # while nothing is; an accept ends the wait earlier
FRAMES_MAX = 5_000  # cut and not acknowledged, whatever their size
OUTBOX_MAX = 1_000  # records beside readings that wait; the oldest goes first
LAST_WORDS_S_MAX = 5.0  # for the last heartbeat and the outbox when all readings are through
ROUND_TRIP_US_MAX = 2_000_000  # a slower acknowledgement says nothing about the clock


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the sender stands. Counts are of this process."""

    link: LinkState
    readings: int
    frames: int
    last_sequence: int | None  # of the last frame acknowledged
    moved_at: float  # time.monotonic() of the last acknowledgement, or of the start


class Sender:
    """Call `start`, tell it with `wake` what has come, end it with `stop`. `failure` is our bug, if it met one."""

    def __init__(
        self,
        spool: Spool,
        *,
        address: str,
        settings: EdgeSettings,
        devices: Sequence[str],
        clock_us: Callable[[], int],
        codec: Codec | None = None,
        sources: Callable[[], Sequence[SourceState]] = lambda: (),
    ) -> None:
        self._spool = spool
        self._address = address
        self._settings = settings
        self._devices = tuple(devices)
        self._clock_us = clock_us
        self._codec = codec or Codec()
        self._sources = sources
        self._backoff = Backoff(settings.retry_first_s, settings.retry_s_max)
        self._wake = threading.Event()
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="telltale-sender", daemon=True)
        self._outbox: deque[tuple[str, str, bytes]] = deque(maxlen=OUTBOX_MAX)
        self.failure: BaseException | None = None

        self._ready: deque[Cut] = deque()
        self._in_flight: dict[FrameKey, Cut] = {}
        self._in_flight_bytes = 0
        self._acknowledged: dict[FrameKey, Cut] = {}
        self._parked: set[FrameKey] = set()
        self._frame_bytes_max = settings.frame_bytes_max
        self._others_in_flight = 0
        self._beating: set[str] = set()
        self._generation = 0
        self._fatal = False
        self._attempt = 0
        self._not_before = 0.0
        self._cut_at = 0.0
        self._beat_at = 0.0
        self._offset_s: float | None = None
        self._link = LinkState(Link.CONNECTING, address)
        self._readings = 0
        self._frames = 0
        self._last_sequence: int | None = None
        self._moved_at = time.monotonic()

    # for other threads

    def start(self) -> None:
        self._started_us = self._clock_us()
        self._thread.start()

    def wake(self) -> None:
        """Something was accepted."""
        self._wake.set()

    def publish(self, topic: str, key: str, value: bytes) -> None:
        """Hand over a record beside the readings. Not spooled: lost if the broker does not come back in time."""
        self._outbox.append((topic, key, value))
        self._wake.set()

    def stop(self, *, drain_s: float = 0.0) -> None:
        """End, after at most `drain_s` of sending on. What is not acknowledged stays in the spool."""
        self._stop_at = time.monotonic() + drain_s
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def progress(self) -> Progress:
        return Progress(self._link, self._readings, self._frames, self._last_sequence, self._moved_at)

    @property
    def drained(self) -> bool:
        """Whether all that was accepted is acknowledged and deleted, but for parked frames."""
        return self._spool.bytes == 0

    # the thread

    def _run(self) -> None:
        try:
            self._open()
            while True:
                now = time.monotonic()
                self._beat_if_due(now)
                self._turn(now)
                self._send(now)
                self._say()
                if self._stop_at is not None and (now >= self._stop_at or self._nothing_left()):
                    break
                self._wait(now)
            self._close()
        except BaseException as error:  # noqa: BLE001 - kept for whoever asks; a thread has nobody to raise to
            self.failure = error

    def _nothing_left(self) -> bool:
        return self.drained and not self._others_in_flight and not self._outbox

    def _open(self) -> None:
        self._generation += 1
        self._fatal = False
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._others_in_flight = 0
        self._beating.clear()
        options = client.options(self._address, self._settings)
        self._producer = Producer({**options, "error_cb": partial(self._on_error, self._generation)})
        self._ready = deque(cut for cut in self._spool.unacknowledged() if cut.key not in self._acknowledged)

    def _turn(self, now: float) -> None:
        """Acknowledged frames out of the spool, new ones cut, in one commit."""
        if self._fatal and now >= self._not_before:
            self._drop_producer()
            self._open()
        waiting = len(self._ready) + len(self._in_flight)
        room = self._settings.window_bytes - self._in_flight_bytes - sum(cut.bytes for cut in self._ready)
        if waiting >= FRAMES_MAX or now < self._not_before or not self._cut_due(now):
            room = 0
        if not self._acknowledged and room <= 0:
            return
        try:
            cuts = self._spool.turn(self._acknowledged, room_bytes=max(0, room), frame_bytes_max=self._frame_bytes_max)
        except DiskTrouble as trouble:
            self._hold(now, LinkState(Link.DISK, str(trouble)))
            return
        self._acknowledged.clear()
        if cuts:
            self._cut_at = now
            self._ready.extend(cuts)

    def _cut_due(self, now: float) -> bool:
        """Single readings are gathered for `linger_s`; a full frame's worth need not wait."""
        if not self._spool.unframed:
            return False
        plenty = self._spool.bytes >= 2 * self._frame_bytes_max
        return plenty or self._stop_at is not None or now - self._cut_at >= self._settings.linger_s

    def _send(self, now: float) -> None:
        while self._ready and now >= self._not_before and self._in_flight_bytes < self._settings.window_bytes:
            cut = self._ready.popleft()
            try:
                value = self._codec.encode(self._spool.read(cut.key))
            except Damaged:
                self._spool.discard(cut.key)
                continue
            try:
                self._producer.produce(
                    READINGS_RAW,
                    value,
                    key=cut.key.device_id,
                    on_delivery=partial(self._on_frame, self._generation, cut),
                )
            except BufferError:
                self._ready.appendleft(cut)
                return
            except KafkaException as error:
                self._refused(cut, error.args[0])
                continue
            self._in_flight[cut.key] = cut
            self._in_flight_bytes += cut.bytes

    def _wait(self, now: float) -> None:
        if self._in_flight or self._others_in_flight:
            self._producer.poll(POLL_S)
            return
        until = [IDLE_S, self._beat_at - now]
        if self._spool.unframed or self._ready:
            until.append(max(self._not_before - now, self._cut_at + self._settings.linger_s - now))
        self._producer.poll(0)
        if self._wake.wait(min(IDLE_S, max(0.001, min(until)))):
            self._wake.clear()

    def _close(self) -> None:
        """The last heartbeat and the outbox, if somebody listens; then out of memory, not out of the spool."""
        if self._link.link is Link.UP:
            self._beat(time.monotonic())
            self._say()
            self._producer.flush(LAST_WORDS_S_MAX)
            self._turn(time.monotonic())
        self._drop_producer()

    def _drop_producer(self) -> None:
        self._producer.purge()
        self._producer.flush(1.0)
        del self._producer

    # what librdkafka tells, in this thread, out of poll and flush

    def _on_error(self, generation: int, error: KafkaError) -> None:
        if generation != self._generation:
            return
        if error.fatal():
            self._fatal = True
            self._hold(time.monotonic(), link_state(error, address=self._address))
        state = link_state(error, address=self._address)
        # A connection that the broker closes while idle is no trouble; no broker left is.
        if state.link is not Link.AWAY or error.code() != KafkaError._TRANSPORT or self._link.link is not Link.UP:
            self._link = state

    def _on_frame(self, generation: int, cut: Cut, error: KafkaError | None, _: Message) -> None:
        if generation == self._generation:
            self._in_flight.pop(cut.key, None)
            self._in_flight_bytes -= cut.bytes
        if error is None:
            self._acknowledged[cut.key] = cut
            self._readings += cut.readings
            self._frames += 1
            self._last_sequence = cut.key.sequence
            self._up()
        elif generation == self._generation and error.code() not in PURGED:
            self._refused(cut, error)

    def _up(self) -> None:
        self._moved_at = time.monotonic()
        self._attempt = 0
        if self._link.link is not Link.UP and not self._parked:
            self._link = LinkState(Link.UP)

    def _refused(self, cut: Cut, error: KafkaError) -> None:
        """The broker, or librdkafka for it, said no to a frame."""
        now = time.monotonic()
        if error.code() in TOO_LARGE:
            self._frame_bytes_max = max(1024, min(self._frame_bytes_max, cut.bytes // 2))
            if self._spool.split(cut.key):
                self._ready.appendleft(cut)
            else:
                self._parked.add(cut.key)
                self._link = LinkState(
                    Link.TOO_LARGE, f"frame {cut.key.sequence} of {cut.key.device_id}: {error.str()}"
                )
            return
        self._ready.appendleft(cut)
        self._ready = deque(sorted(self._ready, key=lambda each: each.key.sequence))
        self._fatal = self._fatal or error.fatal()
        self._hold(now, link_state(error, address=self._address))

    def _hold(self, now: float, state: LinkState) -> None:
        """Wait before the next try. Refusals of one burst count once."""
        self._link = state
        if now >= self._not_before:
            self._not_before = now + self._backoff.wait_s(self._attempt, chance=random.random())  # noqa: S311 - jitter
            self._attempt += 1

    # heartbeats and other records

    def _beat_if_due(self, now: float) -> None:
        if now >= self._beat_at:
            self._beat(now)

    def _beat(self, now: float) -> None:
        self._beat_at = now + self._settings.heartbeat_s
        for device_id in dict.fromkeys((*self._devices, *self._spool.devices())):
            if device_id in self._beating:  # the last one has not gone out yet; another would only wait behind it
                continue
            sent_us = self._clock_us()
            record = heartbeat(
                self._spool.counts(device_id),
                spool_id=self._spool.spool_id,
                now_us=sent_us,
                started_us=self._started_us,
                free_disk_bytes=self._spool.free_disk_bytes(),
                clock_offset_s=self._offset_s,
                link=self._link,
                sources=self._sources(),
            )
            heard = partial(self._on_beat, self._generation, device_id, sent_us)
            if self._produce(HEARTBEATS, device_id, self._codec.encode(record), heard):
                self._beating.add(device_id)

    def _on_beat(self, generation: int, device_id: str, sent_us: int, error: KafkaError | None, beat: Message) -> None:
        if generation != self._generation:
            return
        self._others_in_flight -= 1
        self._beating.discard(device_id)
        if error is not None:
            if error.code() not in PURGED:
                self._link = link_state(error, address=self._address)
            return
        if not self._in_flight and not self._ready:
            self._up()
        kind, broker_ms = beat.timestamp()
        now_us = self._clock_us()
        if kind == TIMESTAMP_LOG_APPEND_TIME and 0 <= now_us - sent_us < ROUND_TRIP_US_MAX:
            self._offset_s = (broker_ms * 1000 - (sent_us + now_us) / 2) / 1e6

    def _say(self) -> None:
        while self._outbox:
            topic, key, value = self._outbox.popleft()
            if not self._produce(topic, key, value, partial(self._on_other, self._generation)):
                self._outbox.appendleft((topic, key, value))
                return

    def _on_other(self, generation: int, error: KafkaError | None, _: Message) -> None:
        if generation == self._generation:
            self._others_in_flight -= 1
            if error is not None and error.code() not in PURGED:
                self._link = link_state(error, address=self._address)

    def _produce(self, topic: str, key: str, value: bytes, heard: Callable[..., Any]) -> bool:
        try:
            self._producer.produce(topic, value, key=key, on_delivery=heard)
        except BufferError:
            return False
        except KafkaException as error:
            self._link = link_state(error.args[0], address=self._address)
            return True
        self._others_in_flight += 1
        return True
