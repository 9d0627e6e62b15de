"""When a backup is made, verified and removed, and when that is an alarm. The clock is passed in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from infra.backup import measured
from infra.backup.alarms import Alarms, Rule
from infra.backup.folder import Backup, Folder
from schemas.errors import Refused, Unavailable

log = structlog.get_logger(__name__)

RETRY_S_MIN, RETRY_S_MAX = 60.0, 3600.0
"""Pauses after a failure: they double from the first to the second, and are never longer than the schedule's own."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted."""

    database: str
    every: timedelta
    keep: int
    verify: bool

    @property
    def overdue(self) -> timedelta:
        """So old may the newest backup be: one turn may fail and be made good by the next."""
        return 2 * self.every


@dataclass(slots=True)
class Tries:
    """How one kind of work has gone of late."""

    failures: int = 0
    not_before: datetime | None = None

    def may(self, now: datetime) -> bool:
        return self.not_before is None or now >= self.not_before

    def went_well(self) -> None:
        self.failures, self.not_before = 0, None

    def failed(self, now: datetime, *, every: timedelta) -> None:
        pause_s = min(RETRY_S_MIN * 2**self.failures, RETRY_S_MAX, every.total_seconds())
        self.failures = min(self.failures + 1, 16)
        self.not_before = now + timedelta(seconds=pause_s)


@dataclass(slots=True)
class Schedule:
    """One database's backups. `make` and `verify` do the work and raise `Refused` or `Unavailable`."""

    plan: Plan
    folder: Folder
    alarms: Alarms
    clock: Callable[[], datetime]
    make: Callable[[], Backup]
    verify: Callable[[Backup], Backup]
    _making: Tries = field(default_factory=Tries)
    _verifying: Tries = field(default_factory=Tries)

    def turn(self) -> bool:
        """Does what is due, tells what is to be told; whether all is well."""
        self._look()
        if self._due():
            self._make()
        if self.plan.verify:
            self._verify()
        self._look()
        self.folder.keep(self.plan.keep, database=self.plan.database, now=self.clock())
        return self.alarms.ring() and not self.alarms.standing

    def _newest(self) -> Backup | None:
        """The newest; one from the future was made by a clock that was wrong, and says nothing."""
        now = self.clock()
        backups = self.folder.backups(self.plan.database)
        return next((each for each in backups if each.manifest.taken <= now), None)

    def _due(self) -> bool:
        now, newest = self.clock(), self._newest()
        return self._making.may(now) and (newest is None or now - newest.manifest.taken >= self.plan.every)

    def _make(self) -> None:
        try:
            with measured.TOOK.labels("make").time():
                made = self.make()
        except (Refused, Unavailable) as error:
            measured.FAILED.labels("make").inc()
            now = self.clock()
            self._making.failed(now, every=self.plan.every)
            log.warning("backup_failed", detail=str(error))
            self.alarms.raised(Rule.FAILED, now=now, message=f"No backup of {self.plan.database} was made: {error}")
            return
        self._making.went_well()
        self._verifying.went_well()  # it is another backup that is verified now
        measured.MADE.inc()
        measured.LAST_MADE.is_now()
        measured.SIZE.set(made.manifest.bytes)
        log.info("backup_made", name=made.name, rows=made.manifest.rows, bytes=made.manifest.bytes)

    def _verify(self) -> None:
        newest = self._newest()
        if newest is None or newest.verified or not self._verifying.may(self.clock()):
            return
        try:
            with measured.TOOK.labels("verify").time():
                self.verify(newest)
        except (Refused, Unavailable) as error:
            measured.FAILED.labels("verify").inc()
            now = self.clock()
            self._verifying.failed(now, every=self.plan.every)
            log.warning("backup_unverifiable", name=newest.name, detail=str(error))
            self.alarms.raised(Rule.UNVERIFIABLE, now=now, message=f"Backup {newest.name} was not verified: {error}")
            return
        self._verifying.went_well()
        measured.VERIFIED.inc()
        log.info("backup_verified", name=newest.name)

    def _look(self) -> None:
        """Overdue, or well again, by whoever made or verified a backup."""
        now, newest = self.clock(), self._newest()
        since = newest.manifest.taken if newest else self.alarms.watching_since(now)
        age, limit = now - since, self.plan.overdue
        if age > limit:
            have = f"The newest backup of {self.plan.database} is {age} old" if newest else "There is no backup"
            message = f"{have}; one is wanted every {self.plan.every}. See the log of `telltale backup run`."
            self.alarms.raised(
                Rule.OVERDUE, now=now, message=message, value=age.total_seconds(), limit=limit.total_seconds()
            )
        elif newest:
            self.alarms.cleared(Rule.OVERDUE, now=now, message=f"Backup {newest.name} is recent enough.")
        if newest and age < self.plan.every:
            self.alarms.cleared(Rule.FAILED, now=now, message=f"Backup {newest.name} was made.")
        if newest and newest.verified:
            self.alarms.cleared(Rule.UNVERIFIABLE, now=now, message=f"Backup {newest.name} was verified.")
