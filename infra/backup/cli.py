"""`telltale backup`. The composition root: clocks are read and clients made here and nowhere else."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from infra import stack
from infra.counted import counted
from infra.options import AS_JSON, DATABASE, KAFKA

if TYPE_CHECKING:
    from infra.backup.folder import Backup, Folder, Manifest

LOOK_S = 5.0
"""How late a backup begins, and an alarm is told again to a broker that was away."""

FOLDER = click.option(
    "--folder", metavar="DIR", help="The backups; by default TELLTALE_BACKUP_FOLDER, else beside the stack's folder."
)
BACKUP = click.argument("name", metavar="[BACKUP]", required=False)


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def opened(named: str | None) -> "Folder":
    """The folder of backups, by option or setting."""
    from infra.backup.folder import Folder
    from infra.backup.settings import BackupSettings

    return Folder(BackupSettings().place(named))


@click.group()
def backup() -> None:
    """Backups of the database: make, list, verify, restore."""


@backup.command(short_help="Make a backup, while all goes on.")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Then remove all but the newest N.")
@click.option("--verify", "verified", is_flag=True, help="Then restore it into a scratch database and compare.")
@FOLDER
@DATABASE
@AS_JSON
def create(keep: int | None, verified: bool, folder: str | None, database: str | None, as_json: bool) -> None:
    """Make a backup, while all goes on: rows and the sink's offsets of one moment."""
    from infra.backup.making import create as make
    from infra.backup.restoring import verify as check

    place, dsn = opened(folder), stack.database_dsn(database)
    with waiting("backing up", quiet=as_json):
        made = make(dsn, place, clock=now)
    if verified:
        with waiting(f"verifying {made.name}", quiet=as_json):
            made = check(dsn, made, clock=now)
    gone = place.keep(keep, database=made.manifest.database, now=now()) if keep else []
    if as_json:
        click.echo(json.dumps({**made.told(), "removed": gone}))
        return
    about = made.manifest
    said = f"{_holds(about)}, {about.bytes / 1e6:.1f} MB, {about.seconds:.1f} s"
    click.echo(f"made {made.path}: {said}{', verified' if verified else ''}")
    for each in gone:
        click.echo(f"removed {each}")


@backup.command("list")
@FOLDER
@AS_JSON
def list_(folder: str | None, as_json: bool) -> None:
    """What backups there are, newest first."""
    place = opened(folder)
    found, damaged = place.backups(), place.damaged()
    if as_json:
        click.echo(json.dumps({"folder": str(place.path), "backups": [b.told() for b in found], "damaged": damaged}))
        return
    for each in found:
        click.echo(_line(each))
    for line in damaged:
        click.echo(line)
    click.echo(f"{counted(len(found), 'backup')} in {place.path}")


def _holds(about: "Manifest") -> str:
    return f"{counted(about.rows, 'row')} of {counted(len(about.tables), 'table')}"


def _line(each: "Backup") -> str:
    about = each.manifest
    verified = f"verified {each.verified.at:%Y-%m-%d %H:%M}Z" if each.verified else "not verified"
    size = f"{about.rows:>15,} rows {about.bytes / 1e6:>10.1f} MB"
    return f"{each.name}  {about.taken:%Y-%m-%d %H:%M:%S}Z {size}  {verified}"


@backup.command()
@BACKUP
@FOLDER
@DATABASE
@AS_JSON
def verify(name: str | None, folder: str | None, database: str | None, as_json: bool) -> None:
    """Say whether a backup (the newest) gives back what it was made of.

    It is restored into a scratch database on the database's server, and every table is compared. Exit
    code 1 if it does not give back what it was made of.
    """
    from infra.backup.restoring import verify as check

    place, dsn = opened(folder), stack.database_dsn(database)
    chosen = place.named(name)
    with waiting(f"verifying {chosen.name}", quiet=as_json):
        found = check(dsn, chosen, clock=now)
    if as_json:
        click.echo(json.dumps(found.told()))
        return
    took = found.verified.seconds if found.verified else 0.0
    about = found.manifest
    click.echo(f"{found.name} gives back {_holds(about)} ({took:.1f} s)")


