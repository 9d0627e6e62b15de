"""What the stage has said in `alarms`, whichever worker did: a thread that reads the topic.

A station's devices live in several partitions and workers. Each partition says in `alarms` which of its devices are
silent; the partition of the station's first device by id reads it here, and says whether the station is. What is said
to stand of a device is known here too when the device's state is lost.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from schemas.alarms import STANDING, Alarm, is_answered_by_stage, read_alarm
from schemas.columnar import Unreadable
from schemas.topics import ALARMS
from streams.agents.followed import Followed
from streams.alarms.rules import DEVICE_SILENT, STAGE_BEHIND, STATION_SILENT

READ_S_MAX = 60.0
"""Ninety days of alarms, newest of each: read in a second or two. After it the worker starts again."""

RULES = frozenset({DEVICE_SILENT, STATION_SILENT, STAGE_BEHIND})
NEVER_US = 0


@dataclass(frozen=True, slots=True)
class _Told:
    alarm: Alarm
    time_us: int


class Told:
    """The newest alarm of each source, of the rules that others need to know."""

    def __init__(self, kafka: str, *, failed: Callable[[BaseException], None]) -> None:
        self._newest: dict[tuple[str, str], _Told] = {}
        self._standing: dict[str, tuple[Alarm, ...]] = {}  # by device; values are replaced, never changed
        self._topic = Followed(kafka, ALARMS, take=self._take, failed=failed, fetch_wait_ms=200)

    def start(self) -> None:
        """Begin to read; returns when everything there was at the time is read."""
        self._topic.start(within_s=READ_S_MAX)
        self._topic.await_end(within_s=READ_S_MAX)

    def stop(self) -> None:
        self._topic.stop()

    def standing(self, rule: str, source: str) -> Alarm | None:
        """The alarm of a rule about a source, if it stands."""
        told = self._newest.get((rule, source))
        return told.alarm if told and told.alarm.state in STANDING else None

    def ended(self, rule: str, source: str) -> Alarm | None:
        """The last alarm of a rule about a source, if it is over."""
        told = self._newest.get((rule, source))
        return told.alarm if told and told.alarm.state not in STANDING else None

    def cleared_us(self, rule: str, source: str) -> int:
        """When the last one was said to be over; 0 if it stands or never was."""
        told = self._newest.get((rule, source))
        return told.time_us if told and told.alarm.state not in STANDING else NEVER_US

    def of_device(self, device_id: str) -> tuple[Alarm, ...]:
        """Alarms of a device that the stage has said to stand; each at its last step."""
        return self._standing.get(device_id, ())

    def devices(self) -> Collection[str]:
        """Those with alarms that the stage has said to stand."""
        return [device_id for device_id, standing in list(self._standing.items()) if standing]

    def _take(self, message: Any) -> None:
        try:
            event = read_alarm(message.value())
        except Unreadable:
            return  # a removed key, or somebody else's record
        alarm = event.data
        if alarm.device_id is not None and is_answered_by_stage(event):
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
