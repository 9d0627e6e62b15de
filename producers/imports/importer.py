"""Files through the spool to the broker and into the database, each with a status. Knows an open edge; reads no file.

Idempotent three times over: a content that was imported is not read again, rows that are in the spool are passed over,
and a reading that comes twice is one in the database. Every wait has a bound; whatever is left waits in the spool, and
the next import goes on with it.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

from infra.counted import counted
from producers.delivery.link import Link
from producers.edge import Edge
from producers.files.logger_file import Stamping
from producers.imports.identifying import TAKEN
from producers.imports.one_file import Answer, Asked, Done, Event, Hashed, Mark, Planned, Step, hash_of_packed
from producers.imports.readers import lost, read_all
from producers.imports.statuses import Statuses
from producers.imports.storage import Storage, rejected_of, rejections
from producers.imports.unpacking import Found
from producers.spool import FileMark, Rows, SpoolFull
from schemas.errors import Refused, Unavailable
from schemas.records import ImportState, ImportStatus

LOOK_S = 0.05  # between two looks at how far the sender is
STORED_LOOK_S = 0.2  # between two at stage and sink, which costs the broker some answers
TELL_S = 1.0  # between two statuses of one file on its way
FLUSH_S = 10.0  # for the last statuses

_COUNTS = ("rows", "readings", "missing", "repeated", "out_of_order", "problems", "first_time", "last_time")
_KEPT = ("raw_partition", "raw_from", "raw_to", "spool_id", "last_sequence", "uploaded_by")


@dataclass(slots=True)
class Outcome:
    """What became of one file of this run."""

    found: Found
    status: ImportStatus
    note: str = ""  # that it was imported before, or is there twice


@dataclass(slots=True)
class Progress:
    """Of a run, for people."""

    files: int = 0  # of which there is nothing left to read
    of: int = 0
    rows: int = 0
    acknowledged: int = 0  # readings
    stored: int = 0  # files
    name: str = ""  # the file at hand


Shown = Callable[[Progress], None]


@dataclass(slots=True)
class Pending:
    """A file whose rows are in the spool, or were."""

    outcome: Outcome
    key: str
    device_id: str


@dataclass(slots=True)
class Importer:
    """One run. `shown` is called after each step."""

    edge: Edge
    statuses: Statuses
    storage: Storage
    asked: Asked
    again: bool = False
    timeout_s: float = 60.0
    shown: Shown = lambda _: None
    progress: Progress = field(default_factory=Progress)
    outcomes: list[Outcome] = field(default_factory=list)
    learned: dict[tuple[str, str], Stamping] = field(default_factory=dict)  # (device, serial): what a person said
    _mine: dict[str, Outcome] = field(default_factory=dict)
    _whole: dict[str, ImportStatus] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict)
    _pending: list[Pending] = field(default_factory=list)
    _sent: list[Pending] = field(default_factory=list)
    _told_at: float = 0.0

    def read(self, found: Sequence[Found], *, jobs: int) -> None:
        """All of them into the spool. One that cannot be taken is told in its status; the next one goes on.

        Raises `Unavailable` when the spool stays full, or the disk fails.
        """
        self.progress.of += len(found)
        read_all(found, self.asked, jobs=jobs, told=self.hear)

    def hear(self, found: Found, event: Event) -> Answer:
        """A reader's event; see `one_file`."""
        self.progress.name = found.name
        answer: Answer = None
        if isinstance(event, Hashed):
            answer = self._wanted(found, event.status)
        elif isinstance(event, Planned):
            answer = self._begin(found, event)
        elif isinstance(event, Step):
            self._accept(event.rows, event.mark)
            self.progress.rows += sum(len(rows.times) for rows in event.rows)
            self._update(event.status)
        else:
            self._done(found, event)
        self.settle()
        self.shown(self.progress)
        return answer

    def refuse(self, found: Found, why: str) -> None:
        """A file that could not even be looked into."""
        self.progress.of += 1
        self._done(found, Done(lost(found, why, now=datetime.now(UTC))))

    def _wanted(self, found: Found, status: ImportStatus) -> bool:
        twin = self._mine.get(status.sha256)
        if twin is not None:
            self._skip(found, twin.status, f"has the same content as {twin.found.name}")
            return False
        known = self.statuses.known.get(status.sha256)
        if known is not None:
            same_device = self.asked.device_id in (None, known.device_id)
            through = known.state in (ImportState.SENT, ImportState.STORED)
            if through and same_device and not self.again:
                outcome = self._skip(found, known, "imported before")
                self._mine[status.sha256] = outcome
                if known.state == ImportState.SENT and known.device_id is not None and _end_of(known) is not None:
                    self._sent.append(Pending(outcome, known.sha256, known.device_id))
                return False
            who = status.uploaded_by or known.uploaded_by  # a file that is read again is still whose it was
            update = {"found": known.found or known.time, "raw_from": known.raw_from, "uploaded_by": who}
            status = status.model_copy(update=update)
            if self.asked.within is not None:  # only a part is read again: what is known of the whole stays
                self._whole[status.sha256] = known
        self._mine[status.sha256] = Outcome(found, status)
        self.outcomes.append(self._mine[status.sha256])
        self.statuses.tell(status)
        return True

    def _skip(self, found: Found, status: ImportStatus, note: str) -> Outcome:
        outcome = Outcome(found, status, note)
        self.outcomes.append(outcome)
        self.progress.files += 1
        return outcome

    def _begin(self, found: Found, event: Planned) -> Answer:
        status, device_id = event.status, event.status.device_id or ""
        known = self._mine[status.sha256].status
        if self.again:
            self.edge.spool.forget(event.key, device_id)
        mark = self.edge.spool.mark(event.key, device_id)
        started_before = mark is not None and mark.rows_accepted > 0
        self._keys[status.sha256] = event.key
        self._update(status.model_copy(update=self.begins_at(device_id, known, started_before)), at_once=True)
        if mark is None or not mark.complete:
            return Mark(mark)
        counts = {"rows": mark.rows_accepted, "readings": mark.readings_accepted, "state": ImportState.SENDING}
        self._done(found, Done(self._mine[status.sha256].status.model_copy(update=counts)))
        self._mine[status.sha256].note = "read before; the rest of it is sent"
        return False

    def begins_at(self, device_id: str, known: ImportStatus, started_before: bool) -> dict[str, int | None]:
        """Where in `readings.raw` its frames may begin."""
        try:
            partition, end = self.storage.raw_end(device_id)
        except Unavailable:  # the spool takes its rows all the same
            return {"raw_from": known.raw_from or 0}
        return {"raw_partition": partition, "raw_from": (known.raw_from or 0) if started_before else end}

    def _accept(self, rows: list[Rows], mark: FileMark) -> None:
        """A full spool makes a file wait: it can, for it is in the archive."""
        while True:
            try:
                self.edge.accept_rows(rows, mark=mark, waits=True)
                return
            except SpoolFull as full:
                if self.edge.spool.bytes == 0 or self.is_stuck():
                    raise Unavailable(f"{full}; {self.why_stuck()}") from None
                self.settle()
                time.sleep(LOOK_S)

    def _update(self, status: ImportStatus, *, at_once: bool = False) -> None:
        """What is new of a file on its way; what was known of it before and it does not say stays."""
        outcome = self._mine[status.sha256]
        before = outcome.status
        kept: dict[str, object] = {name: getattr(before, name) for name in _KEPT if getattr(status, name) is None}
        kept |= {"found": before.found, "sent": max(status.sent, before.sent)}
        if (whole := self._whole.get(status.sha256)) is not None and status.state in TAKEN:
            kept |= {name: getattr(whole, name) for name in _COUNTS}
        outcome.status = status.model_copy(update={**kept, "time": datetime.now(UTC)})
        now = time.monotonic()
        if at_once or now - self._told_at > TELL_S:
            self._told_at = now
            self.statuses.tell(outcome.status)

    def _done(self, found: Found, event: Done) -> None:
        status = event.status
        self.progress.files += 1
        if not status.sha256:
            begun = next((key for key, outcome in self._mine.items() if outcome.found == found), None)
            status = status.model_copy(update={"sha256": begun or _key_of(found)})
        if status.sha256 not in self._mine:
            self._mine[status.sha256] = Outcome(found, status)
            self.outcomes.append(self._mine[status.sha256])
        self._update(status, at_once=True)
        if status.state != ImportState.SENDING or status.device_id is None:
            return
        if event.learned is not None:
            self.learned[status.device_id, status.serial] = event.learned
        outcome = self._mine[status.sha256]
        self._pending.append(Pending(outcome, self._keys[status.sha256], status.device_id))

    def grew(self, found: Found, status: ImportStatus, key: str) -> None:
        """A watched file has more rows in the spool."""
        outcome = self._mine.get(status.sha256)
        if outcome is None:
            outcome = self._mine[status.sha256] = Outcome(found, status)
        self._update(status.model_copy(update={"state": ImportState.SENDING, "stored": None}))
        self._pending = [each for each in self._pending if each.key != key]
        self._sent = [each for each in self._sent if each.key != key]
        self._pending.append(Pending(outcome, key, status.device_id or ""))

    def tell(self, found: Found, status: ImportStatus) -> None:
        """A status that comes from no reader."""
        outcome = self._mine.setdefault(status.sha256, Outcome(found, status))
        outcome.status = status
        self.statuses.tell(status)

    def under_way(self) -> list[ImportStatus]:
        """As known now, of files of this run."""
        return [outcome.status for outcome in self._mine.values()]

    def settle_quietly(self) -> None:
        """When the edge is closed: what was not told yet of files on their way."""
        for each in self._pending:
            self.statuses.tell(each.outcome.status)

    def forget_settled(self) -> None:
        """Bounds memory of a run that does not end: files of which nothing is on its way."""
        under_way = {each.outcome.status.sha256 for each in (*self._pending, *self._sent)}
        self._mine = {key: outcome for key, outcome in self._mine.items() if key in under_way}
        self._keys = {key: value for key, value in self._keys.items() if key in under_way}
        self.outcomes = []

    def settle(self) -> None:
        """What the spool knows of files on their way; it sends in order, so the first that is not through ends it."""
        while self._pending:
            first = self._pending[0]
            mark = self.edge.spool.mark(first.key, first.device_id)
            if mark is None:  # the spool was damaged and recovered: its rows are sent without the file's name
                if not self.edge.drained:
                    return
                mark = FileMark(first.key, first.device_id, "", "", "", first.outcome.status.rows, complete=True)
            through = mark.complete and mark.readings_acknowledged >= mark.readings_accepted
            update = {
                "sent": mark.rows_acknowledged,
                "spool_id": self.edge.spool.spool_id,
                "last_sequence": mark.last_sequence,
            }
            if not through:
                if mark.rows_acknowledged != first.outcome.status.sent:
                    self._update(first.outcome.status.model_copy(update=update))
                return
            try:
                partition, end = self.storage.raw_end(first.device_id)
            except Unavailable:
                return  # it has just answered the sender; asked again with the next look
            # Repeated rows are passed over, and those that were only read; all of the file is through.
            update |= {"sent": first.outcome.status.rows, "state": ImportState.SENT}
            update |= {"raw_partition": partition, "raw_to": end}
            self._update(first.outcome.status.model_copy(update=update), at_once=True)
            self._sent.append(self._pending.pop(0))
            self.progress.acknowledged += mark.readings_acknowledged

    def drain(self) -> bool:
        """Wait until the broker has all of it. False if nothing has moved for `timeout_s`."""
        while not self.edge.drained or self._pending:
            if self.is_stuck():
                return False
            self.settle()
            self.shown(self.progress)
            time.sleep(LOOK_S)
        return True

    def wait_stored(self, within_s: float) -> bool:
        """Wait until the database has all that was sent, with a bound. What was rejected is told, not waited for."""
        until = time.monotonic() + within_s
        while self._sent:
            self.look_stored()
            self.shown(self.progress)
            if not self._sent or time.monotonic() > until:
                break
            time.sleep(STORED_LOOK_S)
        return not self._sent

    def look_stored(self) -> None:
        """Statuses of files that are in the database by now."""
        waiting = {_end_of(each.outcome.status) for each in self._sent}
        done = self.storage.stored(each for each in waiting if each is not None)
        through = [each for each in self._sent if _end_of(each.outcome.status) in done]
        if not through:
            return
        self._sent = [each for each in self._sent if each not in through]
        for status in concluded([each.outcome.status for each in through], self.storage.kafka):
            self._mine[status.sha256].status = status
            self.statuses.tell(status)
        self.progress.stored += len(through)

    def is_stuck(self) -> bool:
        link = self.edge.progress.link
        if link.link is Link.TOO_LARGE and self._quiet_s() > LOOK_S * 20:
            return True
        return self._quiet_s() > self.timeout_s

    def _quiet_s(self) -> float:
        return time.monotonic() - self.edge.progress.moved_at

    def why_stuck(self) -> str:
        link = self.edge.progress.link
        if link.link in (Link.UP, Link.CONNECTING):
            return f"{self.edge.address} has not answered for {self._quiet_s():.0f} s"
        return link.detail


