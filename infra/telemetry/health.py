"""Whether a service lives and can do its work, in checks with reasons. Knows no service, no network, no library.

A check answers from what the service knows already; it asks nobody and never blocks. The clock is passed in.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Check:
    """One answer. `value` is in `unit`, where there is a figure."""

    ok: bool
    said: str
    value: float | None = None
    unit: str | None = None
    required: bool = True
    """Whether the service is not ready while this is not well; else it is told only."""


class Health:
    """Of one process. `beat` is called by the loop that does the work; any thread may ask."""

    def __init__(
        self, service: str, *, stuck_s: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`stuck_s`: a loop that has not turned for so long hangs, and the process is better started again. None: its
        turns are not bounded (a backup takes hours)."""
        self.service = service
        self._stuck_s, self._clock = stuck_s, clock
        self._beat_at = clock()
        self._checks: dict[str, Callable[[], Check]] = {}

    def beat(self) -> None:
        self._beat_at = self._clock()

    def check(self, name: str, ask: Callable[[], Check]) -> None:
        """Adds a check. Its name is a label of `telltale_check_ok`."""
        self._checks[name] = ask

    def alive(self) -> Check:
        since_s = round(self._clock() - self._beat_at, 1)
        if self._stuck_s is not None and since_s > self._stuck_s:
            said = f"the loop has not turned for {since_s} s; more than {self._stuck_s:g} s means that it hangs"
            return Check(False, said, since_s, "s")
        return Check(True, "lives", since_s, "s")

    def checks(self) -> dict[str, Check]:
        return {name: ask() for name, ask in dict(self._checks).items()}

    def readiness(self) -> dict[str, Any]:
        """What /readyz says: `ready`, and every check with its reason."""
        found = {"alive": self.alive(), **self.checks()}
        return {
            "service": self.service,
            "ready": all(check.ok for check in found.values() if check.required),
            "checks": {name: asdict(check) for name, check in found.items()},
        }


class Neighbour:
    """How a broker or database has answered of late; told by whoever asks it, read by its check."""

    def __init__(self, what: str, *, answer_s_max: float, clock: Callable[[], float] = time.monotonic) -> None:
        """One that has been asked and says nothing for `answer_s_max` is taken to be away."""
        self._what, self._answer_s_max, self._clock = what, answer_s_max, clock
        self._lock = threading.Lock()
        self._trouble: str | None = "it has not been asked yet"
        self._since = clock()
        self._asked_at: float | None = None

    def asked(self) -> None:
        with self._lock:
            self._asked_at = self._clock()

    def answered(self) -> None:
        with self._lock:
            self._asked_at = None
            if self._trouble is not None:
                self._trouble, self._since = None, self._clock()

    def failed(self, why: str) -> None:
        with self._lock:
            self._asked_at = None
            if self._trouble is None:
                self._since = self._clock()
            self._trouble = why

    def check(self, *, required: bool = True) -> Check:
        with self._lock:
            trouble, since, now = self._trouble, self._since, self._clock()
            if self._asked_at is not None and now - self._asked_at > self._answer_s_max:
                trouble, since = "it says nothing", self._asked_at
        if trouble is None:
            return Check(True, f"the {self._what} answers", required=required)
        for_s = round(now - since, 1)
        return Check(False, f"{self._what}: {trouble}, for {for_s} s", for_s, "s", required)


def lag_check(records: float | None, seconds: float | None = None) -> Check:
    """How much waits. Told only: a service that has to catch up does its work."""
    if records is None:
        return Check(False, "not known yet", required=False)
    if not records:
        return Check(True, "nothing waits", 0, "records", False)
    age = "" if seconds is None else f", the oldest for {seconds:.1f} s"
    return Check(False, f"{records:.0f} records wait{age}", records, "records", False)


def age_check(what: str, age_s: float | None) -> Check:
    """Of something that happens when there is work: its age is told, and is nobody's fault."""
    if age_s is None:
        return Check(True, f"no {what} since the start", required=False)
    return Check(True, f"last {what} {age_s:.1f} s ago", round(age_s, 3), "s", required=False)
