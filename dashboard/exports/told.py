"""Alarms about exports: one that failed, one that took too long; cleared when the same export works again.

What went wrong because of the request is no alarm: whoever asked is told. Ctrl-C is none either.
"""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from dashboard.exports.request import ExportRequest
from infra.kept_alarms import KeptAlarms, Tell
from schemas.alarms import Severity

SPEAKER = "export"
FOLDER = ".alarms"


class Rule(StrEnum):
    """What is wrong."""

    FAILED = "export_failed"
    SLOW = "export_slow"


class ExportAlarms:
    """The alarms of one export: of equal requests, however often they are made."""

    def __init__(self, folder: Path, request: ExportRequest, *, tell: Tell, clock: Callable[[], datetime]) -> None:
        self._name, self._clock = f"{request.format} export of {request.subject}", clock
        self._source = f"export/{request.subject}/{request.format}/{request.digest}"
        self._alarms = KeptAlarms(folder / FOLDER / f"{request.digest}.json", speaker=SPEAKER, tell=tell)

    def failed(self, why: str) -> None:
        self._alarms.raised(
            Rule.FAILED,
            source=self._source,
            severity=Severity.MINOR,
            reason="failed",
            now=self._clock(),
            message=f"The {self._name} failed: {why}. Nothing was left half written; try again once the cause is gone.",
        )
        self._alarms.ring()

    def slow(self, elapsed_s: float, *, limit_s: float) -> None:
        self._alarms.raised(
            Rule.SLOW,
            source=self._source,
            severity=Severity.WARNING,
            reason="slow",
            now=self._clock(),
            message=f"The {self._name} has been running for {elapsed_s:.0f} s. See whether the database is busy, and "
            "choose a shorter period or fewer sensors.",
            value=round(elapsed_s, 1),
            limit=limit_s,
            unit="s",
        )
        self._alarms.ring()

    def worked(self, seconds: float, *, limit_s: float) -> None:
        now = self._clock()
        self._alarms.cleared(Rule.FAILED, source=self._source, now=now, message=f"The {self._name} works again.")
        if seconds <= limit_s:
            self._alarms.cleared(
                Rule.SLOW, source=self._source, now=now, message=f"The {self._name} took {seconds:.0f} s."
            )
        self._alarms.ring()
