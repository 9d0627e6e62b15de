"""Runs sources side by side, each in a thread, and starts again what failed. Knows threads; what a source does it
does not know.

A source that raises is told, and started again after a wait that doubles; the others go on meanwhile.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from infra.printable import storable
from producers import journal
from producers.delivery.backoff import Backoff
from producers.edge import Edge
from producers.sources.port import Source, Stopped
from producers.spool import DiskTrouble, Rows, SpoolFull
from schemas.errors import Refused, Unavailable
from schemas.records import SourceState

ROOM_LOOK_S = 0.5  # between two tries of a file whose readings find the spool full
STOP_S_MAX = 5.0  # for all sources together; one that hangs in its sensor ends with the process
HEALTHY_S = 60.0  # a source that ran so long begins with a short wait again
DETAIL_MAX = 300


@dataclass(slots=True)
class Watched:
    """One source and how it goes. It is the source's `Intake`."""

    name: str
    device_id: str
    make: Callable[[], Source]
    edge: Edge
    stop: threading.Event
    state: str = "starting"
    detail: str = ""
    accepted: int = 0
    refused: int = 0
    restarts: int = 0
    thread: threading.Thread | None = field(default=None, repr=False)

    # for the source

    def offer(self, rows: list[Rows]) -> None:
        readings = sum(each.readings for each in rows)
        try:
            self.edge.accept_rows(rows)
        except (SpoolFull, DiskTrouble) as trouble:
            self.refused += readings
            self._say("readings refused", str(trouble))
            return
        self.accepted += readings

    def keep(self, rows: list[Rows], *, place: str | None = None) -> None:
        where = None if place is None else (self.name, place)
        while True:
            try:
                self.edge.accept_rows(rows, place=where, waits=True)
                self.accepted += sum(each.readings for each in rows)
                return
            except (SpoolFull, DiskTrouble) as trouble:
                self._say("waits for room", str(trouble))
            if self.stop.wait(ROOM_LOOK_S):
                raise Stopped

    def count(self, readings: int) -> None:
        self.accepted += readings

    def odd(self, what: str) -> None:
        self.refused += 1
        self._say("not understood", what)

    def tell(self, what: str) -> None:
        self.detail = what[:DETAIL_MAX]

    def place(self) -> str | None:
        return self.edge.spool.place(self.name)

    def _say(self, event: str, detail: str) -> None:
        detail = storable(detail)  # of a file's name, perhaps
        told = f"{event}: {detail}"[:DETAIL_MAX]
        if told != self.detail:
            self.detail = told
            journal.warning(event, source=self.name, detail=detail)

    # for the edge

    def told(self) -> SourceState:
        """For the heartbeat."""
        return SourceState(
            name=self.name,
            state=self.state,
            detail=self.detail,
            accepted=self.accepted,
            refused=self.refused,
            restarts=self.restarts,
        )

    def live(self, backoff: Backoff) -> None:
        """The thread: runs the source until it has no more, or all end."""
        attempt = 0
        while not self.stop.is_set():
            started = time.monotonic()
            self.state, self.detail = "running", ""
            journal.info("source runs", source=self.name, device=self.device_id)
            failed = self._once()
            if failed is None:
                self.state = "ended"
                journal.info("source ended", source=self.name)
                return
            attempt = 0 if time.monotonic() - started > HEALTHY_S else attempt
            wait_s = backoff.wait_s(attempt, chance=random.random())  # noqa: S311 - jitter
            attempt += 1
            self.state, self.detail = "failed", failed[:DETAIL_MAX]
            journal.warning("source failed", source=self.name, detail=failed, starts_again_s=round(wait_s, 1))
            if not self.stop.wait(wait_s):
                self.restarts += 1

    def _once(self) -> str | None:
        try:
            self.make().run(self, self.stop)
        except Stopped:
            return None
        except (Refused, Unavailable) as error:
            return str(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a driver may raise anything; the others go on
            return f"{type(error).__name__}: {error}"
        return None


class Sources:
    """All sources of a process."""

    def __init__(self, watched: Sequence[Watched], *, stop: threading.Event, backoff: Backoff) -> None:
        self.watched = tuple(watched)
        self._stop = stop
        self._backoff = backoff

    def start(self) -> None:
        for each in self.watched:
            each.thread = threading.Thread(target=each.live, args=(self._backoff,), name=each.name, daemon=True)
            each.thread.start()

    @property
    def ended(self) -> bool:
        """Whether none of them has any more."""
        return all(each.state == "ended" for each in self.watched)

    def states(self, device_id: str) -> tuple[SourceState, ...]:
        """Those of a device."""
        return tuple(each.told() for each in self.watched if each.device_id == device_id)

    def end(self) -> list[str]:
        """Stop all; the names of those that did not end in time."""
        self._stop.set()
        until = time.monotonic() + STOP_S_MAX
        for each in self.watched:
            if each.thread is not None:
                each.thread.join(max(0.0, until - time.monotonic()))
        return [each.name for each in self.watched if each.thread is not None and each.thread.is_alive()]
