"""Alarms about backups: which stand, and which are still to be told. Knows a file and the alarm's shape; no broker.

The file outlives the process, so that an alarm is cleared by whoever finds the trouble gone, and one that was raised
while Kafka was away is told later. An event may be told twice; its id is the same.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.backup.folder import write
from schemas.alarms import Alarm, AlarmEvent, AlarmState, Severity, alarm_event
from schemas.errors import Unavailable
from schemas.records import Utc

SPEAKER = "backup"
UNTOLD_MAX = 1000
"""Beyond it the oldest are dropped: months of trouble without a broker, that nobody reads event by event."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Tell = Callable[[Sequence[AlarmEvent]], None]
"""Brings events to `alarms`; raises `Unavailable` unless all have arrived."""


class Rule(StrEnum):
    """What is wrong."""

    FAILED = "backup_failed"
    OVERDUE = "backup_overdue"
    UNVERIFIABLE = "backup_unverifiable"


SEVERITY = {Rule.FAILED: Severity.MAJOR, Rule.OVERDUE: Severity.CRITICAL, Rule.UNVERIFIABLE: Severity.CRITICAL}


class Known(BaseModel):
    """What is remembered from one process to the next."""

    model_config = ConfigDict(extra="forbid")

    watching_since: Utc | None = None
    standing: dict[Rule, Alarm] = {}
    untold: list[AlarmEvent] = []


class Alarms:
    """The alarms of one database's backups."""

    def __init__(self, path: Path, *, source: str, tell: Tell) -> None:
        self._path, self._source, self._tell = path, source, tell
        try:
            self._known = Known.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            self._known = Known()

    @property
    def standing(self) -> frozenset[Rule]:
        return frozenset(self._known.standing)

    def watching_since(self, now: datetime) -> datetime:
        """When somebody first looked after this database's backups."""
        if self._known.watching_since is None:
            self._known.watching_since = now
            self._save()
        return self._known.watching_since

    def raised(
        self, rule: Rule, *, now: datetime, message: str, value: float | None = None, limit: float | None = None
    ) -> None:
        """Something is wrong, perhaps still."""
        if rule in self._known.standing:
            return
        onset_us = (now - EPOCH) // (EPOCH.resolution)
        alarm = Alarm(
            alarm_id=hashlib.sha256(f"{rule}|{self._source}|{onset_us}".encode()).hexdigest()[:16],
            rule=rule,
            source=self._source,
            device_id=None,
            station_id=None,
            severity=SEVERITY[rule],
            state=AlarmState.RAISED,
            reason=rule.removeprefix("backup_"),
            onset=now,
            value=value,
            limit=limit,
            unit=None if limit is None else "s",
            message=message,
        )
        self._known.standing[rule] = alarm
        self._note(alarm, now)

    def cleared(self, rule: Rule, *, now: datetime, message: str) -> None:
        """It is well again, or was all the time."""
        alarm = self._known.standing.pop(rule, None)
        if alarm is not None:
            over = {"state": AlarmState.CLEARED, "step": alarm.step + 1, "message": message}
            self._note(alarm.model_copy(update=over), now)

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

    def _note(self, alarm: Alarm, now: datetime) -> None:
        event = alarm_event(alarm, time=now, speaker=SPEAKER)
        self._known.untold = [*self._known.untold, event][-UNTOLD_MAX:]
        self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self._path, self._known)
