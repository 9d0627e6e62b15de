"""Looks after the parts of the pipeline now and then: what waits, who answers. In a thread of its own.

Knows the groups of the catalogue and one database connection at a time.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from dashboard.live.figures import Figures
from infra.database import first_line
from infra.settle import STAGES, behind
from schemas.errors import Unavailable
from schemas.topics import SINK_GROUP, STREAMS_GROUP

log = structlog.get_logger(__name__)

LOOK_S = 5.0
"""Between two looks. A group that has not moved from one to the next although records wait stands still."""
NAMES = {STREAMS_GROUP: "streams", SINK_GROUP: "sink"}


@dataclass(frozen=True, slots=True)
class Part:
    """How a part of the pipeline is. `state`: working, behind (it moves, and does not keep up), standing, away."""

    state: str
    waiting: int = 0
    """Records."""

    def told(self) -> dict[str, Any]:
        return {"state": self.state, "waiting": self.waiting}


def judged(now: dict[tuple[str, int], tuple[int, int]], before: dict[tuple[str, int], tuple[int, int]] | None) -> Part:
    """From (position, end) of each partition with something left, now and at the look before. In live data something
    always waits for a moment: behind is who has not yet read what was there at the look before."""
    waiting = sum(end - position for position, end in now.values())
    if not waiting or before is None:
        return Part("working" if not waiting else "behind", waiting)
    stuck = any(key in before and before[key][0] == position for key, (position, _) in now.items())
    late = any(key in before and position < before[key][1] for key, (position, _) in now.items())
    return Part("standing" if stuck else "behind" if late else "working", waiting)


class Monitor:
    """The thread. `note` is told figures and health as they come."""

    def __init__(self, kafka: str, dsn: str, *, note: Callable[..., None]) -> None:
        self._kafka, self._dsn, self._note = kafka, dsn, note
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._figures = Figures()
        self._before: dict[str, dict[tuple[str, int], tuple[int, int]]] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._note(health=self._groups() | self._database())
            except Exception:
                log.exception("monitor_failed")
            self._stop.wait(LOOK_S)

    def _groups(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for group, topics in STAGES.items():
            name = NAMES.get(group, group)
            try:
                left = behind(self._kafka, group, topics)
            except Unavailable:
                return {"kafka": Part("away").told()} | {NAMES[each]: Part("away").told() for each in STAGES}
            now = {(each.topic, each.partition): (each.position, each.end) for each in left}
            found[name] = judged(now, self._before.get(group)).told()
            self._before[group] = now
        return {"kafka": Part("working").told()} | found

    def _database(self) -> dict[str, dict[str, Any]]:
        try:
            self._figures.refresh(self._connect, now_s=time.monotonic())
        except psycopg.Error as error:
            log.warning("figures_unavailable", detail=first_line(error))
            return {"database": Part("away").told()}
        self._note(figures=dict(self._figures.told))
        return {"database": Part("working").told()}

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._dsn,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=5,
            application_name="telltale-dashboard-monitor",
        )
