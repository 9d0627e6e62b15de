"""`telltale sink` and `telltale db`. The composition root: clients are made here and nowhere else."""

import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from infra import client, events, readiness, stack
from infra.database import connected, told_in_one_line
from schemas.errors import Refused, Unavailable

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from sinks.timescale.settings import SinkSettings

KAFKA = click.option("--kafka", metavar="HOST:PORT", help="The broker; by default TELLTALE_KAFKA or the stack's.")
DATABASE = click.option("--database", metavar="DSN", help="The database; by default TELLTALE_DATABASE or the stack's.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


STUCK_S = 300.0
"""A loop that has not turned for so long hangs. Migrations of a large database come before its first turn."""
SWITCH_S = 0.0005
"""How long the thread that decodes may keep the one that feeds the database waiting. With Python's 5 ms, each of a
COPY's thirty waits for the socket ends in a wait for the interpreter."""


@click.group()
def sink() -> None:
    """The sink from Kafka to the database: each committed record once."""


@click.group()
def db() -> None:
    """The database: its schema, what it holds, how long, and its upkeep."""


@sink.command()
@KAFKA
@DATABASE
@click.option("--verbose", is_flag=True, help="One line for each batch.")
def run(kafka: str | None, database: str | None, verbose: bool) -> None:
    """Store what arrives, until SIGTERM or Ctrl-C. Any number of these share the work."""
    import structlog
    from pydantic import ValidationError

    from infra import telling
    from infra.security import keys
    from infra.security.keys import Keyring
    from infra.telemetry import probing
    from infra.telemetry import tracing as tracing_
    from infra.telemetry.health import Health
    from infra.telemetry.serving import serving
    from infra.version import our_version
    from schemas.codec import Codec
    from sinks.timescale import schema
    from sinks.timescale.alarms import Waits
    from sinks.timescale.decode import Decoder
    from sinks.timescale.loop import Loop
    from sinks.timescale.rejects import Rejects, producer
    from sinks.timescale.settings import SinkSettings
    from sinks.timescale.store import Store
    from sinks.timescale.upkeep import beside as upkeep_beside
    from sinks.timescale.writer import Writer

    address, dsn = stack.kafka_address(kafka), stack.database_dsn(database)
    try:
        settings = SinkSettings()
    except ValidationError as error:
        first = error.errors()[0]
        raise Refused(f"TELLTALE_SINK_{str(first['loc'][0]).upper()}: {first['msg']}") from None
    events.configure("debug" if verbose else "info", service="sink")
    sys.setswitchinterval(SWITCH_S)
    stop = Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stop.set())
    keyring = Keyring(keys.folder())
    keyring.refresh()
    health = Health("sink", stuck_s=STUCK_S)
    tracing = tracing_.start("sink", version=our_version(), log=structlog.get_logger())
    probes = {"broker": probing.broker(address), "database": probing.database(dsn)}
    with _neighbours(), serving(health, probes=probes):
        if settings.migrate:
            schema.migrate(dsn)
        admin = _admin(address)
        admin.list_topics(timeout=10)
        owner = f"{socket.gethostname()[:24]}-{os.getpid()}-{secrets.token_hex(3)}"
        codec = Codec()
        store = Store(dsn, owner=owner, copy=settings.copy_rows)
        writer = Writer(store, Rejects(lambda: producer(address), codec=codec))
        loop = Loop(
            _consumer(address, settings, owner=owner),
            admin=admin,
            decoder=Decoder(codec),
            store=store,
            writer=writer,
            settings=settings,
            waits=Waits(owner, settings.alarm_after_s),
            teller=telling.Teller(lambda: telling.producer(address, client_id="telltale-sink-alarms"), speaker="sink"),
            health=health,
            tracing=tracing,
            on_working=readiness.announce,
            keyring=keyring,
        )
        with upkeep_beside(dsn, period_s=settings.upkeep_s):
            loop.run(stop)
    if tracing is not None:
        tracing.end()


@sink.command("status")
@KAFKA
@DATABASE
@AS_JSON
def sink_status(kafka: str | None, database: str | None, as_json: bool) -> None:
    """Each partition: where it stands, how far behind, whose it is."""
    from sinks.timescale.status import positions

    address, dsn = stack.kafka_address(kafka), stack.database_dsn(database)
    with _neighbours(), connected(dsn) as connection:
        admin = _admin(address)
        admin.list_topics(timeout=10)
        found = positions(connection, admin)
    lag = sum(each["lag"] or 0 for each in found)
    if as_json:
        click.echo(json.dumps({"lag": lag, "partitions": found}))
        return
    _table(found, ("topic", "partition", "next_offset", "end_offset", "lag", "generation", "epoch", "owner"))
    click.echo(f"{len(found)} partitions, {lag} records behind")


