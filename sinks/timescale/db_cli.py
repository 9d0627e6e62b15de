"""`telltale db`. The composition root."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from infra import stack
from infra.client import read_password
from infra.counted import counted
from infra.database import connected, told_in_one_line
from infra.options import AS_JSON, DATABASE
from schemas.errors import Refused, Unavailable
from sinks.timescale.shell import show_table


@click.group()
def db() -> None:
    """The database: its schema, what it holds, how long, and its upkeep."""


@db.command()
@DATABASE
@AS_JSON
def migrate(database: str | None, as_json: bool) -> None:
    """Bring the schema up to date. Refuses one that is newer or was edited."""
    from sinks.timescale import schema

    with told_in_one_line():
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
    """Versions, migrations, sizes, retention.

    And features, compression, the oldest and the newest reading, aggregates.
    """
    from sinks.timescale.status import database as about

    with connected(stack.database_dsn(database)) as connection:
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
    show_table(tables, ("table", "MB", "chunks", "compressed", "ratio", "keep", "since"))
    for each in found["aggregates"]:
        lag = "" if each["lag_s"] is None else f", {each['lag_s']:.0f} s behind the newest reading"
        click.echo(f"{each['aggregate']:<16}  made until {each['made_until'] or 'never'}{lag}")


@db.command()
@DATABASE
@AS_JSON
def upkeep(database: str | None, as_json: bool) -> None:
    """Do now what a running sink does every minute.

    Aggregates follow late rows, what is older than retention goes, chunks that are due are compressed.
    """
    from sinks.timescale import upkeep as keeping

    with told_in_one_line(), keeping.connect(_migrated(database)) as connection:
        done = keeping.round_of(connection)
    if done is None:
        raise Unavailable("another upkeep is at work on this database; try again later")
    if as_json:
        click.echo(json.dumps(done.told()))
    else:
        click.echo(
            f"{counted(done.refreshed, 'slice')} of aggregates, {done.dropped} dropped, "
            f"{counted(done.compressed, 'table')} compressed"
        )


@db.command()
@click.argument("series", type=click.Choice(["readings", "windows", "heartbeats"]))
@click.option(
    "--days",
    type=click.IntRange(31, 36_500),
    metavar="DAYS",
    help="So long; older ones are dropped, and refused from now on.",
)
@click.option("--forever", is_flag=True, help="Drop nothing more. What was dropped is still refused.")
@DATABASE
@AS_JSON
def keep(series: str, days: int | None, forever: bool, database: str | None, as_json: bool) -> None:
    """Say how long a series is kept. Statistics of readings outlive them where TimescaleDB makes aggregates."""
    from sinks.timescale import upkeep as keeping

    if (days is None) == (not forever):
        raise click.UsageError("say --days N or --forever")
    with told_in_one_line(), keeping.connect(_migrated(database)) as connection:
        keeping.keep(connection, series, days=days)
    if as_json:
        click.echo(json.dumps({"series": series, "days": days}))
    else:
        click.echo(f"{series}: kept {'for ever' if forever else f'{days} days; the next upkeep drops what is older'}")


@db.command("grant-reader")
@click.argument("name")
@click.option(
    "--statement-timeout",
    "timeout_s",
    type=click.IntRange(1, 3600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="The longest statement.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, 100),
    default=4,
    show_default=True,
    metavar="N",
    help="So many at the same time.",
)
@click.option("--new-password", is_flag=True, help="For a reader that is there: the old one is void.")
@click.option(
    "--password-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
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
    """Make a role for notebooks.

    It reads the views, and nothing else. Its password is shown once.

    For a reader that is there: bring it up to date with today's views and limits.
    """
    from sinks.timescale import readers

    dsn = _migrated(database)
    password = read_password(password_file) if password_file else None
    if password == "":
        raise Refused(f"--password-file: {password_file} is empty")
    with connected(dsn) as connection:
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
        f"reader {made.name}: {counted(made.connections, 'connection')}, "
        f"statements of {made.statement_timeout_s} s at most"
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

    with connected(stack.database_dsn(database)) as connection:
        readers.revoke(connection, name)
    click.echo(json.dumps({"revoked": name}) if as_json else f"reader {name} is gone")


@db.command("readers")
@DATABASE
@AS_JSON
def list_readers(database: str | None, as_json: bool) -> None:
    """Readers and their limits."""
    from sinks.timescale import readers

    with connected(stack.database_dsn(database)) as connection:
        found = readers.listed(connection)
    names = ("name", "connections", "statement_timeout", "connected")
    if as_json:
        click.echo(json.dumps({"readers": [dict(zip(names, each, strict=True)) for each in found]}))
        return
    for name, most, timeout, now in found:
        click.echo(f"{name:<24} {now} of {counted(most, 'connection')}, statements of {timeout or 'any length'}")
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
