"""`telltale imports run`: follows every file until it is stored, takes what is put into the incoming folder, and raises
alarms about files and uploads. Composes; what is wrong and when, `alarms` knows.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from infra import readiness
from infra.room import check_room
from infra.telemetry.health import Check, Health
from producers.imports.identifying import learned
from producers.imports.importer import FLUSH_S, Importer, concluded
from producers.imports.run import Run, open_spool
from producers.imports.settings import ImportSettings
from producers.imports.statuses import Followed, Statuses
from producers.imports.storage import Storage
from producers.imports.upkeep import measured
from producers.imports.upkeep.alarms import (
    Trouble,
    blocked,
    expectation,
    kept_alarms,
    raise_trouble,
    reconcile,
    troubles,
    uploads_blocked,
)
from producers.imports.upkeep.incoming import Incoming
from producers.settings import default_spool
from producers.spool import DiskTrouble
from producers.stations.devices import read_devices
from schemas.errors import Unavailable
from schemas.records import ImportState, ImportStatus

log = structlog.get_logger(__name__)

LOOK_S = 1.0
DEVICES_S = 10.0
AWAY_S = 2.0  # between two tries of a broker that is away
OURS_S = 5.0  # a file that has just been sent is first of all its importer's
ALARMS_S = 2.0
DISK_S = 5.0  # between two tries of a disk that is full
WAITING = "imports/waiting"
CATCH_UP_S = 60.0
SPOOL = "imports-service"


def keep(kafka: str, settings: ImportSettings, stop: threading.Event, *, health: Health) -> None:
    """Until `stop`. A broker that is away is waited for."""
    announced = False
    told = "not connected yet"

    def follows() -> Check:
        return Check(not told, told or "files are followed")

    health.check("follows", follows)
    while not stop.is_set():
        health.beat()
        try:
            keeper = Keeper(kafka, settings)
        except Unavailable as error:
            if str(error) != told:
                told = str(error)
                log.warning("waiting", detail=told)
            if isinstance(error, DiskTrouble):  # not even the spool: the keeper that comes of it clears the alarm
                alarms = kept_alarms(kafka)
                raise_trouble(alarms, blocked(told, source=WAITING), now=datetime.now(UTC))
                alarms.ring()
            stop.wait(AWAY_S)
            continue
        try:
            while not stop.is_set():
                health.beat()
                keeper.turn()
                told = ""
                measured.LOOKED.is_now()
                if not announced:
                    announced = True
                    readiness.announce()
                    log.info("imports followed", incoming=str(settings.incoming_folder()), files=len(keeper.known))
                stop.wait(LOOK_S)
        except Unavailable as error:
            told = str(error)
            log.warning("waiting", detail=told)
            stop.wait(AWAY_S)
        finally:
            keeper.close()


class Keeper:
    """One connected stretch of it. Raises `Unavailable`."""

    def __init__(self, kafka: str, settings: ImportSettings, *, clock: Callable[[], datetime] | None = None) -> None:
        self._kafka, self._settings = kafka, settings
        self._clock = clock or (lambda: datetime.now(UTC))
        self._expected = expectation(settings.overdue_hours, settings.expect)
        self.known: dict[str, ImportStatus] = {}
        self._followed = Followed(kafka, known=self.known)
        until = time.monotonic() + CATCH_UP_S
        while not self._followed.caught_up:
            if not self._followed.turn():
                time.sleep(0.02)
            if time.monotonic() > until:
                raise Unavailable(f"kafka at {kafka}: topic imports not read within {CATCH_UP_S:.0f} s")
        self._statuses = Statuses(kafka, known=self.known)
        self._storage = Storage(kafka)
        spool = settings.model_copy(update={"spool": settings.spool or default_spool(SPOOL)})
        self._run = Run(kafka, spool)
        asked = self._run.asked(self.known)
        self._edge = open_spool(self._run)
        self._importer = Importer(self._edge, self._statuses, self._storage, asked)
        settings.incoming_folder().mkdir(parents=True, exist_ok=True)
        self._incoming = Incoming(
            self._importer, settings.incoming_folder(), say=self._say, refresh=self._learn_devices
        )
        self._alarms = kept_alarms(kafka)
        self._devices_at = time.monotonic()
        self._alarms_at = 0.0
        self._disk: str | None = None  # what is wrong with it
        self._disk_at = -DISK_S
        self._rejected: set[str] = set()

    def close(self) -> None:
        self._edge.close()
        self._followed.close()
        self._storage.close()
        self._statuses.flush(FLUSH_S)

    def turn(self) -> None:
        """One look at everything."""
        self._followed.turn()
        self._ask_devices()
        self._look_incoming()
        self._importer.settle()
        self._importer.look_stored()
        self._importer.forget_settled()
        self._look_stored()
        if time.monotonic() - self._alarms_at > ALARMS_S:
            self._alarms_at = time.monotonic()
            now = self._clock()
            found = troubles(
                self.known.values(),
                now=now,
                waiting_s=self._settings.waiting_s,
                expected=self._expected,
                devices=self._importer.asked.devices,
            )
            reconcile(self._alarms, [*found, *self._disk_trouble()], now=now)
            self._alarms.ring()
            counts = Counter(each.state for each in self.known.values())
            for state in ImportState:
                measured.FILES.labels(state).set(counts[state])
            measured.ALARMS.set(len(self._alarms.standing))

    def _look_incoming(self) -> None:
        """A disk that is full holds up files, and nothing else of this."""
        if self._disk is not None and time.monotonic() - self._disk_at < DISK_S:
            return
        try:
            self._incoming.look()
        except DiskTrouble as trouble:
            if self._disk is None:
                log.warning("blocked", detail=str(trouble))
            self._disk, self._disk_at = str(trouble), time.monotonic()
        else:
            self._disk = None

    def _disk_trouble(self) -> list[Trouble]:
        """What keeps files out: of those that are here, or of uploads."""
        waiting = [] if self._disk is None else [blocked(self._disk, source=WAITING)]
        try:
            check_room(self._settings.incoming_folder())
        except (Unavailable, OSError) as trouble:
            return [*waiting, uploads_blocked(str(trouble))]
        return waiting

    def _look_stored(self) -> None:
        """Files whose importer has gone, or did not wait."""
        now = self._clock()
        sent = [
            each
            for each in self.known.values()
            if each.state == ImportState.SENT
            and each.raw_partition is not None
            and each.raw_to is not None
            and each.sha256 not in self._rejected
            and (now - each.time).total_seconds() > OURS_S
        ]
        if not sent:
            return
        done = self._storage.stored((each.raw_partition or 0, each.raw_to or 0) for each in sent)
        through = [each for each in sent if (each.raw_partition, each.raw_to) in done]
        for status in concluded(through, self._kafka):
            self._statuses.tell(status)
            if status.state != ImportState.STORED:
                self._rejected.add(status.sha256)
            self._say(status)

    def _ask_devices(self) -> None:
        if time.monotonic() - self._devices_at < DEVICES_S:
            return
        before = self._importer.asked.devices
        self._learn_devices()
        if self._importer.asked.devices != before:
            self._incoming.forget()

    def _learn_devices(self) -> None:
        self._devices_at = time.monotonic()
        with suppress(Unavailable):
            devices, taken = read_devices(self._kafka), learned(self.known.values())
            self._importer.asked = replace(self._importer.asked, devices=devices, taken=taken)

    def _say(self, status: ImportStatus) -> None:
        measured.CHANGES.labels(status.state).inc()
        log.info("import", state=str(status.state), file=status.name, device=status.device_id, detail=status.reason)