@db.command()
@DATABASE
@AS_JSON
def migrate(database: str | None, as_json: bool) -> None:
    """Bring the schema up to date. Refuses one that is newer or was edited."""
    from sinks.timescale import schema

    with _neighbours():
        done = schema.migrate(stack.database_dsn(database))
    if as_json:
        click.echo(json.dumps({"applied": done}))
        return
    for name in done:
        click.echo(f"applied {name}")
    if not done:
        click.echo("up to date")


@db.command("status")
@DATABASE
@AS_JSON
def db_status(database: str | None, as_json: bool) -> None:
    """Versions, features, migrations; sizes, compression, oldest and newest reading, aggregates, retention."""
    from sinks.timescale.status import database as about

    with _neighbours(), connected(stack.database_dsn(database)) as connection:
        found = about(connection)
    if as_json:
        click.echo(json.dumps(found))
        return
    timescale = f", TimescaleDB {found['timescaledb']} ({found['licence']})" if found["timescaledb"] else ""
    click.echo(f"PostgreSQL {found['server']}{timescale}, {found['bytes'] / 1e6:.1f} MB")
    click.echo(f"features  {', '.join(found['features']) or 'none yet'}")
    for state in ("applied", "pending"):
        click.echo(f"{state:<9} {', '.join(found[state]) or 'none'}")
    if "tables" in found:
        _tell_holdings(found)


def _tell_holdings(found: dict[str, Any]) -> None:
    click.echo(f"readings  {found['oldest_reading'] or 'none'} to {found['newest_reading'] or 'none'}")
    columns = {"compressed_chunks": "compressed", "compression_ratio": "ratio", "not_before": "since"}
    tables = [
        {columns.get(name, name): value for name, value in each.items()}
        | {
            "MB": f"{each['bytes'] / 1e6:.1f}",
            "keep": each["keep"] or "for ever",
            "since": (each["not_before"] or "")[:10],
        }
        for each in found["tables"]
    ]
    _table(tables, ("table", "MB", "chunks", "compressed", "ratio", "keep", "since"))
    for each in found["aggregates"]:
        lag = "" if each["lag_s"] is None else f", {each['lag_s']:.0f} s behind the newest reading"
        click.echo(f"{each['aggregate']:<16}  made until {each['made_until'] or 'never'}{lag}")


@db.command()
@DATABASE
@AS_JSON
def upkeep(database: str | None, as_json: bool) -> None:
    """Once: aggregates follow late rows, what is older than retention goes, chunks that are due are compressed.

    A running sink does the same every minute.
    """
    from sinks.timescale import upkeep as keeping

    with _neighbours(), keeping.connect(_migrated(database)) as connection:
        done = keeping.round_of(connection)
    if done is None:
        raise Unavailable("another upkeep is at work on this database; try again later")
    if as_json:
        click.echo(json.dumps(done.told()))
    else:
        click.echo(
            f"{done.refreshed} slices of aggregates, {done.dropped} dropped, {done.compressed} tables compressed"
        )


@db.command()
@click.argument("series", type=click.Choice(["readings", "windows", "heartbeats"]))
@click.option(
    "--days", type=click.IntRange(31, 36_500), help="So long; older ones are dropped, and refused from now on."
)
@click.option("--forever", is_flag=True, help="Drop nothing more. What was dropped is still refused.")
@DATABASE
@AS_JSON
def keep(series: str, days: int | None, forever: bool, database: str | None, as_json: bool) -> None:
    """How long a series is kept. Statistics of readings outlive them where TimescaleDB makes aggregates."""
    from sinks.timescale import upkeep as keeping

    if (days is None) == (not forever):
        raise click.UsageError("say --days N or --forever")
    with _neighbours(), keeping.connect(_migrated(database)) as connection:
        keeping.keep(connection, series, days=days)
    if as_json:
        click.echo(json.dumps({"series": series, "days": days}))
    else:
        click.echo(f"{series}: kept {'for ever' if forever else f'{days} days; the next upkeep drops what is older'}")


