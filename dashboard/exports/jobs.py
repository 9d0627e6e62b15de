"""Exports that run on their own. The table `exports` is the queue, a process each makes them, a folder keeps the files.

    jobs = Jobs(dsn, folder)              # calls block for milliseconds: from a loop, use asyncio.to_thread
    job = jobs.start(request, author="ann")
    jobs.job(job.export_id).share         # progress
    jobs.cancel(job.export_id)
    jobs.file(job.export_id)              # its path, once it is done; a file never changes, so a range of it is good
    Worker(jobs, ...).start() ... stop()  # where jobs are made; any number of workers share the queue

A process of its own keeps a large export from the dashboard's memory and interpreter, and can be killed. A job whose
process died is begun again; equal requests make equal bytes, so nothing is lost by it but time.
"""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
import structlog
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict

from dashboard.exports.labels import file_name
from dashboard.exports.making import Progress, Summary
from dashboard.exports.request import ExportRequest
from dashboard.exports.settings import ExportSettings
from dashboard.people.names import person
from infra.database import connected
from schemas.errors import Refused, Unavailable
from schemas.records import Utc

log = structlog.get_logger(__name__)

SILENT = timedelta(seconds=60)
"""A running job that says nothing for so long has lost its process. It speaks every second."""
TRIES_MAX = 3
"""So often a job is begun; one that kills its process is not worth a fourth."""
LOOK_S = 0.5
PAUSE_S = 5.0
"""After trouble that is not the job's."""
END_S_MAX = 20.0
LISTED_MAX = 1000

COLUMNS = """export_id, request, author, state, is_cancelled, created, started, finished, rows, share, left_s, summary,
  reason"""
ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('telltale exports'))"
WAITING = "SELECT author, count(*)::int AS count FROM exports WHERE state = 'queued' GROUP BY author"
START = f"INSERT INTO exports (request, author) VALUES (%s, %s) RETURNING {COLUMNS}"  # noqa: S608 - our own names, here and below
ONE = f"SELECT {COLUMNS} FROM exports WHERE export_id = %s"  # noqa: S608
LIST = f"""
SELECT {COLUMNS} FROM exports
WHERE (%(before)s::bigint IS NULL OR export_id < %(before)s) AND (%(author)s::text IS NULL OR author = %(author)s)
  AND (%(state)s::text IS NULL OR state = %(state)s)
ORDER BY export_id DESC LIMIT %(limit)s"""  # noqa: S608
# One that waits is cancelled at once, one that runs when its process has seen it.
CANCEL = f"""
UPDATE exports SET is_cancelled = true, state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END,
  finished = CASE state WHEN 'queued' THEN now() ELSE finished END
WHERE export_id = %s AND state IN ('queued', 'running') RETURNING {COLUMNS}"""  # noqa: S608
CLAIM = """
UPDATE exports SET state = 'running', started = now(), heard = now(), tries = tries + 1, rows = 0, share = 0,
  left_s = NULL
WHERE export_id = (
  SELECT export_id FROM exports WHERE state = 'queued' ORDER BY export_id FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING export_id"""
PROGRESS = """
UPDATE exports SET heard = now(), rows = %s, share = %s, left_s = %s WHERE export_id = %s AND state = 'running'
RETURNING is_cancelled"""
# One that somebody has cancelled is not done, even where it was quicker.
END = """
UPDATE exports SET state = CASE WHEN is_cancelled THEN 'cancelled' ELSE %(state)s END, finished = now(), left_s = NULL,
  summary = CASE WHEN is_cancelled THEN NULL ELSE %(summary)s::jsonb END,
  reason = CASE WHEN is_cancelled THEN NULL ELSE %(reason)s END,
  rows = coalesce(%(rows)s, rows), share = CASE %(state)s WHEN 'done' THEN 1 ELSE share END
WHERE export_id = %(number)s AND state = 'running' RETURNING state"""
AGAIN = """
UPDATE exports SET heard = NULL, tries = tries - %(back)s,
  finished = CASE WHEN is_cancelled OR tries >= %(tries)s THEN now() END,
  reason = CASE WHEN NOT is_cancelled AND tries >= %(tries)s THEN 'its process died each time it was begun' END,
  state = CASE WHEN is_cancelled THEN 'cancelled' WHEN tries >= %(tries)s THEN 'failed' ELSE 'queued' END
WHERE state = 'running' AND (export_id = %(one)s OR heard < now() - %(silent)s)"""
FINISHED = "SELECT export_id, finished FROM exports WHERE state = 'done' ORDER BY export_id DESC"
EXPIRE = "UPDATE exports SET state = 'expired' WHERE export_id = ANY (%s) AND state = 'done'"