def _end_of(status: ImportStatus) -> tuple[int, int] | None:
    if status.raw_partition is None or status.raw_to is None:
        return None
    return status.raw_partition, status.raw_to


def concluded(passed: Sequence[ImportStatus], kafka: str) -> Iterable[ImportStatus]:
    """Statuses of files that stage and sink have passed: stored, or why not all of it is."""
    since = min((each.found or each.time for each in passed), default=None)
    if since is None:
        return
    found = rejections(kafka, since=since)
    for each in passed:
        now = datetime.now(UTC)
        refused = rejected_of(each, found)
        if not refused:
            yield each.model_copy(update={"state": ImportState.STORED, "stored": now, "time": now, "reason": None})
            continue
        reasons = ", ".join(sorted({one.reason for one in refused}))
        count = sum(one.rows for one in refused)
        reason = (
            f"{counted(count, 'reading')} could not be taken ({reasons}): "
            f"telltale rejected list --device {each.device_id}; once the cause is gone: telltale import --again"
        )
        yield each.model_copy(update={"rejected": count, "reason": reason, "time": now})


def _key_of(found: Found) -> str:
    """Of a file without a hash."""
    try:
        return hash_of_packed(found)
    except Unavailable:
        return sha256(found.source.encode()).hexdigest()


def open_edge(make: Callable[[], Edge], *, within_s: float, waits: Callable[[], None]) -> Edge:
    """The edge, once no other import has its spool any more. Raises `Refused` when that takes too long."""
    until = time.monotonic() + within_s
    told = False
    while True:
        try:
            return make()
        except Refused:
            if time.monotonic() > until:
                raise
            if not told:
                told = True
                waits()
            time.sleep(LOOK_S * 4)
