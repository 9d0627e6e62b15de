"""Follows the live topics in a thread of its own and says what changed. Knows topics and the fleet; knows no page.

It joins no group: each process of the dashboard follows everything, from the sink's offsets on (`seed`). All reads are
`read_committed`. Whatever is told is encoded once, whoever listens.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import psycopg
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition

from dashboard.live import messages
from dashboard.live.fleet import Fleet
from dashboard.live.messages import encoded
from dashboard.live.seed import Seed, seed
from infra.client import connection, reader
from infra.database import first_line
from infra.offsets import ANSWER_S_MAX, span
from schemas.alarms import (
    STANDING,
    ActionAnswer,
    ActionAnswerEvent,
    AlarmActionEvent,
    AlarmEvent,
    read_action_or_answer,
    read_alarm,
    supersedes,
)
from schemas.codec import Codec
from schemas.columnar import Unreadable
from schemas.devices import Device
from schemas.errors import Unavailable
from schemas.frames import CleanFrame
from schemas.keys import PARTITIONER
from schemas.records import Heartbeat, ImportStatus
from schemas.topics import ALARM_ACTIONS, ALARMS, DEVICES, HEARTBEATS, IMPORTS, READINGS_CLEAN

log = structlog.get_logger(__name__)

TICK_S = 0.5
"""Between two messages about readings: half of the second that people may wait."""
POLL_S = 0.05
"""How long an alarm may lie before it is told; below it, the thread would only turn."""
RECORDS_MAX = 500
BACKLOG_MAX = 20_000
"""Records of one partition that are read again when the sink is far behind; older ones change nothing now."""
AGAIN_S = 2.0

QUIET_S_MAX = 5.0
"""Pages that show no fleet hear at least so often, so that they know that the line lives."""

Publish = Callable[[bytes, bytes | None], None]
"""What is told to pages that show the fleet, and to the others (None: nothing)."""


class Live:
    """The live state, and the thread that keeps it. All public methods may be called from any thread."""

    def __init__(self, kafka: str, dsn: str, *, codec: Codec | None = None) -> None:
        self.kafka, self._dsn = kafka, dsn
        self._publish: Publish = lambda full, light: None
        self._codec = codec or Codec()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._waiting: dict[str, Future[ActionAnswer]] = {}
        self._seq = 0
        self._told_version = -1
        self._told_tiles: dict[str, Any] = {}
        self._told_light: dict[str, Any] = {}
        self._light_due_s = 0.0
        self._producer: Producer | None = None
        self.fleet = Fleet()
        self.sensor_ids: dict[tuple[str, str], int] = {}
        self.alarms: dict[str, AlarmEvent] = {}
        """Those that stand, by id."""
        self.configured: dict[str, Device] = {}
        self.extra: dict[str, Any] = {}
        """Figures and health, from whoever looks them up."""
        self.is_following = False
        self.trouble = "starting"

    def start(self, publish: Publish) -> None:
        """Begins to follow; what is told goes to `publish`, on the thread."""
        self._publish = publish
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    # What others ask.

    def snapshot(self, full: bool) -> bytes:
        """The whole picture, or only alarms and tiles."""
        with self._lock:
            now_us = _now_us()
            self.fleet.look(now_us)
            return encoded(self._numbered(self._picture(full, self._tiles(now_us)), now_us))

    def sparks(self, numbers: list[int]) -> bytes:
        """The newest readings of some sensors."""
        with self._lock:
            known = [number for number in numbers if 0 <= number < len(self.fleet)]
            return encoded({"t": "p", "i": known, "p": [self.fleet.spark(number) for number in known]})

    def device(self, device_id: str) -> Device | None:
        """A device's configuration as it stands in the topic."""
        with self._lock:
            return self.configured.get(device_id)

    def stations(self) -> dict[str, list[Device]]:
        """All configured devices by station."""
        found: dict[str, list[Device]] = {}
        with self._lock:
            for device in sorted(self.configured.values(), key=lambda each: each.device_id):
                found.setdefault(device.station.station_id, []).append(device)
        return found

    def states_of(self, device_ids: Collection[str]) -> list[dict[str, int]]:
        """How devices stand: state, times (milliseconds, 0: none), sensors that are online and all."""
        with self._lock:
            self.fleet.look(_now_us())
            found = self.fleet.standing(device_ids)
        return [each | {"heard": each["heard"] // 1000, "beat": each["beat"] // 1000} for each in found]

    def standing(self) -> list[AlarmEvent]:
        """Alarms that are not over."""
        with self._lock:
            return list(self.alarms.values())

    def alarm(self, alarm_id: str) -> AlarmEvent | None:
        """One that stands."""
        with self._lock:
            return self.alarms.get(alarm_id)

    def note(self, **extra: Any) -> None:
        """Figures that are told with the next tick."""
        with self._lock:
            self.extra |= extra

    def act(self, event: AlarmActionEvent) -> Future[ActionAnswer]:
        """Sends what somebody did about an alarm; the stage's answer comes later. Raises `Unavailable`."""
        if not self.is_following:
            raise Unavailable("the dashboard does not hear Kafka at the moment; nothing was sent")
        future: Future[ActionAnswer] = Future()
        with self._lock:
            self._waiting[event.id] = future

        def delivered(error: Any, _: Message) -> None:
            if error is not None and not future.done():
                future.set_exception(Unavailable(f"Kafka did not take the action: {error.str()}"))

        self._writer().produce(
            ALARM_ACTIONS,
            key=event.data.device_id.encode(),
            value=event.model_dump_json().encode(),
            on_delivery=delivered,
        )
        return future

    async def configure(self, device: Device) -> None:
        """Writes a device's configuration to `devices`, and waits until the broker has it. Raises `Unavailable`."""
        if not self.is_following:
            raise Unavailable("the dashboard does not hear Kafka at the moment; nothing was changed")
        done: Future[None] = Future()

        def delivered(error: Any, _: Message) -> None:
            if error is not None:
                done.set_exception(Unavailable(f"Kafka did not take the configuration: {error.str()}"))
            else:
                done.set_result(None)

        self._writer().produce(
            DEVICES, key=device.device_id.encode(), value=self._codec.encode(device), on_delivery=delivered
        )
        await asyncio.wrap_future(done)
        with self._lock:  # what is asked next finds it, also before it has come back
            self.configured[device.device_id] = device

    def _writer(self) -> Producer:
        """The producer; its reports are collected by the thread."""
        with self._lock:
            if self._producer is None:
                self._producer = Producer(
                    {
                        **connection(self.kafka),
                        "enable.idempotence": True,
                        "acks": "all",
                        "partitioner": PARTITIONER,
                        "linger.ms": 0,
                        "message.timeout.ms": round(1000 * ANSWER_S_MAX),
                    }
                )
            return self._producer

    def forget(self, action_id: str) -> None:
        """Nobody waits for this answer any more."""
        with self._lock:
            self._waiting.pop(action_id, None)

    # The thread.

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except (psycopg.Error, KafkaException, Unavailable) as error:
                self.is_following = False
                self.trouble = first_line(error)
                log.warning("live_interrupted", detail=self.trouble)
                self._tick()
                self._stop.wait(AGAIN_S)
            except Exception:
                self.is_following = False
                self.trouble = "a bug in the dashboard, see its log"
                log.exception("live_failed")
                self._tick()
                self._stop.wait(AGAIN_S)

    def _follow(self) -> None:
        consumer = Consumer(
            {
                **reader(self.kafka, group="telltale-dashboard"),
                "enable.partition.eof": False,
                "fetch.wait.max.ms": 500,
            }
        )
        try:
            ends = self._ends(consumer)
            begun = seed(self._dsn, now_us=_now_us())
            self._begin(begun)
            consumer.assign(_starts(ends, begun.offsets))
            self.is_following, self.trouble = True, ""
            due = time.monotonic()
            while not self._stop.is_set():
                urgent = self._take(consumer.consume(RECORDS_MAX, timeout=POLL_S))
                if self._producer is not None:
                    self._producer.poll(0)
                if urgent:
                    told = encoded(urgent)
                    self._publish(told, told)
                if time.monotonic() >= due:
                    due = time.monotonic() + TICK_S
                    self._tick()
        finally:
            consumer.close()

    @staticmethod
    def _ends(consumer: Consumer) -> dict[tuple[str, int], tuple[int, int]]:
        """First and next offset of every partition that is followed."""
        known = consumer.list_topics(timeout=ANSWER_S_MAX).topics
        found = {}
        for topic in (READINGS_CLEAN, HEARTBEATS, ALARMS, ALARM_ACTIONS, DEVICES, IMPORTS):
            if topic not in known:
                raise Unavailable(f"the broker has no topic {topic}; make it with: telltale topics provision")
            for part in known[topic].partitions:
                found[topic, part] = span(consumer, topic, part)
        return found

    def _begin(self, begun: Seed) -> None:
        with self._lock:
            begun.fleet.version = self.fleet.version + 1
            self.fleet, self.sensor_ids = begun.fleet, begun.sensor_ids
            self.alarms = {event.data.alarm_id: event for event in begun.alarms}
            self.configured = {}

    def _take(self, records: list[Message]) -> dict[str, Any] | None:
        """Takes records in; what is to be told at once."""
        raised: dict[str, AlarmEvent] = {}
        imported: list[dict[str, Any]] = []
        with self._lock:
            for message in records:
                error = message.error()
                if error is not None:
                    if not error.retriable():
                        raise KafkaException(error)
                    continue
                with suppress(Unreadable):  # somebody else's record: the next one matters more
                    self._record(message, raised, imported)
            if not raised and not imported:
                return None
            self._seq += 1
            return messages.events(raised.values(), imported, standing=len(self.alarms)) | {"seq": self._seq}

    def _record(self, message: Message, raised: dict[str, AlarmEvent], imported: list[dict[str, Any]]) -> None:
        topic, value = message.topic(), message.value()
        if topic == READINGS_CLEAN:
            self.fleet.take(self._codec.decode_frame(CleanFrame, value), came_us=_stamp_us(message))
        elif topic == HEARTBEATS:
            self.fleet.beat(self._codec.decode(Heartbeat, value), came_us=_stamp_us(message))
        elif topic == DEVICES:
            self._configure(message.key(), value)
        elif topic == ALARMS:
            self._alarm(value, raised)
        elif topic == IMPORTS and value is not None:
            status = self._codec.decode(ImportStatus, value)
            imported.append({"sha256": status.sha256, "name": status.name, "state": status.state})
        elif topic == ALARM_ACTIONS:
            answer = read_action_or_answer(value)
            if isinstance(answer, ActionAnswerEvent):
                future = self._waiting.pop(answer.data.action_id, None)
                if future is not None and not future.done():
                    future.set_result(answer.data)

    def _configure(self, key: bytes | None, value: bytes | None) -> None:
        if value is None:
            device_id = (key or b"").decode(errors="replace")
            self.configured.pop(device_id, None)
            self.fleet.remove(device_id)
            return
        device = self._codec.decode(Device, value)
        self.configured[device.device_id] = device
        self.fleet.configure(device)

    def _alarm(self, value: bytes | None, raised: dict[str, AlarmEvent]) -> None:
        if value is None:
            return
        event = read_alarm(value)
        alarm = event.data
        known = self.alarms.get(alarm.alarm_id)
        if known is not None and not supersedes(event, known):
            return
        if alarm.state in STANDING:
            self.alarms[alarm.alarm_id] = event
        else:
            self.alarms.pop(alarm.alarm_id, None)
        raised[alarm.alarm_id] = event

    def _tick(self) -> None:
        with self._lock:
            now_us = _now_us()
            self.fleet.look(now_us)
            numbers = self.fleet.changes()
            tiles = self._tiles(now_us)
            self._seq += 1
            if self.fleet.version != self._told_version:
                told = self._picture(True, tiles)
            elif len(numbers) or tiles != self._told_tiles:
                told = messages.changes(self.fleet, numbers, tiles)
            else:
                told = {"t": "d", "i": []}
            self._told_version, self._told_tiles = self.fleet.version, tiles
            message = encoded(self._numbered(told, now_us))
            light = None
            if tiles != self._told_light or time.monotonic() >= self._light_due_s:
                self._told_light, self._light_due_s = tiles, time.monotonic() + QUIET_S_MAX
                light = encoded(self._numbered({"t": "l", "tiles": tiles}, now_us))
        self._publish(message, light)

    def _numbered(self, message: dict[str, Any], now_us: int) -> dict[str, Any]:
        """With its place among all messages, so that a page notices what it missed."""
        return message | {"seq": self._seq, "now": now_us // 1000}

    def _tiles(self, now_us: int) -> dict[str, Any]:
        alarms = messages.counts(self.alarms.values())
        return self.fleet.tally(now_us) | {"alarms": alarms, "trouble": self.trouble} | self.extra

    def _picture(self, full: bool, tiles: dict[str, Any]) -> dict[str, Any]:
        alarms = self.alarms.values()
        return messages.picture(self.fleet, alarms, tiles) if full else messages.light(alarms, tiles)


def _starts(ends: dict[tuple[str, int], tuple[int, int]], stored: dict[tuple[str, int], int]) -> list[TopicPartition]:
    """Where to read on: what the database has not, all configuration, and of answers only those to come."""
    starts = []
    for (topic, part), (low, end) in ends.items():
        if topic == DEVICES:
            at = OFFSET_BEGINNING
        elif topic == ALARM_ACTIONS:
            at = end
        elif topic == ALARMS:
            at = max(low, stored.get((topic, part), low))
        else:
            at = max(low, stored.get((topic, part), low), end - BACKLOG_MAX)
        starts.append(TopicPartition(topic, part, at))
    return starts


def _stamp_us(message: Message) -> int:
    """When the record was written, by Kafka's clock or the stage's."""
    kind, milliseconds = message.timestamp()
    return milliseconds * 1000 if kind else _now_us()


def _now_us() -> int:
    return time.time_ns() // 1000
