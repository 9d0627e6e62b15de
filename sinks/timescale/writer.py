"""Batches to the database, one after another; a batch that holds a bad record is halved until the record stands alone.

Knows what an error means for the work in hand. When to try again is the loop's decision.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import psycopg

from schemas.errors import Unavailable
from schemas.rejection import Rejection
from sinks.timescale import measured
from sinks.timescale.batch import Batch, Refusal
from sinks.timescale.horizon import Outdated
from sinks.timescale.rejects import Rejects
from sinks.timescale.store import Store, Unfit
from sinks.timescale.trouble import Trouble, trouble


class Waiting(Exception):  # noqa: N818
    """A neighbour is away or busy; the work is kept and can be tried again."""

    def __init__(self, why: str, detail: str) -> None:
        super().__init__(f"{why}: {detail}")
        self.why, self.detail = why, detail


@dataclass(slots=True)
class Tally:
    """What has been done since the start."""

    batches: int = 0
    rows: int = 0
    rejected: int = 0
    halved: int = 0

    def told(self) -> dict[str, int]:
        """For a log line."""
        return asdict(self)


@contextmanager
def waiting_for_database(store: Store) -> Iterator[None]:
    """Errors of the database that will pass become `Waiting`."""
    try:
        yield
    except psycopg.Error as error:
        kind = trouble(error)
        if kind is Trouble.AWAY:
            store.close()
        if kind in (Trouble.AWAY, Trouble.BUSY):
            raise Waiting(kind, said(error)) from None
        raise


def said(error: psycopg.Error) -> str:
    """The error in one line, its SQLSTATE first."""
    return f"{error.sqlstate or type(error).__name__} {error}".strip().splitlines()[0]


class Writer:
    """Work in hand, in order. Used by one thread at a time."""

    def __init__(self, store: Store, rejects: Rejects) -> None:
        self._store, self._rejects = store, rejects
        self._todo: deque[Batch] = deque()
        self.tally = Tally()

    def take(self, batch: Batch) -> None:
        """More work."""
        self._todo.append(batch)

    def drop(self) -> None:
        """Forget all work and whatever was remembered of the database."""
        self._todo.clear()
        self._store.forget()

    def work(self) -> None:
        """Does all work in hand. Raises `Waiting` (call again later), `Fenced` (drop), or our own bug."""
        while self._todo:
            batch = self._todo[0]
            try:
                self.tally.rejected += self._rejects.tell(batch.refused())
                with waiting_for_database(self._store):
                    self._store.write(batch)
            except Unavailable as error:
                raise Waiting("broker_away", str(error)) from None
            except (Unfit, Outdated) as error:
                error.refuse()
                batch.prepared = None
                continue
            except psycopg.Error as error:
                self._consider(batch, error)
                continue
            self._todo.popleft()
            self.tally.batches += 1
            self.tally.rows += batch.rows
            measured.BATCHES.inc()
            measured.RECORDS.inc(len(batch.entries))

    def _consider(self, batch: Batch, error: psycopg.Error) -> None:
        """Decides on an error: returns when the work has changed and can go on, else raises."""
        if trouble(error) is not Trouble.DATA:
            raise error
        if not batch.doubted:
            # Perhaps it is our memory that is wrong: a partition dropped, a sensor deleted behind our back.
            batch.doubted = True
            self._store.forget()
        elif len(batch.entries) > 1:
            self._todo.popleft()
            self._todo.extendleft(reversed(batch.halves()))
            self.tally.halved += 1
            measured.HALVED.inc()
        elif batch.entries and not isinstance(batch.entries[0].body, Refusal):
            batch.entries[0].body, batch.prepared = Refusal(Rejection.DATABASE_REFUSED, said(error)), None
        else:
            raise error  # no record of the batch is at fault
