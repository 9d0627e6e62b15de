"""`telltale export`. The composition root: clients are made here and nowhere else."""

import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dashboard.exports.options import KAFKA, choosing, request_of, written
from infra import stack
from infra.counted import counted
from infra.options import DATABASE
from infra.printable import printable
from schemas.errors import Refused, Unavailable

if TYPE_CHECKING:
    import psycopg

    from dashboard.exports.jobs import Jobs
    from dashboard.exports.making import Progress, Summary
    from dashboard.exports.request import ExportRequest
    from dashboard.exports.settings import ExportSettings
    from dashboard.exports.told import ExportAlarms

PLAIN_EVERY_S = 5.0
"""Between two lines of progress where standard error is no terminal."""
HEARD_EVERY_S = 1.0


@click.group()
def export() -> None:
    """Stored readings as files: Windographer text, CSV, Parquet, a zip by sensor type, the IEA data model."""


@export.command()
@written
@click.option("--flag-log/--no-flag-log", default=True, help="FILE_flags.txt beside it, where there are flags.")
@choosing
def windographer(**words: Any) -> None:
    """Windographer text, and a log of the flags beside it.

    \b
    telltale export windographer --station hill
    telltale export windographer --station hill --from 2024-01-01 --missing -9999
    """
    _make("windographer", **words)


@export.command("csv")
@written
@choosing
def csv_(**words: Any) -> None:
    """CSV that says what it is.

    It begins with comment lines: what is in it, what was left out and why.

    \b
    telltale export csv --station hill --sensor 'Spd*' --interval hour --figure mean,sd,count
    telltale export csv --device mast-7 --from 2024-05-01 --zone UTC
    """
    _make("csv", **words)


@export.command()
@choosing
def parquet(**words: Any) -> None:
    """Parquet, with each sensor's unit and height in the schema.

    \b
    telltale export parquet --station hill --zone UTC --out hill.parquet
    """
    _make("parquet", **words)


@export.command("zip")
@written
@click.option("--flag-log/--no-flag-log", default=True, help="flags.txt in it, where there are flags.")
@choosing
def zip_(**words: Any) -> None:
    """A zip with one text file for each kind of sensor."""
    _make("zip", **words)


@export.command()
@written
@choosing
def iea43(**words: Any) -> None:
    """An IEA Task 43 data model, and the data as logged.

    NAME.json is the model and NAME.csv the data beside it, which a reader of the model calibrates.
    """
    _make("iea43", **words | {"logged": True})


@export.command("jobs")
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
def list_jobs(database: str | None, as_json: bool) -> None:
    """Exports asked for on the dashboard or the API.

    The newest first.
    """
    found = _jobs(database).listed()
    for job in found:
        if as_json:
            click.echo(job.model_dump_json())
            continue
        left = f", {_seconds(job.left_s)} left" if job.left_s is not None else ""
        state = f"{job.state} {job.share:.0%}{left}" if job.state == "running" else job.state
        line = (
            f"{job.export_id:>6}  {job.created:%Y-%m-%d %H:%M:%S}Z  {state:<10}  {job.request.format} of "
            f"{job.request.subject}, {counted(job.rows, 'row')}  [{job.author}]"
            f"{'  ' + job.reason if job.reason else ''}"
        )
        click.echo(printable(line))
    if not found and not as_json:
        click.echo("no exports", err=True)


@export.command("cancel")
@click.argument("number", type=click.IntRange(min=1))
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="For scripts: the job as one JSON object.")
def cancel_job(number: int, database: str | None, as_json: bool) -> None:
    """Cancel a job."""
    job = _jobs(database).cancel(number)
    click.echo(job.model_dump_json() if as_json else f"export {number} is {job.state}; it was told to end")


@export.command("job", hidden=True)
@click.argument("number", type=click.IntRange(min=1))
@DATABASE
@KAFKA
def make_job(number: int, database: str | None, kafka: str | None) -> None:
    """Make a job that was claimed: what a worker starts."""
    from dashboard.exports.jobs import JobState
    from dashboard.exports.making import Cancelled
    from dashboard.exports.settings import ExportSettings

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings, jobs = ExportSettings(), _jobs(database)
    job = jobs.job(number)
    path = jobs.path(job)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _listening(jobs, number) as (note, is_cancelled):
        try:
            done = _export(job.request, path, settings, database, kafka, progress=note, is_cancelled=is_cancelled)
        except Cancelled:
            jobs.ended(number, JobState.CANCELLED)
            return
        except (Refused, Unavailable) as error:
            jobs.ended(number, JobState.FAILED, reason=str(error))
            raise
        finally:
            with suppress(OSError):  # only an empty one goes
                path.parent.rmdir()
        if jobs.ended(number, JobState.DONE, summary=done) is JobState.CANCELLED:
            shutil.rmtree(path.parent, ignore_errors=True)


