"""What the stage has said in `alarms`, whichever worker did: a thread that reads the topic.

A station's devices live in several partitions and workers. Each partition says in `alarms` which of its devices are
silent; the partition of the station's first device by name reads it here, and says whether the station is. What is said
to stand of a device is known here too when the device's state is lost.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from confluent_kafka import Consumer, KafkaError, TopicPartition

from infra.client import reader
from schemas.alarms import STANDING, Alarm, read_alarm
from schemas.columnar import Unreadable
from schemas.errors import Refused
from schemas.topics import ALARMS
from streams.alarms.rules import DEVICE_SILENT, STAGE_BEHIND, STATION_SILENT

log = structlog.get_logger()

READ_S_MAX = 60.0
"""Ninety days of alarms, newest of each: read in a second or two. After it the worker starts again."""

RULES = frozenset({DEVICE_SILENT, STATION_SILENT, STAGE_BEHIND})
NEVER_US = 0
SPEAKER = "streams"
"""Who speaks in the stage's own events."""


@dataclass(frozen=True, slots=True)
class _Told:
    alarm: Alarm
    time_us: int


class Told:
    """The newest alarm of each source, of the rules that others need to know."""

    def __init__(self, kafka: str, *, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._newest: dict[tuple[str, str], _Told] = {}
        self._standing: dict[str, tuple[Alarm, ...]] = {}  # by device; values are replaced, never changed
        self._unread: set[int] = set()
        self._read = threading.Event()
        self._stop = threading.Event()
        self._consumer = Consumer({**reader(kafka, group="telltale-streams-alarms"), "fetch.wait.max.ms": 200})
        self._thread = threading.Thread(target=self._run, name="alarms", daemon=True)

    def start(self) -> None:
        """Begin to read; returns when everything there was at the time is read."""
        partitions = self._consumer.list_topics(ALARMS, timeout=READ_S_MAX).topics[ALARMS].partitions
        if not partitions:
            raise Refused(f"the broker has no topic {ALARMS}; make it with: telltale topics provision")
        self._unread = set(partitions)
        self._consumer.assign([TopicPartition(ALARMS, number, 0) for number in partitions])
        self._thread.start()
        if not self._read.wait(READ_S_MAX):
            raise TimeoutError(f"the topic {ALARMS} was not read to its end in {READ_S_MAX:.0f} s")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=5)

    def standing(self, rule: str, source: str) -> Alarm | None:
        """The alarm of a rule about a source, if it stands."""
        told = self._newest.get((rule, source))
        return told.alarm if told and told.alarm.state in STANDING else None

    def cleared_us(self, rule: str, source: str) -> int:
        """When the last one was said to be over; 0 if it stands or never was."""
        told = self._newest.get((rule, source))
        return told.time_us if told and told.alarm.state not in STANDING else NEVER_US

    def of_device(self, device_id: str) -> tuple[Alarm, ...]:
        """Alarms of a device that the stage has said to stand; each at its last step."""
        return self._standing.get(device_id, ())

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.consume(1000, timeout=0.05):
                    error = message.error()
                    if error is None:
                        self._take(message.value())
                    elif error.code() == KafkaError._PARTITION_EOF:
                        self._unread.discard(message.partition())
                        if not self._unread:
                            self._read.set()
                    elif not error.retriable():
                        log.warning("alarms.read_failed", error=str(error))
        except BaseException as error:  # noqa: BLE001 - a thread's failure must end the process
            self._failed(error)
        finally:
            self._consumer.close()

    def _take(self, value: bytes | None) -> None:
        try:
            event = read_alarm(value)
        except Unreadable:
            return  # a removed key, or somebody else's record
        alarm = event.data
        if event.source == f"telltale/{SPEAKER}" and alarm.device_id is not None:
            self._stand(alarm, alarm.device_id)
        if alarm.rule not in RULES or alarm.replayed:
            return
        key = (alarm.rule, alarm.source)
        known = self._newest.get(key)
        # Partitions are read side by side: an older alarm of the same source may come after a newer one.
        if known is None or (alarm.onset, alarm.step) >= (known.alarm.onset, known.alarm.step):
            self._newest[key] = _Told(alarm, round(event.time.timestamp() * 1e6))

    def _stand(self, alarm: Alarm, device_id: str) -> None:
        """Events of one alarm lie in one partition, in order. A state that began anew counts steps anew."""
        before = self._standing.get(device_id, ())
        others = tuple(each for each in before if each.alarm_id != alarm.alarm_id)
        step = max([alarm.step, *(each.step for each in before if each.alarm_id == alarm.alarm_id)])
        standing = alarm.state in STANDING
        self._standing[device_id] = (*others, alarm.model_copy(update={"step": step})) if standing else others
