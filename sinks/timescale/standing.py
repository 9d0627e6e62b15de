"""How the loop stands, for /readyz and metrics. Told by the loop's thread, read by any; asks nobody."""

import time
from dataclasses import dataclass

from infra.telemetry.health import Check, Health, age_check, lag_check
from sinks.timescale import measured
from sinks.timescale.batch import Batch

EVERY_S = 1.0  # between two looks: some 100 partitions are asked for where their log ends, 0.2 ms


@dataclass(slots=True)
class Outage:
    """A neighbour is away: since when, and when to try again (monotonic seconds)."""

    why: str
    detail: str
    since: float
    pause_s: float
    retry_at: float


class Standing:
    """What the loop last said."""

    def __init__(self, health: Health) -> None:
        self.outage: Outage | None = None
        self._partitions: int | None = None
        self._lag: int | None = None
        self._oldest_s = 0.0
        self._next = 0.0
        health.check("assigned", self._assigned)
        health.check("storing", self._storing)
        health.check("caught_up", lambda: lag_check(self._lag, self._oldest_s))
        health.check("last_commit", lambda: age_check("commit", measured.STORED.age_s))

    def due(self, now: float) -> bool:
        if now < self._next:
            return False
        self._next = now + EVERY_S
        return True

    def say(self, *, partitions: int | None, lag: dict[str, int], oldest_ms: int | None, rows: int) -> None:
        """`partitions` is None while none are open; `lag` is in records, by topic."""
        self._partitions = partitions
        self._lag = None if partitions is None else sum(lag.values())
        self._oldest_s = 0.0 if oldest_ms is None else max(0.0, time.time() - oldest_ms / 1000)
        measured.PARTITIONS.set(partitions or 0)
        for topic, records in lag.items():
            measured.LAG_RECORDS.labels(topic).set(records)
        measured.LAG_SECONDS.set(self._oldest_s)
        measured.WAITING_ROWS.set(rows)

    def stored(self, batch: Batch) -> None:
        measured.STORED.is_now()
        if batch.oldest_ms is not None:
            measured.STORED_AGE.observe(max(0.0, time.time() - batch.oldest_ms / 1000))

    def _assigned(self) -> Check:
        open_ = self._partitions
        if open_ is None:
            return Check(False, "no partitions are open")
        if open_ == 0:
            return Check(True, "stands by: the partitions are all with other sinks", 0)
        return Check(True, f"{open_} partitions are open", open_)

    def _storing(self) -> Check:
        outage = self.outage
        if outage is None:
            return Check(True, "nothing is in the way")
        for_s = round(time.monotonic() - outage.since, 1)
        return Check(False, f"{outage.why}: {outage.detail}, for {for_s} s", for_s, "s")
