"""What can be wrong with a database's backups, as alarms that outlive the process."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from infra.kept_alarms import KeptAlarms, Tell
from schemas.alarms import Severity

SPEAKER = "backup"


class Rule(StrEnum):
    """What is wrong."""

    FAILED = "backup_failed"
    OVERDUE = "backup_overdue"
    UNVERIFIABLE = "backup_unverifiable"


SEVERITY = {Rule.FAILED: Severity.MAJOR, Rule.OVERDUE: Severity.CRITICAL, Rule.UNVERIFIABLE: Severity.CRITICAL}


class Alarms:
    """The alarms of one database's backups."""

    def __init__(self, path: Path, *, source: str, tell: Tell) -> None:
        self._kept, self._source = KeptAlarms(path, speaker=SPEAKER, tell=tell), source

    @property
    def standing(self) -> frozenset[Rule]:
        return frozenset(Rule(rule) for rule, _ in self._kept.standing)

    def watching_since(self, now: datetime) -> datetime:
        """When somebody first looked after this database's backups."""
        return self._kept.since(self._source, now)

    def raised(
        self, rule: Rule, *, now: datetime, message: str, value: float | None = None, limit: float | None = None
    ) -> None:
        """Something is wrong, perhaps still."""
        self._kept.raised(
            rule,
            source=self._source,
            severity=SEVERITY[rule],
            reason=rule.removeprefix("backup_"),
            now=now,
            message=message,
            value=value,
            limit=limit,
            unit=None if limit is None else "s",
        )

    def cleared(self, rule: Rule, *, now: datetime, message: str) -> None:
        """It is well again, or was all the time."""
        self._kept.cleared(rule, source=self._source, now=now, message=message)

    def ring(self) -> bool:
        """Tells what is untold; false if it could not be told."""
        return self._kept.ring()