class JobState(StrEnum):
    """Of a job. `expired`: it was done, and its files are gone."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Job(BaseModel):
    """One job as it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    export_id: int
    request: ExportRequest
    author: str
    state: JobState
    is_cancelled: bool
    created: Utc
    started: Utc | None = None
    finished: Utc | None = None
    rows: int = 0
    share: float = 0.0
    left_s: float | None = None
    summary: Summary | None = None
    reason: str | None = None


class Jobs:
    """The queue and the files. Every call opens a connection of its own and raises `Unavailable` without database."""

    def __init__(self, dsn: str, folder: Path, *, queued_max: int = 100, queued_of_one_max: int = 20) -> None:
        self.dsn, self.folder = dsn, folder
        self._queued_max, self._queued_of_one_max = queued_max, queued_of_one_max

    def start(self, request: ExportRequest, *, author: str) -> Job:
        """Puts a job at the end of the queue. Raises `Refused` when too many wait, the author's or all together."""
        with (
            self.connected() as connection,
            connection.transaction(),
            connection.cursor(row_factory=dict_row) as cursor,
        ):
            cursor.execute(ONE_AT_A_TIME)  # many at once are no way around the bounds
            waiting = {row["author"]: row["count"] for row in cursor.execute(WAITING)}
            if sum(waiting.values()) >= self._queued_max:
                raise Refused(f"{self._queued_max} exports wait already; try again when some are done")
            own = sum(count for name, count in waiting.items() if person(name) == person(author))
            if own >= self._queued_of_one_max:
                raise Refused(f"{own} exports of yours wait already; cancel one, or try again when some are done")
            made = cursor.execute(START, (Jsonb(request.model_dump(mode="json")), author)).fetchone()
        return Job.model_validate(made)

    def job(self, number: int) -> Job:
        """Raises `Refused` for one that is not there."""
        found = self._rows(ONE, (number,))
        if not found:
            raise Refused(f"export {number}: there is none")
        return found[0]

    def listed(
        self, *, limit: int = 100, before: int | None = None, author: str | None = None, state: JobState | None = None
    ) -> list[Job]:
        """Newest first; `before` a number for the next page."""
        words = {"limit": min(limit, LISTED_MAX), "before": before, "author": author, "state": state}
        return self._rows(LIST, words)

    def cancel(self, number: int) -> Job:
        """One that waits is cancelled at once, one that runs soon. Raises `Refused` for one that is over."""
        found = self._rows(CANCEL, (number,))
        if not found:
            raise Refused(f"export {number} is {self.job(number).state}: there is nothing to cancel")
        return found[0]

    def file(self, number: int, name: str | None = None) -> Path:
        """The file, or one that stands beside it, by its name. Raises `Refused` where there is none (yet, any more)."""
        job = self.job(number)
        if job.state is not JobState.DONE or job.summary is None:
            raise Refused(f"export {number} is {job.state}: there is no file to fetch")
        names = [each.name for each in job.summary.files]
        if name is not None and name not in names:
            raise Refused(f"export {number} has no file {name}; there are {', '.join(names)}")
        path = self.place(number) / (name or names[0])
        if not path.is_file():
            raise Refused(f"the files of export {number} are gone; start it again")
        return path

    def place(self, number: int) -> Path:
        """The folder of one job's files."""
        return self.folder / str(number)

    def path(self, job: Job) -> Path:
        """Where a job's file goes."""
        return self.place(job.export_id) / file_name(job.request)

    def claim(self) -> int | None:
        """The next job's number, which is now the caller's to make."""
        with self.connected() as connection:
            row = connection.execute(CLAIM).fetchone()
        return None if row is None else int(row[0])

    def heard(self, number: int, step: Progress) -> bool:
        """Notes progress; false when somebody wants the job cancelled or it is not ours any more."""
        with self.connected() as connection:
            row = connection.execute(PROGRESS, (step.rows, step.share, step.left_s, number)).fetchone()
        return row is not None and not row[0]

    def ended(
        self, number: int, state: JobState, *, summary: Summary | None = None, reason: str | None = None
    ) -> JobState | None:
        """Notes the end of a running job; what it became, which is `cancelled` where somebody asked for that meanwhile.
        None: it is not running, or not ours, any more."""
        words = {
            "number": number,
            "state": str(state),
            "summary": None if summary is None else Jsonb(summary.model_dump(mode="json")),
            "reason": reason,
            "rows": None if summary is None else summary.rows,
        }
        with self.connected() as connection:
            row = connection.execute(END, words).fetchone()
        return None if row is None else JobState(row[0])

    def again(self, number: int | None = None, *, is_try: bool = True) -> None:
        """Running jobs whose process is gone (this one; all that are silent) wait again, or have failed too often."""
        words = {"one": number, "silent": SILENT, "tries": TRIES_MAX, "back": int(not is_try)}
        with self.connected() as connection:
            connection.execute(AGAIN, words)

    def expire(self, *, older_than: datetime, bytes_max: int) -> list[int]:
        """Removes files of old jobs, and of the oldest beyond a sum; the numbers of those jobs."""
        with self.connected() as connection:
            done = connection.execute(FINISHED).fetchall()
            held, gone = 0, []
            for number, finished in done:
                held += sum(file.stat().st_size for file in _files(self.place(number)))
                if finished < older_than or held > bytes_max:
                    gone.append(number)
            connection.execute(EXPIRE, (gone,))
        for number in gone:
            shutil.rmtree(self.place(number), ignore_errors=True)
        return gone

    def _rows(self, statement: str, words: Sequence[Any] | dict[str, Any]) -> list[Job]:
        with self.connected() as connection, connection.cursor(row_factory=dict_row) as cursor:
            return [Job.model_validate(row) for row in cursor.execute(statement, words).fetchall()]

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection for one call. Raises `Unavailable`, `Refused`."""
        try:
            with connected(self.dsn) as connection:
                yield connection
        except psycopg.errors.UndefinedTable:
            raise Refused("the database has no table for exports yet; make it with: telltale db migrate") from None


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


class Worker:
    """Makes jobs, each in a process of its own, until it is stopped. Threads: one, and it may be many machines'."""

    def __init__(self, jobs: Jobs, settings: ExportSettings, *, kafka: str | None) -> None:
        self._jobs, self._settings, self._kafka = jobs, settings, kafka
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def processes(self) -> dict[int, int]:
        """Process ids by the number of the job that each makes."""
        return {number: process.pid for number, process in list(self._running.items())}

    def start(self) -> None:
        """Returns at once."""
        self._thread = threading.Thread(target=self._work, name="exports", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends jobs that run; they are made again by whoever comes next. Takes up to `END_S_MAX`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(END_S_MAX + 5)

    def _work(self) -> None:
        turn = 0
        while not self._stop.wait(LOOK_S):
            try:
                self._reap()
                if turn % 60 == 0:
                    self._jobs.again()
                    self._expire()
                self._begin()
            except (Refused, Unavailable, OSError) as error:  # of the system: no process, or a file that has just gone
                log.warning("exports_wait", detail=str(error))
                self._stop.wait(PAUSE_S)
            except Exception:  # our bug, or a right that the database's role lacks: exports must not end unnoticed
                log.exception("exports_failed")
                self._stop.wait(PAUSE_S)
            turn += 1
        for number, process in self._running.items():
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_S_MAX)
            process.kill()
            process.wait()
            with suppress(Refused, Unavailable):
                self._jobs.again(number, is_try=False)

    def _begin(self) -> None:
        while len(self._running) < self._settings.at_once and (number := self._jobs.claim()) is not None:
            env = {**os.environ, "TELLTALE_DATABASE": self._jobs.dsn, "TELLTALE_EXPORTS_FOLDER": str(self._jobs.folder)}
            if self._kafka is not None:
                env["TELLTALE_KAFKA"] = self._kafka
            command = [sys.executable, "-m", "infra.command", "export", "job", str(number)]
            self._running[number] = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL)
            log.info("export_begun", export=number)

    def _reap(self) -> None:
        for number, process in list(self._running.items()):
            if process.poll() is not None:
                del self._running[number]
                log.info("export_ended", export=number, code=process.returncode)
                self._jobs.again(number)  # does nothing where it has noted its own end

    def _expire(self) -> None:
        keep = timedelta(days=self._settings.keep_days)
        gone = self._jobs.expire(older_than=datetime.now().astimezone() - keep, bytes_max=self._settings.keep_bytes)
        if gone:
            log.info("exports_expired", exports=gone)