@backup.command()
@BACKUP
@click.option("--into", metavar="NAME", help="Into a database of this name, on the same server.")
@click.option("--force", is_flag=True, help="Replace a database that holds something. Its sessions are ended.")
@click.option("--no-privileges", is_flag=True, help="Without GRANTs, for a server that lacks the roles.")
@FOLDER
@DATABASE
@AS_JSON
def restore(
    *,
    name: str | None,
    into: str | None,
    force: bool,
    no_privileges: bool,
    folder: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Make a database of a backup (the newest).

    It is filled and compared beside the old one, which is replaced only then. Services may run on: the sink goes back
    to the restored offsets and reads from Kafka what is missing.

    \b
    telltale backup restore --into beside
    telltale backup restore --force
    """
    from infra.backup.restoring import restore as bring_back

    place, dsn = opened(folder), stack.database_dsn(database)
    chosen = place.named(name)
    with waiting(f"restoring {chosen.name}", quiet=as_json):
        done = bring_back(dsn, chosen, into=into, force=force, privileges=not no_privileges)
    if as_json:
        click.echo(json.dumps({**chosen.told(), "into": done}))
        return
    about = chosen.manifest
    click.echo(f"database {done} is {chosen.name}: {_holds(about)}, as they were")


def waiting(what: str, *, quiet: bool) -> AbstractContextManager[object]:
    """Something that moves on a terminal, nothing elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    console.quiet = quiet
    return console.status(f"{what} ...")


@backup.command()
@click.option("--once", is_flag=True, help="Do what is due and end: for cron. Exit code 1 if an alarm stands.")
@KAFKA
@FOLDER
@DATABASE
def run(once: bool, kafka: str | None, folder: str | None, database: str | None) -> None:
    """Make backups on a schedule, with alarms, until SIGTERM or Ctrl-C.

    One every TELLTALE_BACKUP_EVERY, verified; the newest are kept.
    `telltale up` runs this where TELLTALE_BACKUP_EVERY is set.
    """
    from datetime import timedelta

    from infra import events, readiness
    from infra.backup import making, measured, restoring, server
    from infra.backup.alarms import Alarms
    from infra.backup.schedule import Plan, Schedule
    from infra.backup.settings import EVERY, BackupSettings
    from infra.telemetry import probing
    from infra.telemetry.health import Check, Health, age_check
    from infra.telemetry.serving import serving
    from infra.telling import tell_all
    from schemas.errors import Refused

    settings = BackupSettings()
    if settings.every is None:
        raise Refused(f"no schedule: set {EVERY}, such as {EVERY}=12h")
    address, dsn = stack.kafka_address(kafka), stack.database_dsn(database)
    events.configure(service="backup")
    place, name = opened(folder), server.database_of(dsn)
    schedule = Schedule(
        Plan(name, timedelta(seconds=settings.every), settings.keep, settings.verify),
        place,
        Alarms(
            place.path / f".{name}.alarms.json",
            source=f"backup/{name}",
            tell=lambda events: tell_all(address, events, client_id="telltale-backup"),
        ),
        now,
        make=lambda: making.create(dsn, place, clock=now),
        verify=lambda each: restoring.verify(dsn, each, clock=now),
    )
    if once:
        raise SystemExit(0 if schedule.turn() else 1)

    def recent() -> Check:
        rules = [str(rule) for rule in schedule.alarms.standing]
        return Check(not rules, ", ".join(rules) or "backups are made as planned", required=False)

    health = Health("backup")  # no bound on a turn: a large database takes hours
    health.check("recent", recent)
    health.check("last_made", lambda: age_check("backup", measured.LAST_MADE.age_s))
    with serving(health, probes={"broker": probing.broker(address), "database": probing.database(dsn)}):
        _until_told_to_end(schedule.turn, working=readiness.announce)


def _until_told_to_end(turn: Callable[[], bool], *, working: Callable[[], None]) -> None:
    """One turn after another. A signal also ends a backup that is being made, which then is none."""
    import signal
    import time

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    working()
    try:
        while True:
            turn()
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        pass