@contextmanager
def _listening(jobs: "Jobs", number: int) -> "Iterator[tuple[Callable[[Progress], None], Callable[[], bool]]]":
    """Tells the table how far it is, once a second whatever a slice takes; hears whether it is to end."""
    from dashboard.exports.making import Progress

    steps, is_cancelled, is_over = [Progress(0, 0, 0.0, 0.0)], threading.Event(), threading.Event()

    def listen() -> None:
        while not is_over.wait(HEARD_EVERY_S):
            with suppress(Unavailable):
                if not jobs.heard(number, steps[-1]):
                    is_cancelled.set()

    def note(step: "Progress") -> None:
        steps[:] = [step]

    thread = threading.Thread(target=listen, name="listening", daemon=True)
    thread.start()
    try:
        yield note, is_cancelled.is_set
    finally:
        is_over.set()
        thread.join()


def _make(
    kind: str, *, out: Path | None, force: bool, database: str | None, kafka: str | None, as_json: bool, **words: Any
) -> None:
    from dashboard.exports.labels import file_name
    from dashboard.exports.making import Cancelled
    from dashboard.exports.settings import ExportSettings

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    request = request_of(kind, **words)
    path = out or Path(file_name(request))
    try:
        with _progress() as progress:
            done = _export(request, path, ExportSettings(), database, kafka, force=force, progress=progress)
    except Cancelled:
        raise click.Abort from None
    if as_json:
        click.echo(json.dumps({"folder": str(path.absolute().parent), **done.model_dump(mode="json")}))
        return
    _tell(done, path)


def _tell(done: "Summary", path: Path) -> None:
    about = (
        f"{counted(done.rows, 'row')} of {counted(len(done.columns), 'column')}, {counted(done.readings, 'reading')}"
    )
    click.echo(f"{path}: {about}, {done.zone} ({done.files[0].bytes / 1e6:.1f} MB, {done.seconds:.1f} s)")
    for each in done.files[1:]:
        click.echo(f"{path.with_name(each.name)}: beside it")
    for cause, count in done.left_out.items():
        click.echo(f"left out, {cause}: {count:,}", err=True)
    for note in done.notes:
        click.echo(note, err=True)


def _export(
    request: "ExportRequest",
    path: Path,
    settings: "ExportSettings",
    database: str | None,
    kafka: str | None,
    *,
    force: bool = True,
    progress: "Callable[[Progress], None]",
    is_cancelled: Callable[[], bool] = lambda: False,
) -> "Summary":
    from dashboard.exports.watched import watched_export

    dsn = stack.database_dsn(database)
    return watched_export(
        lambda: _connection(dsn, statement_s=settings.statement_s),
        request,
        path,
        alarms=_alarms(request, settings, kafka),
        slow_s=settings.slow_s,
        force=force,
        progress=progress,
        is_cancelled=is_cancelled,
    )


def _alarms(request: "ExportRequest", settings: "ExportSettings", kafka: str | None) -> "ExportAlarms | None":
    """None where no broker is known: a person who exports at a machine without one sees what happens."""
    import structlog

    from dashboard.exports.told import SPEAKER, ExportAlarms
    from infra.telling import tell_all

    try:
        address = stack.kafka_address(kafka)
    except Unavailable:
        return None
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the summary has standard output
    return ExportAlarms(
        settings.place(),
        request,
        tell=lambda events: tell_all(address, events, client_id=f"telltale-{SPEAKER}"),
        clock=lambda: datetime.now(UTC),
    )


def _connection(dsn: str, *, statement_s: float) -> "psycopg.Connection[Any]":
    import psycopg

    return psycopg.connect(
        dsn,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=10,
        application_name="telltale export",
        options=f"-c statement_timeout={round(statement_s * 1000)}",
    )


def _jobs(database: str | None) -> "Jobs":
    from dashboard.exports.jobs import Jobs
    from dashboard.exports.settings import ExportSettings

    settings = ExportSettings()
    return Jobs(stack.database_dsn(database), settings.place())


@contextmanager
def _progress() -> "Iterator[Callable[[Progress], None]]":
    """A bar on a terminal, a line now and then elsewhere, on standard error."""
    if not sys.stderr.isatty():
        yield _plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("exporting"), BarColumn(), TextColumn("{task.percentage:>3.0f} %  {task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda step: bar.update(task, completed=step.share, description=_told(step))


def _plain() -> "Callable[[Progress], None]":
    due = time.monotonic() + PLAIN_EVERY_S

    def tell(step: "Progress") -> None:
        nonlocal due
        if time.monotonic() >= due:
            due = time.monotonic() + PLAIN_EVERY_S
            click.echo(f"exporting: {step.share:.0%}, {_told(step)}", err=True)

    return tell


def _told(step: "Progress") -> str:
    left = f", {_seconds(step.left_s)} left" if step.left_s is not None else ""
    return f"{counted(step.rows, 'row')}{left}"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
