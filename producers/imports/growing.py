"""Files that grow, read on: new rows go to the spool together with the place they end at, and the status says how far.

Knows how one such file is followed; which files there are and when to look at them, `watching` knows.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from infra.printable import storable
from producers.edge import Edge
from producers.files.described import Description
from producers.files.logger_file import LoggerFile, Stamping
from producers.files.stamps import merged
from producers.imports.archive import Archive
from producers.imports.identifying import identify, loggers_of
from producers.imports.importer import Importer
from producers.imports.one_file import CODES_MAX, described
from producers.imports.reading import Unanswered
from producers.imports.statuses import Statuses
from producers.imports.tails import OPEN_MAX, PREFIX, Inode, Intake, Reading, Tail, Tails, Waits, gone, reading_of
from producers.imports.unpacking import Found
from producers.sources.following import Place
from producers.spool import FileMark, Rows, SpoolFull
from schemas.devices import Device
from schemas.errors import Refused, Unavailable
from schemas.records import ImportState, ImportStatus

ROOM_S = 0.2  # between two tries of a spool that is full


class Growing:
    """All growing files of one watch. `say` tells people of a status; `settle` is called while the spool is full."""

    def __init__(
        self,
        edge: Edge,
        statuses: Statuses,
        importer: Importer,
        archive: Archive,
        *,
        description: Description | None,
        told: Stamping,
        uploaded_by: str | None,
        say: Callable[[ImportStatus], None],
        settle: Callable[[], None],
    ) -> None:
        self._edge, self._statuses, self._importer, self._archive = edge, statuses, importer, archive
        self._description, self._told, self._uploaded_by = description, told, uploaded_by
        self._say, self._settle = say, settle
        self._tails = Tails(edge.spool.places(PREFIX))
        self._readings: OrderedDict[str, Reading] = OrderedDict()

    def read_on(self, path: Path, *, there: Callable[[Inode], bool]) -> bool:
        """To its end; whether nothing more is to be done before it changes. `there` knows the folders' inodes.

        Raises `DiskTrouble`, `Unavailable`, `OSError`.
        """
        with path.open("rb") as file:
            tail = self._tails.of(path, file, there=there)
            if tail.archived == 0:
                tail.archived = self._archived(tail)
            intake = Intake(tail, file, self._archive, self._accept, self._tails.moved)
            try:
                for _ in self._reading(tail).pieces(file, tail.place, intake, None):
                    pass
            except Waits as waits:
                self._waits(tail, waits.update)
                return False
            except Unanswered as error:
                questions = tuple(storable(str(error)).partition(": ")[2].split("; "))
                self._waits(tail, {"state": ImportState.NEEDS_AN_ANSWER, "reason": str(error), "questions": questions})
                return False
            except Refused as error:
                self._waits(tail, {"state": ImportState.REFUSED, "reason": str(error)})
        return True

    def _archived(self, tail: Tail) -> int:
        """Of a file known from before: as much as there is of it."""
        try:
            return min(tail.place.position, self._archive.growing(tail.key).stat().st_size)
        except OSError:
            return 0

    def _reading(self, tail: Tail) -> Reading:
        reading = self._readings.pop(tail.key, None)
        if reading is None:
            reading = reading_of(
                tail,
                description=self._description,
                told=self._told,
                identified=lambda file: self._identified(tail, file),
            )
        reading.path = Path(tail.path)
        self._readings[tail.key] = reading
        while len(self._readings) > OPEN_MAX:
            self._readings.popitem(last=False)
        return reading

    def _identified(self, tail: Tail, file: LoggerFile) -> Device:
        asked = self._importer.asked
        name = Found(Path(tail.path)).name
        said = described(file)
        verdict = identify(
            file.identity, file.columns, name=name, devices=asked.devices, taken=asked.taken, told=asked.device_id
        )
        if verdict.state is not None or verdict.device is None:
            device_id = verdict.device.device_id if verdict.device else None
            update = {"state": verdict.state, "reason": verdict.reason, "questions": verdict.questions}
            raise Waits({**said, **update, "device_id": device_id})
        device = verdict.device
        mine = device.model_copy(update={"loggers": loggers_of(device, file.identity.serial)})
        order = next((each.date_order for each in mine.loggers if each.date_order), None)
        self._readings[tail.key].told = merged(self._told, Stamping(date_order=order))
        self._statuses.known[tail.key] = self._status(tail).model_copy(update={**said, "device_id": device.device_id})
        return mine

    def _status(self, tail: Tail) -> ImportStatus:
        known = self._statuses.known.get(tail.key)
        source = Found(Path(tail.path))
        if known is not None:
            return known.model_copy(update={"source": source.source, "name": source.name})
        now = datetime.now(UTC)
        return ImportStatus(
            sha256=tail.key,
            name=source.name,
            state=ImportState.FOUND,
            time=now,
            found=now,
            source=source.source,
            uploaded_by=self._uploaded_by,
        )

    def _waits(self, tail: Tail, update: dict[str, object]) -> None:
        reason = storable(str(update["reason"]))
        if tail.told == reason:
            return
        tail.told = reason
        status = self._status(tail).model_copy(update={**update, "reason": reason, "time": datetime.now(UTC)})
        self._importer.tell(Found(Path(tail.path)), status)
        self._say(status)

    def _accept(self, tail: Tail, rows: list[Rows], place: Place) -> None:
        """Rows, the file's mark and its place, in one commit."""
        device_id = tail.device_id or ""
        status = self._status(tail)
        mark = self._edge.spool.mark(tail.key, device_id)
        count, readings = sum(len(each.times) for each in rows), sum(each.readings for each in rows)
        begins = {} if mark is not None else self._importer.begins_at(device_id, status, started_before=False)
        mark = mark or FileMark(tail.key, device_id, Found(Path(tail.path)).name, status.format or "", "tail")
        mark = replace(
            mark,
            rows_accepted=mark.rows_accepted + count,
            readings_accepted=mark.readings_accepted + readings,
            complete=True,
        )
        if rows:
            tail.span(min(int(each.times.min()) for each in rows), max(int(each.times.max()) for each in rows))
        while True:
            try:
                self._edge.accept_rows(rows, mark=mark, place=(tail.source, tail.text(place)), waits=True)
                break
            except SpoolFull:
                self._settle()
                time.sleep(ROOM_S)
        tail.told = None
        if rows:
            self._grew(tail, mark, status.model_copy(update=begins), size=place.position)

    def _grew(self, tail: Tail, mark: FileMark, status: ImportStatus, *, size: int) -> None:
        met = self._readings[tail.key].codes.met() if tail.key in self._readings else []
        update: dict[str, object] = {
            "device_id": mark.device_id,
            "rows": mark.rows_accepted,
            "readings": mark.readings_accepted,
            "bytes": size,
            "problems": tail.problems,
            "looks_missing": tuple(storable(str(each)) for each in met[:CODES_MAX]) or status.looks_missing,
            "first_time": _time(tail.first_us),
            "last_time": _time(tail.last_us),
            "archive": self._archive.link_of(self._archive.growing(tail.key)) if tail.archived >= 0 else status.archive,
            "reason": None,
            "questions": (),
        }
        self._importer.grew(Found(Path(tail.path)), status.model_copy(update=update), tail.key)

    def recall(self) -> None:
        """Statuses of files whose last rows an earlier watch could not tell of any more."""
        for tail in self._tails.all.values():
            mark = None if tail.device_id is None else self._edge.spool.mark(tail.key, tail.device_id)
            status = self._status(tail)
            if mark is None or not mark.rows_accepted:
                continue
            if status.rows != mark.rows_accepted or status.state != ImportState.STORED:
                self._grew(tail, mark, status, size=tail.place.position)

    def archive_gone(self, *, there: Callable[[Inode], bool]) -> None:
        """A file that is not there any more grows no more: its copy gets its hash for a name."""
        for tail in gone(self._tails.all.values(), there):
            if tail.archived <= 0:
                continue
            with suppress(Unavailable):
                kept = self._archive.finish(tail.key)
                tail.archived = 0  # one that was only being renamed while the folder was listed is copied anew
                if kept is not None and tail.key in self._statuses.known:
                    status = self._statuses.known[tail.key]
                    self._importer.tell(
                        Found(Path(tail.path)),
                        status.model_copy(update={"archive": self._archive.link_of(kept.path)}),
                    )


def _time(us: int | None) -> datetime | None:
    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC)