@db.command("grant-reader")
@click.argument("name")
@click.option(
    "--statement-timeout", "timeout_s", type=click.IntRange(1, 3600), default=60, show_default=True, help="Seconds."
)
@click.option("--connections", type=click.IntRange(1, 100), default=4, show_default=True, help="At the same time.")
@click.option("--new-password", is_flag=True, help="For a reader that is there: the old one is void.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its password is what the file says, instead of one that is made.",
)
@DATABASE
@AS_JSON
def grant_reader(
    *,
    name: str,
    timeout_s: int,
    connections: int,
    new_password: bool,
    password_file: Path | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Make a role for notebooks: it reads the views, and nothing else. Its password is shown once.

    For a reader that is there: bring it up to date with today's views and limits.
    """
    from sinks.timescale import readers

    dsn = _migrated(database)
    password = password_file.read_text().strip() if password_file else None
    if password == "":
        raise Refused(f"--password-file: {password_file} is empty")
    with _neighbours(), connected(dsn) as connection:
        made = readers.grant(
            connection,
            name,
            statement_timeout_s=timeout_s,
            connections=connections,
            new_password=new_password,
            password=password,
        )
        info = connection.info
        where = f"{info.host}:{info.port}/{info.dbname}"
    if as_json:
        click.echo(json.dumps({**asdict(made), "dsn": _reader_dsn(made.name, made.password, where)}))
        return
    click.echo(
        f"reader {made.name}: {made.connections} connections, statements of {made.statement_timeout_s} s at most"
    )
    click.echo(f"it sees {', '.join(made.readable)}")
    if made.password is not None:
        click.echo(_reader_dsn(made.name, made.password, where))
        click.echo("This password is shown once. A new one: --new-password", err=True)


def _reader_dsn(name: str, password: str | None, where: str) -> str:
    return f"postgresql://{name}:{password}@{where}" if password else f"postgresql://{name}@{where}"


@db.command("revoke-reader")
@click.argument("name")
@DATABASE
@AS_JSON
def revoke_reader(name: str, database: str | None, as_json: bool) -> None:
    """Remove a reader and end its sessions."""
    from sinks.timescale import readers

    with _neighbours(), connected(stack.database_dsn(database)) as connection:
        readers.revoke(connection, name)
    click.echo(json.dumps({"revoked": name}) if as_json else f"reader {name} is gone")


@db.command("readers")
@DATABASE
@AS_JSON
def list_readers(database: str | None, as_json: bool) -> None:
    """Readers and their limits."""
    from sinks.timescale import readers

    with _neighbours(), connected(stack.database_dsn(database)) as connection:
        found = readers.listed(connection)
    names = ("name", "connections", "statement_timeout", "connected")
    if as_json:
        click.echo(json.dumps({"readers": [dict(zip(names, each, strict=True)) for each in found]}))
        return
    for name, most, timeout, now in found:
        click.echo(f"{name:<24} {now} of {most} connections, statements of {timeout or 'any length'}")
    if not found:
        click.echo("no readers", err=True)


def _migrated(database: str | None) -> str:
    """The DSN of a database whose schema is ours and up to date. Raises `Refused`."""
    from sinks.timescale import schema

    dsn = stack.database_dsn(database)
    with connected(dsn) as connection:
        had = schema.applied(connection)
        if schema.pending(had, flavours=schema.flavours(connection, had), known=schema.migrations()):
            raise Refused("the database's schema is not up to date; bring it there with: telltale db migrate")
    return dsn


def _consumer(address: str, settings: "SinkSettings", *, owner: str) -> Any:
    from confluent_kafka import Consumer

    from schemas.topics import SINK_GROUP
    from sinks.timescale.alarms import CLIENT

    return Consumer(
        {
            **client.connection(address),
            "client.id": CLIENT.format(owner),
            "group.id": SINK_GROUP,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",  # a position that the log has lost is a person's decision
            "enable.partition.eof": True,  # tells how far markers reach behind the last record
            "partition.assignment.strategy": "range",
            "session.timeout.ms": settings.session_timeout_ms,
            "heartbeat.interval.ms": settings.session_timeout_ms // 4,
            "max.poll.interval.ms": 60_000,  # the loop polls every 0.1 s; more than this is a hang
            "socket.timeout.ms": 10_000,
            "allow.auto.create.topics": False,
            "topic.metadata.refresh.interval.ms": 10_000,  # how late a topic that was made again is noticed
            "fetch.min.bytes": 1,
            # What arrives ends the wait, but only of partitions that are in the request already: the first
            # requests after an assignment name few of them, and the others wait this long.
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 10,  # the default of a second lets a full queue run dry
            "fetch.message.max.bytes": 4 * 2**20,
            "queued.max.messages.kbytes": settings.fetch_kbytes_max,
            "queued.min.messages": 100_000,
            "check.crcs": True,
            "error_cb": _complain,
        }
    )


def _admin(address: str) -> "AdminClient":
    from confluent_kafka.admin import AdminClient

    return AdminClient({**client.connection(address), "client.id": "telltale-sink", "socket.timeout.ms": 10_000})


def _complain(error: Any) -> None:
    """A broker that is away or refuses us, in our own words; librdkafka goes on trying."""
    import structlog

    structlog.get_logger(__name__).warning("kafka", detail=error.str())


@contextmanager
def _neighbours() -> Iterator[None]:
    """A sick neighbour at the start is told in one line."""
    from confluent_kafka import KafkaException

    try:
        with told_in_one_line():
            yield
    except KafkaException as error:
        raise Unavailable(f"Kafka: {error.args[0].str()}") from None


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="left" if name in ("topic", "owner") else "right", overflow="fold")
    for row in rows:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in columns))
    Console().print(table)
