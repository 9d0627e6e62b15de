"""`telltale readings` and `telltale alarms`: a look into the database and the live topics from the shell."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infra import stack
from schemas.errors import Unavailable

if TYPE_CHECKING:
    import psycopg

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 100


def _selecting(command: F) -> F:
    """Options that say which readings."""
    for option in (
        click.option("--database", metavar="DSN", help="The database; by default TELLTALE_DATABASE or the stack's."),
        click.option("--json", "as_json", is_flag=True, help="JSON; one object a line where there are many."),
        click.option("--quality", "flags", metavar="FLAGS", help="Such as good,suspect or 1,3."),
        click.option("--to", "end", metavar="TIME", help="Before this time."),
        click.option("--from", "begin", metavar="TIME", help="From this time on, UTC where no zone is given."),
        click.option("--station", metavar="ID", help="Devices of this station."),
        click.option("--device", metavar="ID", help="Sensors of this device."),
        click.option("--sensor", metavar="[DEVICE/]CHANNEL", help="This sensor."),
    ):
        command = option(command)
    return command


@click.group()
def readings() -> None:
    """Stored readings: count and show."""


@readings.command()
@_selecting
def count(*, database: str | None, as_json: bool, **chosen: str | None) -> None:
    """How many readings of each sensor are stored."""
    from dashboard import readings as stored

    selection = stored.selection(**chosen)
    with _connected(database) as connection:
        counts = stored.count(connection, selection)
    total = sum(counts.values())
    if as_json:
        click.echo(json.dumps({"total": total, "sensors": counts}))
        return
    width = max([len(name) for name in counts] + [len("total")])
    for name, number in counts.items():
        click.echo(f"{name:<{width}}  {number:>12,}")
    click.echo(f"{'total':<{width}}  {total:>12,}")


@readings.command()
@click.option("--limit", type=click.IntRange(min=1), help=f"So many rows; {SHOWN} unless --json.")
@_selecting
def show(*, limit: int | None, database: str | None, as_json: bool, **chosen: str | None) -> None:
    """Readings in order of time: time, sensor, logged, value, flag, tests."""
    from dashboard import readings as stored
    from schemas.quality import Flag

    selection = stored.selection(**chosen)
    bound = limit or (None if as_json else SHOWN)
    names = {flag.value: flag.name.lower() for flag in Flag}
    shown = 0
    with _connected(database) as connection:
        for row in stored.show(connection, selection, limit=bound):
            shown += 1
            if as_json:
                numbers = {name: None if math.isnan(row[name]) else row[name] for name in ("logged", "value")}
                click.echo(json.dumps(row | numbers | {"time": row["time"].isoformat()}))
                continue
            flag = names.get(row["flag"], str(row["flag"]))
            click.echo(
                f"{row['time']:%Y-%m-%d %H:%M:%S.%f}Z  {row['sensor']:<24}  {row['logged']:>14.6g}  "
                f"{row['value']:>14.6g}  {flag:<13}  {','.join(row['tests'])}".rstrip()
            )
    if not limit and shown == bound:
        click.echo(f"the first {shown}; more with --limit", err=True)


@contextmanager
def _connected(database: str | None) -> "Iterator[psycopg.Connection[Any]]":
    import psycopg

    try:
        with psycopg.connect(
            stack.database_dsn(database), autocommit=True, prepare_threshold=None, connect_timeout=10
        ) as connection:
            yield connection
    except psycopg.OperationalError as error:
        raise Unavailable(f"database: {str(error).strip().splitlines()[0]}") from None


@click.group()
def alarms() -> None:
    """Alarm events, as they come."""


@alarms.command()
@click.option("--kafka", metavar="HOST:PORT", help="The broker; by default TELLTALE_KAFKA or the stack's.")
@click.option("--from-beginning", is_flag=True, help="Begin with all that the topic still holds, in order of time.")
@click.option("--follow/--no-follow", default=True, help="Wait for more, until Ctrl-C (default), or stop at the end.")
@click.option("--json", "as_json", is_flag=True, help="One CloudEvent a line, as it stands in the topic.")
def tail(kafka: str | None, from_beginning: bool, follow: bool, as_json: bool) -> None:
    """Show alarms as they are raised and cleared."""
    from dashboard.alarms import tail as events

    for event in events(stack.kafka_address(kafka), from_beginning=from_beginning, follow=follow):
        if as_json:
            print(event.model_dump_json(), flush=True)
            continue
        alarm = event.data
        state = click.style(f"{alarm.state:<8}", fg="red" if alarm.state == "raised" else "green", bold=True)
        replayed = " (replayed)" if alarm.replayed else ""
        click.echo(
            f"{event.time:%Y-%m-%d %H:%M:%S} {state} {alarm.severity:<8} {alarm.source}: {alarm.message}{replayed}"
        )
