"""Exports as jobs: a queue, a process each, cancel, files that wait; and the alarms of exports that fail."""

import json
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from fix_exports import STEPS, Exported
from fix_faultbook import Book
from fix_sink import Database, until

from dashboard.acting import standing
from dashboard.exports.jobs import TRIES_MAX, Job, Jobs, JobState, Worker
from dashboard.exports.making import Progress, Summary
from dashboard.exports.request import ExportRequest
from dashboard.exports.settings import ExportSettings
from dashboard.exports.told import ExportAlarms
from dashboard.exports.watched import watched_export
from schemas.alarms import AlarmEvent
from schemas.errors import Refused, Unavailable

pytestmark = pytest.mark.integration

CSV = ExportRequest(format="csv", station="hill")
NOPE = ExportRequest(format="csv", station="nope")


@pytest.fixture
def jobs(hill: Database, tmp_path: Path) -> Jobs:
    return Jobs(hill.dsn, tmp_path / "jobs", queued_max=4)


@pytest.fixture
def worker(jobs: Jobs) -> Iterator[Worker]:
    one = Worker(jobs, ExportSettings(), kafka=None)
    yield one
    one.stop()


WAITS = """SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'telltale export' AND wait_event_type = 'Lock'"""


def over(jobs: Jobs, number: int) -> Job:
    until(lambda: jobs.job(number).state not in ("queued", "running"), what=f"export {number} is over")
    return jobs.job(number)


def test_jobs_are_made_one_after_another_and_their_files_fetched(
    jobs: Jobs, worker: Worker, exported: Exported
) -> None:
    first, wrong = jobs.start(CSV, author="ann"), jobs.start(NOPE, author="bob")
    assert (first.state, first.request) == (JobState.QUEUED, CSV)
    with pytest.raises(Refused, match="no file to fetch"):
        jobs.file(first.export_id)
    worker.start()
    done, failed = over(jobs, first.export_id), over(jobs, wrong.export_id)
    assert (done.state, done.rows, done.share) == (JobState.DONE, STEPS, 1)
    assert done.summary is not None
    path = jobs.file(done.export_id)
    assert path.read_bytes() == exported("csv")[0].read_bytes()
    assert path.stat().st_size == done.summary.files[0].bytes
    assert failed.state is JobState.FAILED
    assert failed.reason == "station nope: not known to the database; there are hill"
    assert [job.export_id for job in jobs.listed(author="ann")] == [done.export_id]
    assert [job.export_id for job in jobs.listed(before=wrong.export_id)] == [done.export_id]
    with pytest.raises(Refused, match="is done: there is nothing to cancel"):
        jobs.cancel(done.export_id)
    with pytest.raises(Refused, match="there is none"):
        jobs.job(99)
    gone = jobs.expire(older_than=datetime.now(UTC) - timedelta(days=1), bytes_max=100)
    assert (gone, jobs.job(done.export_id).state) == ([done.export_id], JobState.EXPIRED)
    assert not path.exists()


def test_queue_is_bounded_and_what_waits_can_be_cancelled(jobs: Jobs) -> None:
    waiting = [jobs.start(CSV, author="ann") for _ in range(4)]
    with pytest.raises(Refused, match="4 exports wait already"):
        jobs.start(CSV, author="ann")
    assert jobs.cancel(waiting[0].export_id).state is JobState.CANCELLED
    assert jobs.claim() == waiting[1].export_id
    assert jobs.heard(waiting[1].export_id, Progress(10, 50, 0.25, 3.0))
    running = jobs.job(waiting[1].export_id)
    assert (running.state, running.rows, running.left_s) == (JobState.RUNNING, 10, 9.0)
    jobs.cancel(running.export_id)
    assert not jobs.heard(running.export_id, Progress(20, 100, 0.5, 3.0))


def test_nobody_fills_the_queue_alone_not_with_his_tokens_either(hill: Database, tmp_path: Path) -> None:
    jobs = Jobs(hill.dsn, tmp_path / "jobs", queued_max=3, queued_of_one_max=2)
    first = jobs.start(CSV, author="ann")
    jobs.start(CSV, author="token tt_AbCdEf1 of ann")
    for author in ("ann", "token tt_GhIjKl2 of ann"):
        with pytest.raises(Refused, match="2 exports of yours wait already; cancel one"):
            jobs.start(CSV, author=author)
    jobs.cancel(first.export_id)
    assert jobs.start(CSV, author="ann").state is JobState.QUEUED
    assert jobs.start(CSV, author="bob").state is JobState.QUEUED
    with pytest.raises(Refused, match="3 exports wait already; try again"):
        jobs.start(CSV, author="bob")


