"""`telltale flags`: flag periods, take flags off, list them, import Windographer's. The composition root."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infra import stack
from infra.caller import caller
from infra.counted import counted
from infra.database import connected
from infra.options import AS_JSON, DATABASE
from infra.printable import printable
from schemas.errors import Refused

if TYPE_CHECKING:
    from dashboard.flags.stored import Span

F = TypeVar("F", bound=Callable[..., Any])
IMPORTED_COLOUR = "#868e96"


@click.group()
def flags() -> None:
    """Flag bad periods, and take flags off. Readings stay as they are; statistics leave flagged ones out."""


def _common(command: F) -> F:
    for option in (
        DATABASE,
        AS_JSON,
    ):
        command = option(command)
    return command


def _period(command: F) -> F:
    for option in (
        click.option("--to", "end", metavar="TIME", help="Before this time."),
        click.option("--from", "begin", metavar="TIME", help="From this time on, UTC where no zone is given."),
    ):
        command = option(command)
    return command


@flags.command()
@click.argument("sensor", metavar="DEVICE/CHANNEL")
@_period
@click.option("--category", required=True, metavar="NAME", help="Such as icing; see `telltale flags categories`.")
@click.option("--reason", default="", metavar="TEXT", help="Kept with the flag.")
@_common
def add(
    *,
    sensor: str,
    begin: str | None,
    end: str | None,
    category: str,
    reason: str,
    as_json: bool,
    database: str | None,
) -> None:
    """Flag a sensor's readings of a period. What is flagged so already is not flagged twice.

    \b
    telltale flags add mast-7/Spd80 --from 2016-12-24 --to 2016-12-26 --category icing
    """
    from dashboard.flags import stored

    span = _span(begin, end)
    if span.begin is None or span.end is None:
        raise Refused("say which period: --from TIME --to TIME")
    with connected(stack.database_dsn(database)) as connection:
        sensor_id = stored.the_sensor(connection, sensor)
        number = stored.add(connection, sensor_id, span, category=category, reason=reason, author=caller())
    if as_json:
        click.echo(json.dumps({"flag": number}))
    else:
        click.echo(f"flag {number}" if number is not None else "flagged so already")


@flags.command()
@click.argument("what", metavar="FLAG... | DEVICE/CHANNEL", nargs=-1, required=True)
@_period
@click.option("--category", metavar="NAME", help="Only flags of this category.")
@_common
def remove(
    *,
    what: tuple[str, ...],
    begin: str | None,
    end: str | None,
    category: str | None,
    as_json: bool,
    database: str | None,
) -> None:
    """Take flags off, by number or off a sensor's period.

    Flags that reach beyond the period are cut.
    """
    from dashboard.flags import stored

    author, span = caller(), _span(begin, end)
    with connected(stack.database_dsn(database)) as connection:
        if all(word.isdecimal() for word in what):
            if begin or end or category:
                raise Refused("flags are removed by number, or by sensor with --from and --to")
            stored.remove(connection, _numbers(what), author=author)
            count = len(what)
        elif len(what) > 1:
            raise Refused(f"expected numbers of flags, or one sensor, got {' '.join(what)}")
        elif span.begin is None or span.end is None:
            raise Refused("say which period: --from TIME --to TIME")
        else:
            sensor_id = stored.the_sensor(connection, what[0])
            count = stored.remove_range(connection, sensor_id, span, category=category, author=author)
    click.echo(json.dumps({"removed": count}) if as_json else f"{counted(count, 'flag')} removed")


def _numbers(words: tuple[str, ...]) -> list[int]:
    for word in words:
        if len(word) > 18:  # beyond what the database counts with
            raise Refused(f"flag {word[:40]} is not on; nothing was removed")
    return [int(word) for word in words]


@flags.command("list")
@click.option("--sensor", metavar="[DEVICE/]CHANNEL", help="Flags of this sensor.")
@click.option("--device", metavar="ID", help="Flags of this device's sensors.")
@click.option("--station", metavar="ID", help="Flags of this station's sensors.")
@click.option("--category", metavar="NAME", help="Only of this category.")
@_period
@click.option("--history", is_flag=True, help="Also those that were taken off.")
@_common
def list_flags(
    *,
    sensor: str | None,
    device: str | None,
    station: str | None,
    category: str | None,
    begin: str | None,
    end: str | None,
    history: bool,
    as_json: bool,
    database: str | None,
) -> None:
    """Flags, by sensor and time."""
    from dashboard.flags import stored

    span = _span(begin, end)
    with connected(stack.database_dsn(database)) as connection:
        chosen = stored.sensors(connection, sensor=sensor, device=device, station=station)
        found = stored.listed(connection, list(chosen), span, category=category, history=history)
    if as_json:
        click.echo(json.dumps({"flags": [{k: _plain(v) for k, v in row.items()} for row in found]}))
        return
    for row in found:
        period = f"{_told(row['begin'])} to {_told(row['end'])}"
        off = f"  removed {_told(row['removed'])} by {row['removed_by']}" if row["removed"] else ""
        reason = f": {row['reason']}" if row["reason"] else ""
        line = f"{row['flag_id']:>6}  {row['sensor']:<24}  {period}  {row['category']}{reason}  [{row['author']}]{off}"
        click.echo(printable(line))
    if not found:
        click.echo("no flags", err=True)


@flags.command()
@_common
def categories(*, as_json: bool, database: str | None) -> None:
    """The categories, and which of them statistics leave out."""
    from dashboard.flags import stored

    with connected(stack.database_dsn(database)) as connection:
        found = stored.categories(connection)
    if as_json:
        click.echo(json.dumps({"categories": found}))
        return
    for row in found:
        counts = "left out" if row["excludes"] else "counted"
        click.echo(printable(f"{row['category']:<16} {row['colour']}  {counts:<8}  {row['description']}"))


@flags.command()
@click.argument("name")
@click.option("--colour", required=True, metavar="#RRGGBB", help="In plots.")
@click.option(
    "--exclude/--count", "excludes", default=True, show_default=True, help="Whether statistics leave such readings out."
)
@click.option("--description", default="", metavar="TEXT", help="For people.")
@_common
def category(*, name: str, colour: str, excludes: bool, description: str, as_json: bool, database: str | None) -> None:
    """Make a category, or change one."""
    from dashboard.flags import stored

    with connected(stack.database_dsn(database)) as connection:
        stored.make_category(connection, name, colour=colour, excludes=excludes, description=description)
    click.echo(json.dumps({"category": name}) if as_json else f"category {name}")


@flags.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--device", required=True, metavar="ID", help="Whose columns the file names.")
@click.option("--utc-offset", required=True, metavar="+HH:MM", help="Of the file's times, such as +00:00 or -05:00.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="COLUMN=CHANNEL",
    help="What a column of the file is here; may come several times.",
)
@_common
def import_log(
    *, file: Path, device: str, utc_offset: str, columns: tuple[str, ...], as_json: bool, database: str | None
) -> None:
    """Import Windographer's flag log, all of it or nothing. Importing it again adds nothing.

    Categories that are not there are made, and leave their readings out.

    \b
    telltale flags import flags.txt --device mast-7 --utc-offset +00:00 --column "Speed 80m N=Spd80"
    """
    from dashboard.flags import stored, windographer

    named = dict(_pair(each) for each in columns)
    try:
        with file.open("rb") as log:
            text = windographer.text_of(log.read(windographer.BYTES_MAX + 1), name=str(file))
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from None
    lines = windographer.lines(text, name=str(file), utc_offset=_offset(utc_offset))
    added = 0
    with connected(stack.database_dsn(database)) as connection:
        ids = {name.partition("/")[2]: number for number, name in stored.sensors(connection, device=device).items()}
        meant = {line.column: windographer.channel_of(line.column, ids, named) for line in lines}
        if strange := sorted(column for column, channel in meant.items() if channel not in ids):
            raise Refused(f'{file}: device {device} has no channel "{strange[0]}"; say --column "{strange[0]}=CHANNEL"')
        with connection.transaction():
            known = {each["category"] for each in stored.categories(connection)}
            made = sorted({line.category for line in lines} - known)
            for name in made:
                about = f"imported from {file.name}"
                stored.make_category(connection, name, colour=IMPORTED_COLOUR, excludes=True, description=about)
            for line in lines:
                number = stored.add(
                    connection,
                    ids[str(meant[line.column])],
                    stored.Span(line.begin, line.end),
                    category=line.category,
                    reason=f"{file.name}, line {line.number}",
                    author=caller(),
                )
                added += number is not None
    if as_json:
        click.echo(json.dumps({"lines": len(lines), "added": added, "categories_made": made}))
        return
    new = f"; new categories: {', '.join(made)}" if made else ""
    click.echo(f"{added} of {counted(len(lines), 'flag')} added, the rest was there{new}")


def _pair(text: str) -> tuple[str, str]:
    column, equals, channel = text.rpartition("=")
    if not (column and equals and channel):
        raise Refused(f"--column {text}: expected COLUMN=CHANNEL")
    return column, channel


def _offset(text: str) -> timedelta:
    try:
        offset = datetime.strptime(text.replace("UTC", ""), "%z").utcoffset()
    except ValueError:
        offset = None
    if offset is None:
        raise Refused(f"--utc-offset {text}: expected such as +01:00")
    return offset


def _span(begin: str | None, end: str | None) -> "Span":
    from dashboard.flags.stored import Span
    from infra.moments import moment

    return Span(moment(begin, option="--from"), moment(end, option="--to"))


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _told(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}Z" if time else "ever"
