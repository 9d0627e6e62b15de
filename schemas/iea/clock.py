"""The clock of a mast's loggers: local dates of the data model onto UTC. Pure; knows no pydantic, no file.

Each logger has its own offset. A date is read in the clock of the logger in use at it, and never lands behind the
moment the next logger began: where a change of loggers also changes the offset, the order of dates is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from schemas.iea.timeline import OPEN


@dataclass(frozen=True, slots=True)
class Running:
    """A logger in use from a local date on, with its offset from UTC in minutes."""

    since: datetime
    offset_minutes: int

    @property
    def since_utc(self) -> datetime:
        return self.to_utc(self.since)

    def to_utc(self, local: datetime) -> datetime:
        return (local - timedelta(minutes=self.offset_minutes)).replace(tzinfo=UTC)


class Clock:
    """The clocks of all loggers, in order of `since`. No logger at all means UTC."""

    def __init__(self, loggers: Sequence[Running]) -> None:
        self._loggers = loggers or [Running(datetime(1, 1, 1), 0)]  # noqa: DTZ001 - local time, without a zone

    def at(self, local: datetime) -> Running:
        """The logger in use; before the first one, the first."""
        return next((logger for logger in reversed(self._loggers) if logger.since <= local), self._loggers[0])

    def utc(self, local: datetime) -> datetime | None:
        """The instant of a local date; None for an open end. Never decreases."""
        if local >= OPEN:
            return None
        logger = self.at(local)
        following = self._loggers[self._loggers.index(logger) + 1 :]
        return min([logger.to_utc(local), *(later.since_utc for later in following)])


def spelled_offset(minutes: int) -> str:
    """`-330` as `-05:30`."""
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
