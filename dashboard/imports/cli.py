"""`telltale imports`: what became of files, and what is missing. Prints what the modules beside it find."""

import json
from datetime import datetime
from typing import Any

import click

from infra import stack
from infra.counted import counted
from infra.database import connected
from infra.options import AS_JSON, DATABASE, Bounded
from infra.printable import printable

SHOWN = 50
GAPS_SHOWN = 200

_STATES = ("found", "needs an answer", "unknown", "parsing", "sending", "sent", "stored", "refused")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def imports() -> None:
    """Imported files: what became of each, and what is missing."""


@imports.command("list")
@click.option("--device", metavar="ID", help="Only files of this device.")
@click.option("--station", metavar="ID", help="Only files of this station's devices.")
@click.option("--state", type=click.Choice(_STATES), help="Only files in this state.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help=f"So many, the newest; {SHOWN} unless --json.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
@DATABASE
def list_imports(
    *,
    device: str | None,
    station: str | None,
    state: str | None,
    limit: int | None,
    as_json: bool,
    database: str | None,
) -> None:
    """Files, the newest first: hash, when, state, rows, device, name."""
    from dashboard.imports.files import list_files

    bound = limit or (None if as_json else SHOWN)
    shown = 0
    with connected(stack.database_dsn(database)) as connection:
        for file in list_files(connection, device=device, station=station, state=state, limit=bound):
            shown += 1
            click.echo(json.dumps(_plain(file), ensure_ascii=False) if as_json else _line(file))
    if not shown and not as_json:
        click.echo("no file" + (" that fits" if device or station or state else " was imported yet"), err=True)
    if not limit and shown == bound:
        click.echo(f"the newest {shown}; more with --limit", err=True)


def _line(file: dict[str, Any]) -> str:
    state = file["state"] if file["state"] not in ("sending", "sent") else f"sent {file['sent']:,} of {file['rows']:,}"
    rows = counted(file["rows"], "row") if file["rows"] else ""
    line = (
        f"{file['sha256'][:12]}  {file['time']:%Y-%m-%d %H:%M:%S}  {state:<16} {rows:>14}  "
        f"{file['device_id'] or '-':<20} {file['name']}"
    )
    return printable(line + (f"  ({file['reason']})" if file["reason"] else ""))


@imports.command()
@click.argument("file", metavar="HASH|NAME")
@AS_JSON
@DATABASE
def show(*, file: str, as_json: bool, database: str | None) -> None:
    """Everything about one file, and what the database has of it."""
    from dashboard.imports.files import find, readings_stored

    with connected(stack.database_dsn(database)) as connection:
        found = find(connection, file)
        in_database = readings_stored(connection, found)
    if as_json:
        click.echo(json.dumps(_plain(found) | {"readings_in_database": in_database}, ensure_ascii=False, indent=2))
        return
    for name, value in _plain(found).items():
        if value not in (None, "", [], 0):
            told = ", ".join(value) if isinstance(value, list) else str(value)
            click.echo(f"{name.replace('_', ' '):<14} {printable(told)}")
    if in_database is not None:
        click.echo(f"{'in database':<14} {counted(in_database, 'reading')} of its channels in its time")


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}


@imports.command()
@click.option("--device", metavar="ID", help="Only this device.")
@click.option("--station", metavar="ID", help="Only devices of this station.")
@click.option("--from", "begin", metavar="TIME", help="From this time on, UTC where no zone is given.")
@click.option("--to", "end", metavar="TIME", help="Before this time.")
@click.option("--min", "min_s", type=Bounded(min=0), default=0.0, metavar="SECONDS", help="Leave shorter gaps out.")
@click.option("--calendar/--no-calendar", default=True, show_default=True, help="A picture, a line for each month.")
@click.option(
    "--json", "as_json", is_flag=True, help="For scripts: gaps and the share of each day, as one JSON object."
)
@DATABASE
def gaps(
    *,
    device: str | None,
    station: str | None,
    begin: str | None,
    end: str | None,
    min_s: float,
    calendar: bool,
    as_json: bool,
    database: str | None,
) -> None:
    """What is missing, by each device's interval, and a calendar.

    Of each gap from when to when, rows and channels.
    """
    from dashboard.imports.gaps import LEGEND, Period, check_known, completeness
    from dashboard.imports.gaps import calendar as drawn
    from dashboard.imports.gaps import gaps as find_gaps
    from infra.moments import moment

    period = Period(device, station, moment(begin, option="--from"), moment(end, option="--to"), min_s)
    with connected(stack.database_dsn(database)) as connection:
        check_known(connection, period)
        found = find_gaps(connection, period)
        days = completeness(connection, period) if calendar or as_json else {}
    if as_json:
        by_day = {one: {day.isoformat(): round(share, 4) for day, share in of.items()} for one, of in days.items()}
        click.echo(json.dumps({"gaps": [each.told() for each in found], "days": by_day}, ensure_ascii=False))
        return
    for device_id, of in days.items():
        click.echo(f"{device_id}, share of expected readings that are there, by day (UTC)")
        for line in drawn(of):
            click.echo(line)
        click.echo(f"{LEGEND}\n")
    counts: dict[str, int] = {}
    for each in found:
        counts[each.device_id] = counts.get(each.device_id, 0) + 1
        if counts[each.device_id] > GAPS_SHOWN:
            continue
        until = "now             " if each.is_open else f"{each.ends:%Y-%m-%d %H:%M}"
        channels = counted(len(each.channels), "channel") if len(each.channels) > 3 else ", ".join(each.channels)
        span = f"{each.begins:%Y-%m-%d %H:%M} to {until}"
        click.echo(printable(f"{each.device_id:<20} {span}  {each.missing:>9,} rows missing  {channels}"))
    for device_id, count in counts.items():
        if count > GAPS_SHOWN:
            click.echo(f"{device_id}: {count - GAPS_SHOWN:,} more gaps (--json has them, --min leaves short ones out)")
    if not found:
        click.echo("no gap" if days or not calendar else "no device with an interval and readings", err=True)
