"""Carries frames from the spool to `readings.raw` in a thread of its own. Knows the spool and librdkafka.

Cut -> ready -> in flight -> acknowledged -> deleted. Everything after "cut" lives in memory only: after a crash, or
when the producer had to be made anew, what is cut and not acknowledged is read from the spool and sent again with the
same identity. Bounded by the pace of the link; the rest stays in the spool, where it is cut into larger frames.

Order per device is kept while nothing is refused. A backlog of more than `live_within_s` lets new readings overtake it:
then each of the two is in order. What the broker refuses waits with back-off and is told as `link`.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.telemetry.tracing import Tracing
from producers.delivery import client
from producers.delivery.aside import Aside, States
from producers.delivery.backoff import Backoff
from producers.delivery.link import PURGED, TOO_LARGE, Link, LinkState, link_state
from producers.delivery.pace import Pace
from producers.delivery.signing import Headers, Signatures
from producers.delivery.told import LinkFile
from producers.delivery.traces import Traces
from producers.settings import EdgeSettings
from producers.spool import Cut, Damaged, DiskTrouble, FrameKey, Spool
from schemas.codec import Codec
from schemas.errors import Refused
from schemas.topics import READINGS_RAW

POLL_S = 0.05  # while something is in flight; a delivery report ends the wait earlier
IDLE_S = 0.25  # while nothing is; an accept ends the wait earlier
FRAMES_MAX = 5_000  # cut and not acknowledged, whatever their size
LAST_WORDS_S_MAX = 5.0  # for the last heartbeat and the outbox when all readings are through
ACKNOWLEDGED_BYTES_MAX = 1 << 20  # deleted at once; less waits for the next cut, to share its commit
ALONE_S = 60.0  # for which frames go one by one after one, or its company, was too large
AGAIN_LOOK_S = 1.0  # between two looks at what was asked to be sent again, and at what was kept long enough
UNHEARD_S_MAX = 600.0
"""So long without an answer for any frame on its way, the producer is made anew. Below, a frame on a line of 1 kB/s
would be given up on its way; what the broker has already it gets again, and its identity tells."""
AWAY_S_MAX = 60.0
"""The same while no broker answers. librdkafka (2.16.0) was seen never to connect again after a broker's restart, one
in some dozens, with all its brokers down and none to connect to. Below, it would not come to its own longest pause."""
UNREAD = -1
"""Instead of how often the spool has healed: what is cut is still to be read from it, and a sick disk may say no."""
LIVE_LOOK_S = 1.0  # between two looks at how old the newest of a backlog are


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
        sources: States = lambda _: (),
        beats: bool = True,
        tracing: Tracing | None = None,
    ) -> None:
        self._spool = spool
        self._address = address
        self._settings = settings
        self._clock_us = clock_us
        self._codec = codec or Codec()
        self._signatures = Signatures(settings)
        self._traces = None if tracing is None else Traces(tracing)
        self._aside = Aside(
            spool,
            devices=devices,
            every_s=settings.heartbeat_s if beats else None,
            clock_us=clock_us,
            codec=self._codec,
            sources=sources,
            signatures=self._signatures,
            heard=self._on_aside,
        )
        self._backoff = Backoff(settings.retry_first_s, settings.retry_s_max)
        self._pace = Pace(settings.window_bytes)
        self._wake = threading.Event()
        self._stop_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="telltale-sender", daemon=True)
        self.failure: BaseException | None = None
        self.turned_at = time.monotonic()

        self._ready: deque[Cut] = deque()
        self._in_flight: dict[FrameKey, tuple[Cut, float]] = {}
        self._in_flight_bytes = 0
        self._acknowledged: dict[FrameKey, Cut] = {}
        self._acknowledged_bytes = 0
        self._acknowledged_at = 0.0
        self._parked: set[FrameKey] = set()
        self._frame_bytes_max = settings.frame_bytes_max
        self._asleep = False
        self._healed = UNREAD
        self._behind_since: float | None = None
        self._live_looked_at = 0.0
        self._again_looked_at = 0.0
        self._alone_until = 0.0
        self._generation = 0
        self._fatal = False
        self._attempt = 0
        self._not_before = 0.0
        self._cut_at = 0.0
        self._link = LinkState(Link.CONNECTING, address)
        self._link_file = LinkFile(spool.folder)
        self._readings = 0
        self._frames = 0
        self._last_sequence: int | None = None
        self._moved_at = time.monotonic()

    # for other threads

    def start(self) -> None:
        """Raises `Refused` for settings of which librdkafka makes no client."""
        try:
            self._open()
        except KafkaException as error:
            raise Refused(f"no client of kafka at {self._address} can be made: {error.args[0].str()}") from None
        self._thread.start()

    def wake(self) -> None:
        """Something was accepted. A thread that knows of other readings already looks in time by itself."""
        if self._asleep:
            self._wake.set()

    def publish(self, topic: str, key: str, value: bytes) -> None:
        """Hand over a record beside the readings. Not spooled: lost if the broker does not come back in time."""
        self._aside.publish(topic, key, value)
        self._wake.set()

    def hush(self, device_id: str, *, silent: bool) -> None:
        """Withhold a device's heartbeats, or no longer."""
        self._aside.hush(device_id, silent=silent)

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
            while True:
                now = self.turned_at = time.monotonic()
                if now >= self._aside.beat_at:
                    self._aside.beat(now, self._link)
                try:
                    self._turn(now)
                    self._send(now)
                except DiskTrouble as trouble:
                    self._hold(now, LinkState(Link.DISK, str(trouble)))
                self._aside.say()
                self._link_file.tell(self._link, now=now, now_us=self._clock_us())
                if self._stop_at is not None and (now >= self._stop_at or self._nothing_left()):
                    break
                self._wait(now)
            self._close()
        except BaseException as error:  # noqa: BLE001 - kept for whoever asks; a thread has nobody to raise to
            self.failure = error

    def _nothing_left(self) -> bool:
        return self.drained and self._aside.empty

    def _open(self) -> None:
        self._generation += 1
        self._fatal = False
        self._in_flight.clear()
        self._in_flight_bytes = 0
        self._pace.restart()
        options = client.options(self._address, self._settings)
        self._producer = Producer({**options, "error_cb": partial(self._on_error, self._generation)})
        self._aside.opened(self._producer)
        self._healed = UNREAD

    def _ready_anew(self) -> None:
        """What the spool says is cut, but for what is on its way or through. Raises `DiskTrouble`."""
        healed = self._spool.healed
        gone = self._acknowledged.keys() | self._in_flight.keys() | self._parked
        self._ready = deque(cut for cut in self._spool.unacknowledged() if cut.key not in gone)
        self._healed = healed

    def _turn(self, now: float) -> None:
        """Acknowledged frames out of the spool, new ones cut, in one commit."""
        if (self._fatal and now >= self._not_before) or self._is_unheard(now):
            self._drop_producer()
            self._open()
        if self._spool.healed != self._healed:  # a new producer, or what was cut may be cut otherwise now
            self._ready_anew()
        if self._spool.kept_bytes and now - self._again_looked_at > AGAIN_LOOK_S and not self._ready:
            self._again_looked_at = now
            self._ready.extend(self._spool.send_again())
        room = self._room() if now >= self._not_before and self._cut_due(now) else 0
        if room <= 0 and not self._forget_due(now):
            return
        cuts = self._spool.turn(
            self._acknowledged,
            room_bytes=max(0, room),
            frame_bytes_max=self._pace.frame_bytes(self._frame_bytes_max),
            live_share=self._settings.live_share,
        )
        self._acknowledged.clear()
        self._acknowledged_bytes = 0
        if cuts:
            self._cut_at = now
            self._ready.extend(cuts)
        self._overtake(now)

    def _is_unheard(self, now: float) -> bool:
        oldest = next(iter(self._in_flight.values()), None)
        limit_s = AWAY_S_MAX if self._link.link is Link.AWAY else UNHEARD_S_MAX
        return oldest is not None and now - max(oldest[1], self._moved_at) > limit_s

    def _room(self) -> int:
        if len(self._ready) + len(self._in_flight) >= FRAMES_MAX:
            return 0
        return self._pace.window_bytes - self._in_flight_bytes - sum(cut.bytes for cut in self._ready)

    def _forget_due(self, now: float) -> bool:
        """Deleting is not urgent: it waits for the next cut, but not for long."""
        if not self._acknowledged:
            return False
        long_ago = now - self._acknowledged_at >= 2 * self._settings.linger_s
        return long_ago or self._acknowledged_bytes >= ACKNOWLEDGED_BYTES_MAX or self._stop_at is not None

    def _overtake(self, now: float) -> None:
        """A backlog that the link does not take in time lets new readings pass."""
        if not self._spool.unframed or self._link.link is not Link.UP or not self._settings.live_share:
            self._behind_since = None
            return
        if self._behind_since is None:
            self._behind_since = now
        within_s = self._settings.live_within_s
        if now - self._behind_since > within_s and now - self._live_looked_at > LIVE_LOOK_S:
            self._live_looked_at = now
            self._spool.prefer_new(waited_s_max=within_s)

    def _cut_due(self, now: float) -> bool:
        """Single readings are gathered for `linger_s`; a full frame's worth need not wait."""
        if not self._spool.unframed:
            return False
        plenty = self._spool.bytes >= 2 * self._frame_bytes_max
        return plenty or self._stop_at is not None or now - self._cut_at >= self._settings.linger_s

    def _send(self, now: float) -> None:
        while self._ready and now >= self._not_before and self._in_flight_bytes < self._pace.window_bytes:
            if self._in_flight and now < self._alone_until:
                return
            cut = self._ready[0]
            try:
                value = self._codec.encode(self._spool.read(cut.key))
                self._producer.produce(
                    READINGS_RAW,
                    value,
                    key=cut.key.device_id,
                    headers=self._headers(cut, value),
                    on_delivery=partial(self._on_frame, self._generation, cut),
                )
            except KeyError:  # the spool was damaged and recovered without it
                self._ready.popleft()
                continue
            except Damaged:
                self._spool.discard(cut.key)
                self._ready.popleft()
                continue
            except BufferError:
                return
            except KafkaException as error:
                self._ready.popleft()
                self._refused(cut, error.args[0])
                continue
            self._ready.popleft()
            self._in_flight[cut.key] = cut, now
            self._in_flight_bytes += cut.bytes

    def _headers(self, cut: Cut, value: bytes) -> Headers | None:
        headers = self._signatures.headers(READINGS_RAW, cut.key.device_id, value)
        if self._traces is None:
            return headers
        return [*(headers or ()), *self._traces.begin(cut)] or None

    def _wait(self, now: float) -> None:
        until = [self._aside.beat_at - now]
        if self._spool.unframed or self._ready:
            until.append(max(self._not_before - now, self._cut_at + self._settings.linger_s - now))
        if self._in_flight or self._aside.in_flight:
            self._producer.poll(min(POLL_S, max(0.001, min(until))))
            return
        if self._acknowledged:
            until.append(self._acknowledged_at + 2 * self._settings.linger_s - now)
        self._producer.poll(0)
        self._asleep = not self._spool.unframed  # what comes after this line wakes it
        if self._asleep and self._spool.unframed:
            return
        if self._wake.wait(min(IDLE_S, max(0.001, min(until)))):
            self._wake.clear()

    def _close(self) -> None:
        """The last heartbeat and the outbox, if somebody listens; then out of memory, not out of the spool."""
        if self._link.link is Link.UP:
            self._aside.beat(time.monotonic(), self._link)
            self._aside.say()
            self._producer.flush(LAST_WORDS_S_MAX)
            self._turn(time.monotonic())
        self._drop_producer()
        self._link_file.end()

    def _drop_producer(self) -> None:
        self._producer.purge()
        self._producer.flush(1.0)
        if self._traces is not None:
            self._traces.end_all()
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
            self._pace.restart()

    def _on_frame(self, generation: int, cut: Cut, error: KafkaError | None, _: Message) -> None:
        now = time.monotonic()
        if self._traces is not None:
            self._traces.end(cut.key, error=None if error is None else error.str())
        if generation == self._generation and (sent := self._in_flight.pop(cut.key, None)) is not None:
            before = self._in_flight_bytes
            self._in_flight_bytes -= cut.bytes
            if error is None:
                self._pace.acknowledged(cut.bytes, waited_s=now - sent[1], in_flight_bytes=before, now=now)
        if error is None:
            if not self._acknowledged:
                self._acknowledged_at = now
            self._acknowledged[cut.key] = cut
            self._acknowledged_bytes += cut.bytes
            self._readings += cut.readings
            self._frames += 1
            self._last_sequence = cut.key.sequence
            self._up()
        elif generation == self._generation and error.code() not in PURGED:
            self._refused(cut, error)

    def _on_aside(self, error: KafkaError | None) -> None:
        """A heartbeat came through, or not."""
        if error is not None:
            self._link = link_state(error, address=self._address)
        elif not self._in_flight and not self._ready:
            self._up()

    def _up(self) -> None:
        self._moved_at = time.monotonic()
        self._attempt = 0
        if self._link.link is not Link.UP and not self._parked:
            self._link = LinkState(Link.UP)

    def _refused(self, cut: Cut, error: KafkaError) -> None:
        """The broker, or librdkafka for it, said no to a frame."""
        now = time.monotonic()
        if error.code() in TOO_LARGE:
            self._too_large(cut, error, now)
            return
        self._ready.appendleft(cut)
        self._ready = deque(sorted(self._ready, key=lambda each: each.key.sequence))
        self._fatal = self._fatal or error.fatal()
        self._hold(now, link_state(error, address=self._address))

    def _too_large(self, cut: Cut, error: KafkaError, now: float) -> None:
        """It may have been the company that was too large: only a frame that went alone is split."""
        alone, self._alone_until = now < self._alone_until, now + ALONE_S
        if not alone or self._in_flight:
            self._ready.appendleft(cut)
            self._ready = deque(sorted(self._ready, key=lambda each: each.key.sequence))
            return
        self._frame_bytes_max = max(1024, min(self._frame_bytes_max, cut.bytes // 2))
        if self._spool.split(cut.key):
            self._ready_anew()
        else:
            self._parked.add(cut.key)
            self._link = LinkState(Link.TOO_LARGE, f"frame {cut.key.sequence} of {cut.key.device_id}: {error.str()}")

    def _hold(self, now: float, state: LinkState) -> None:
        """Wait before the next try. Refusals of one burst count once."""
        self._link = state
        if now >= self._not_before:
            self._not_before = now + self._backoff.wait_s(self._attempt, chance=random.random())  # noqa: S311 - jitter
            self._attempt += 1