def test_job_that_is_killed_is_begun_again_and_one_that_is_cancelled_ends(
    jobs: Jobs, worker: Worker, hill: Database
) -> None:
    job = jobs.start(CSV, author="ann")
    with psycopg.connect(hill.dsn) as holding:
        holding.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")  # its process waits for us
        worker.start()
        until(lambda: hill.one(WAITS), what="the job's process is at work")
        (process,) = worker.processes.values()
        os.kill(process, signal.SIGKILL)
        until(lambda: set(worker.processes.values()) - {process}, what="it was begun again")
        assert jobs.job(job.export_id).state is JobState.RUNNING
    assert over(jobs, job.export_id).state is JobState.DONE
    with psycopg.connect(hill.dsn) as holding:
        holding.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
        job = jobs.start(CSV, author="ann")
        until(lambda: jobs.job(job.export_id).state == "running", what="the second runs")
        jobs.cancel(job.export_id)
    assert over(jobs, job.export_id).state is JobState.CANCELLED
    assert not jobs.place(job.export_id).exists()


def test_job_whose_process_dies_each_time_fails(jobs: Jobs) -> None:
    number = jobs.start(CSV, author="ann").export_id
    for _ in range(TRIES_MAX):
        assert jobs.claim() == number
        jobs.again(number)
    assert jobs.claim() is None
    assert jobs.job(number).state is JobState.FAILED
    again = jobs.start(CSV, author="ann").export_id
    for _ in range(TRIES_MAX + 1):  # a dashboard that is restarted is not the job's fault
        assert jobs.claim() == again
        jobs.again(again, is_try=False)


class Told:
    """A broker that can be away."""

    def __init__(self) -> None:
        self.events: list[AlarmEvent] = []
        self.is_away = False

    def __call__(self, events: object) -> None:
        if self.is_away:
            raise Unavailable("away")
        self.events += events  # type: ignore[operator]

    def said(self) -> list[tuple[str, str]]:
        return [(event.data.rule, str(event.data.state)) for event in self.events]


def made(exported: Exported, told: object, *, dsn: str | None = None, slow_s: float = 1e9) -> Summary:
    alarms = ExportAlarms(exported.folder, CSV, tell=told, clock=lambda: datetime.now(UTC))  # type: ignore[arg-type]
    connect = lambda: psycopg.connect(dsn or exported.dsn, autocommit=True, prepare_threshold=None)  # noqa: E731
    return watched_export(connect, CSV, exported.folder / "out.csv", alarms=alarms, slow_s=slow_s, force=True)


def test_failed_and_slow_exports_are_alarms_until_the_same_export_works(exported: Exported) -> None:
    told = Told()
    away = exported.dsn.rpartition("/")[0] + "/none"
    made(exported, told)
    assert told.said() == []
    told.is_away = True
    for _ in range(2):  # what still stands is not said again
        with pytest.raises(Unavailable):
            made(exported, told, dsn=away)
    told.is_away = False
    made(exported, told, slow_s=0.0)
    assert told.said() == [("export_failed", "raised"), ("export_slow", "raised"), ("export_failed", "cleared")]
    made(exported, told)
    assert told.said()[3:] == [("export_slow", "cleared")]
    assert {event.data.source for event in told.events} == {f"export/hill/csv/{CSV.digest}"}


def test_alarm_of_a_failed_export_reaches_kafka(exported: Exported, cluster: str, book: Book) -> None:
    away = exported.dsn.rpartition("/")[0] + "/none"
    env = {**os.environ, "TELLTALE_KAFKA": cluster, "TELLTALE_EXPORTS_FOLDER": str(exported.folder / "known")}
    words = ("csv", "--station", "hill", "--out", "x.csv")
    failed = exported.command(*words, "--database", away, env=env)
    assert failed.returncode == 1
    assert 'database "none" does not exist' in failed.stderr
    assert [event.data.rule for event in standing(cluster)] == ["export_failed"]
    works = exported.command(*words, "--json", env=env)
    assert json.loads(works.stdout)["rows"] == STEPS  # nothing else is on standard output
    assert standing(cluster) == []
    book.tell(
        "export fails",
        "its database is not there; then it is",
        accepted=0,
        alarm="export_failed when the export ends, cleared by the next of the same",
    )
