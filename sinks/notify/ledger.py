"""The notifier's memory: an SQLite file in which its position, what waits and what it sent move together.

Each public method is one transaction, on disk when it returns. One process at a time: the file is locked while open.
"""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

import orjson

from schemas.alarms import STANDING, AlarmEvent, AlarmState, supersedes
from schemas.errors import Refused, Unavailable
from sinks.notify.notices import Due, Item, Notice

KEPT_DAYS = 120
"""What was sent and taken is remembered so long: beyond the 90 days for which the topic holds an event."""
INTERRUPTED_MAX = 2
"""Tries that may end with our being killed, for a way whose receiver cannot tell a notice from its repeat: the first,
and one repeat."""

AHEAD = (("waiting", "since"), ("last_told", "at"), ("notices", "next_try"), ("notices", "failing_since"))
"""Times that something waits for."""

NOTICES = (
    "SELECT notice_id, way, route, grp, events, again, state, tries, interrupted, made, next_try, failing_since, said "
    "FROM notices "
)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A notice on its way, with what has come of it so far."""

    notice: Notice
    state: str
    tries: int
    interrupted: int
    made: datetime
    next_try: datetime
    failing_since: datetime | None
    said: str | None


class Ledger:
    """Opened by one notifier. Raises `Unavailable` where another has it open."""

    def __init__(self, path: Path, *, look: bool = False) -> None:
        self._lock: int | None = None
        if look:  # beside a notifier at work
            try:
                self._sql = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
                self._sql.execute("SELECT 1 FROM about")
            except sqlite3.Error:
                raise Unavailable(f"no notifier has run here yet: there is no {path}") from None
            return
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._unlock()
            raise Unavailable(f"{path} is in use by another notifier") from None
        self._sql = sqlite3.connect(path, isolation_level=None)
        try:
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = FULL")
            self._sql.executescript((files("sinks.notify") / "ledger.sql").read_text())
        except sqlite3.DatabaseError as error:
            self.close()
            raise Refused(f"{path} is no ledger of notices: {error}; move it away to begin anew") from None

    def close(self) -> None:
        """Gives the file free."""
        self._sql.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextmanager
    def _once(self) -> Iterator[None]:
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sql.execute("ROLLBACK")
            raise
        self._sql.execute("COMMIT")

    # --- reading ---

    def noted(self, name: str) -> str | None:
        """What was noted under a name."""
        row = self._sql.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def note(self, name: str, value: str) -> None:
        """Keep it."""
        self._sql.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    def positions(self, topic_id: str) -> dict[int, int]:
        """Partition to the offset that comes next, in the topic of that id. One that was deleted and made again has
        another, and is read from its beginning: events that were taken before are known by their own ids."""
        known = self.noted("topic")
        if known != topic_id:
            with self._once():
                if known is not None:
                    self._sql.execute("DELETE FROM positions")
                self.note("topic", topic_id)
        return dict(self._sql.execute("SELECT part, next_offset FROM positions"))

    def standing(self) -> list[AlarmEvent]:
        """The last event of each alarm that is not over."""
        return [AlarmEvent.model_validate_json(row[0]) for row in self._sql.execute("SELECT event FROM standing")]

    def waiting(self) -> list[Item]:
        """What waits to be told, oldest first."""
        return [
            Item(AlarmEvent.model_validate_json(event), route, way, group, _time(since))
            for event, route, way, group, since in self._sql.execute(
                "SELECT event, route, way, grp, since FROM waiting ORDER BY since, event_id"
            )
        ]

    def told(self) -> frozenset[tuple[str, str]]:
        """(way, alarm id) of alarms that were told as raised."""
        return frozenset(self._sql.execute("SELECT way, alarm_id FROM told"))

    def last_told(self) -> dict[tuple[str, str, str], datetime]:
        """(route, way, group) to when."""
        return {(r, w, g): _time(at) for r, w, g, at in self._sql.execute("SELECT route, way, grp, at FROM last_told")}

    def outgoing(self) -> list[Outgoing]:
        """Notices that have not left, oldest first."""
        return self._outgoing("WHERE state IN ('ready', 'sending') ORDER BY made, notice_id", ())

    def left(self, most: int) -> list[Outgoing]:
        """The latest notices, newest first."""
        return self._outgoing("ORDER BY made DESC, notice_id LIMIT ?", (most,))

    def _outgoing(self, which: str, values: tuple[int, ...]) -> list[Outgoing]:
        rows = self._sql.execute(NOTICES + which, values)
        return [
            Outgoing(
                Notice(notice_id, way, route, group, _events(events), repeat=bool(again)),
                state,
                tries,
                interrupted,
                _time(made),
                _time(next_try),
                None if failing is None else _time(failing),
                said,
            )
            for (
                notice_id, way, route, group, events, again, state, tries, interrupted, made, next_try, failing, said,
            ) in rows
        ]  # fmt: skip

    # --- what happens ---

    def take(
        self,
        events: Iterable[tuple[AlarmEvent, Sequence[Item]]],
        *,
        positions: Mapping[int, int] | None = None,
        now: datetime,
    ) -> None:
        """Events with whom they are for; those taken before bring about nothing."""
        with self._once():
            for event, items in events:
                new = self._sql.execute(
                    "INSERT OR IGNORE INTO taken VALUES (?, ?)", (event.id, now.timestamp())
                ).rowcount
                if new:
                    self._stand(event)
                    self._wait(items)
            self._move(positions or {})

    def learn(self, events: Iterable[AlarmEvent], *, positions: Mapping[int, int], now: datetime) -> None:
        """Events from before our time: how alarms stand is noted, nobody is told."""
        self.take(((event, ()) for event in events), positions=positions, now=now)

    def wait(self, items: Sequence[Item]) -> None:
        """Items of events that were taken before."""
        with self._once():
            self._wait(items)

    def _stand(self, event: AlarmEvent) -> None:
        known = self._sql.execute("SELECT event FROM standing WHERE alarm_id = ?", (event.data.alarm_id,)).fetchone()
        if known is not None and not supersedes(event, AlarmEvent.model_validate_json(known[0])):
            return
        if event.data.state in STANDING:
            self._sql.execute(
                "INSERT OR REPLACE INTO standing VALUES (?, ?)", (event.data.alarm_id, event.model_dump_json())
            )
        else:
            self._sql.execute("DELETE FROM standing WHERE alarm_id = ?", (event.data.alarm_id,))

    def _wait(self, items: Sequence[Item]) -> None:
        self._sql.executemany(
            "INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?, ?, ?)",
            [(i.event.id, i.route, i.way, i.group, i.since.timestamp(), i.event.model_dump_json()) for i in items],
        )

    def _move(self, positions: Mapping[int, int]) -> None:
        self._sql.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?)", list(positions.items()))

    def make(self, due: Due, repeats: Sequence[Notice], *, now: datetime) -> None:
        """Items become notices; what no longer matters is forgotten."""
        at = now.timestamp()
        with self._once():
            for notice in (*due.notices, *repeats):
                self._sql.execute(
                    "INSERT OR IGNORE INTO notices VALUES (?, ?, ?, ?, ?, ?, 'ready', 0, 0, ?, ?, NULL, NULL)",
                    (
                        notice.notice_id,
                        notice.way,
                        notice.route,
                        notice.group,
                        orjson.dumps([event.model_dump(mode="json") for event in notice.events]).decode(),
                        notice.repeat,
                        at,
                        at,
                    ),
                )
                self._sql.executemany(
                    "DELETE FROM waiting WHERE event_id = ? AND way = ?",
                    [(event.id, notice.way) for event in notice.events],
                )
                self._sql.execute(
                    "INSERT OR REPLACE INTO last_told VALUES (?, ?, ?, ?)",
                    (notice.route, notice.way, notice.group, at),
                )
                for event in notice.events:
                    if event.data.state == AlarmState.CLEARED:
                        self._sql.execute(
                            "DELETE FROM told WHERE way = ? AND alarm_id = ?", (notice.way, event.data.alarm_id)
                        )
                    else:
                        self._sql.execute(
                            "INSERT OR REPLACE INTO told VALUES (?, ?, ?)", (notice.way, event.data.alarm_id, at)
                        )
            self._sql.executemany(
                "DELETE FROM waiting WHERE event_id = ? AND way = ?", [(i.event.id, i.way) for i in due.dropped]
            )

    def sending(self, notice: Notice) -> None:
        """A try begins; should we be killed in it, the next process finds it so."""
        self._sql.execute(
            "UPDATE notices SET state = 'sending', tries = tries + 1 WHERE notice_id = ?", (notice.notice_id,)
        )

    def sent(self, notice: Notice, *, said: str | None = None) -> None:
        """The receiver has taken it; `said` is by whom not, of several."""
        self._sql.execute(
            "UPDATE notices SET state = 'sent', failing_since = NULL, said = ? WHERE notice_id = ?",
            (said, notice.notice_id),
        )

    def failed(self, notice: Notice, said: str, *, now: datetime, pause_s: float) -> None:
        """It did not leave: another try after the pause."""
        self._sql.execute(
            "UPDATE notices SET state = 'ready', said = ?, next_try = ?, failing_since = coalesce(failing_since, ?) "
            "WHERE notice_id = ?",
            (said, now.timestamp() + pause_s, now.timestamp(), notice.notice_id),
        )

    def set_back(self, *, now: datetime) -> None:
        """Times that lie ahead of a clock that was set back are now."""
        at = now.timestamp()
        with self._once():
            for table, column in AHEAD:
                self._sql.execute(f"UPDATE {table} SET {column} = ? WHERE {column} > ?", (at, at))  # noqa: S608 - ours

    def resume(self, once: Mapping[str, bool]) -> list[Notice]:
        """After a start: tries that were cut short are made ready again; those that have used up their repeat are
        given up, and returned. `once`: ways whose receivers know a notice that comes again."""
        given_up = []
        with self._once():
            for out in self._outgoing("WHERE state = 'sending'", ()):
                spent = not once.get(out.notice.way, False) and out.interrupted + 1 >= INTERRUPTED_MAX
                state = "doubtful" if spent else "ready"
                self._sql.execute(
                    "UPDATE notices SET state = ?, interrupted = interrupted + 1 WHERE notice_id = ?",
                    (state, out.notice.notice_id),
                )
                if spent:
                    given_up.append(out.notice)
        return given_up

    def forget(self, *, now: datetime) -> None:
        """What is older than anything that may come again."""
        before = (now - timedelta(days=KEPT_DAYS)).timestamp()
        with self._once():
            self._sql.execute("DELETE FROM taken WHERE at < ?", (before,))
            self._sql.execute("DELETE FROM told WHERE at < ?", (before,))
            self._sql.execute("DELETE FROM notices WHERE made < ? AND state IN ('sent', 'doubtful')", (before,))


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _events(text: str) -> tuple[AlarmEvent, ...]:
    return tuple(AlarmEvent.model_validate(each) for each in orjson.loads(text))
