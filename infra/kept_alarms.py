"""Alarms of a service that outlive its process: which stand, and which are still to be told. Knows a file and the
alarm's shape; no broker.

So an alarm is cleared by whoever finds the trouble gone, and one that was raised while Kafka was away is told later. An
event may be told twice; its id is the same.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from infra import measured
from infra.record_file import write
from schemas.alarms import Alarm, AlarmEvent, AlarmState, Severity, alarm_event, alarm_id
from schemas.errors import Unavailable
from schemas.records import Utc

log = structlog.get_logger(__name__)

UNTOLD_MAX = 1000
"""Beyond it the oldest are dropped: months of trouble without a broker, that nobody reads event by event."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Tell = Callable[[Sequence[AlarmEvent]], None]
"""Brings events to `alarms`; raises `Unavailable` unless all have arrived."""


class Known(BaseModel):
    """What is remembered from one process to the next."""

    model_config = ConfigDict(extra="forbid")

    since: dict[str, Utc] = {}
    standing: list[Alarm] = []
    untold: list[AlarmEvent] = []


class KeptAlarms:
    """The alarms of one speaker, one at a time per rule and source."""

    def __init__(self, path: Path, *, speaker: str, tell: Tell) -> None:
        self._path, self._speaker, self._tell = path, speaker, tell
        try:
            self._known = Known.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            self._known = Known()

    @property
    def standing(self) -> Mapping[tuple[str, str], Alarm]:
        """By rule and source."""
        return {(alarm.rule, alarm.source): alarm for alarm in self._known.standing}

    def since(self, what: str, now: datetime) -> datetime:
        """When somebody first asked this of `what`."""
        if what not in self._known.since:
            self._known.since[what] = now
            self._save()
        return self._known.since[what]

    def raised(
        self,
        rule: str,
        *,
        source: str,
        severity: Severity,
        reason: str,
        now: datetime,
        message: str,
        value: float | None = None,
        limit: float | None = None,
        unit: str | None = None,
        device_id: str | None = None,
        station_id: str | None = None,
    ) -> AlarmEvent | None:
        """Something is wrong, perhaps still; the event, if it is news."""
        if (rule, source) in self.standing:
            return None
        onset_us = (now - EPOCH) // EPOCH.resolution
        alarm = Alarm(
            alarm_id=alarm_id(rule, source, onset_us),
            rule=rule,
            source=source,
            device_id=device_id,
            station_id=station_id,
            severity=severity,
            state=AlarmState.RAISED,
            reason=reason,
            onset=now,
            value=value,
            limit=limit,
            unit=unit,
            message=message,
        )
        self._known.standing.append(alarm)
        measured.RAISED.labels(rule, severity).inc()
        return self._note(alarm, now)

    def cleared(self, rule: str, *, source: str, now: datetime, message: str) -> AlarmEvent | None:
        """It is well again, or was all the time; the event, if it is news."""
        alarm = self.standing.get((rule, source))
        if alarm is None:
            return None
        self._known.standing.remove(alarm)
        return self._note(alarm.over(message), now)

    def ring(self) -> bool:
        """Tells what is untold; false if it could not be told."""
        if not self._known.untold:
            return True
        try:
            self._tell(self._known.untold)
        except Unavailable:
            return False
        self._known.untold = []
        self._save()
        return True

    def _note(self, alarm: Alarm, now: datetime) -> AlarmEvent:
        log.warning("alarm", state=alarm.state, rule=alarm.rule, source=alarm.source, id=alarm.alarm_id)
        event = alarm_event(alarm, time=now, speaker=self._speaker)
        self._known.untold = [*self._known.untold, event][-UNTOLD_MAX:]
        self._save()
        return event

    def _save(self) -> None:
        """On a disk that is full what is known is kept in memory, and told all the same."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(self._path, self._known)
        except OSError as error:
            log.warning("alarms not kept", path=str(self._path), detail=error.strerror)
