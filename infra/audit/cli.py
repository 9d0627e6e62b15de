"""`telltale audit`: who did what, at the shell and on the pages."""

import json
from typing import Any

import click

from infra.options import DATABASE
from infra.printable import printable
from schemas.errors import Unavailable

FOUND = """
SELECT time, who, way, what, subject, outcome, detail, address FROM audit_log
WHERE time >= coalesce(%(since)s::timestamptz, '-infinity')
  AND (%(who)s::text IS NULL OR who ILIKE %(who)s)
  AND (%(what)s::text IS NULL OR starts_with(what, %(what)s))
ORDER BY time DESC, audit_id DESC LIMIT %(limit)s"""


@click.group()
def audit() -> None:
    """Who did what, and what came of it."""


@audit.command("list")
@click.option("--since", metavar="TIME", help="From this time on; with a zone or Z.")
@click.option("--who", metavar="NAME", help="Of these people; a part of the name will do.")
@click.option(
    "--what", metavar="WORD", help="What was done, or the beginning of it, such as device or alarm.acknowledge."
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, metavar="N", help="So many, the newest."
)
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
def list_entries(
    *, since: str | None, who: str | None, what: str | None, limit: int, database: str | None, as_json: bool
) -> None:
    """What was done, the newest first. While the database is away: what it does not have yet, and exit code 1."""
    entries, away = _found(since, who, what, limit, database)
    for each in entries:
        if as_json:
            click.echo(json.dumps(each, default=str))
            continue
        detail = " ".join(f"{name}={value}" for name, value in each["detail"].items())
        line = (
            f"{str(each['time'])[:19]}  {each['who']:<20} {each['way']:<8} {each['what']:<20} {each['outcome']:<8} "
            f"{each['subject']}  {detail}"
        )
        click.echo(printable(line).rstrip())  # a stranger who tries to sign in calls himself as he likes
    if not entries and not as_json:
        click.echo("nothing that fits", err=True)
    if away:
        raise Unavailable(f"only what is not in the database yet is shown: {away}")


def _found(
    since: str | None, who: str | None, what: str | None, limit: int, database: str | None
) -> tuple[list[dict[str, Any]], str | None]:
    """What fits, and why that is not all."""
    from datetime import datetime

    import psycopg
    from psycopg.rows import dict_row

    from infra import stack
    from infra.audit import journal
    from infra.database import first_line, holding
    from infra.moments import zoned_moment

    begin = zoned_moment(since, option="--since") if since else None
    where = journal.place(stack.folder())
    asked = {"since": begin, "who": holding(who) if who else None, "what": what, "limit": limit}
    try:
        dsn = stack.database_dsn(database)
        journal.bring(where, dsn)
        with psycopg.connect(dsn, connect_timeout=journal.CONNECT_S, row_factory=dict_row) as connection:
            return connection.execute(FOUND, asked).fetchall(), None
    except (Unavailable, psycopg.Error) as error:
        left = [
            {name: each[name] for name in each if name != "entry"} | {"way": "shell"}
            for each in reversed(journal.left(where))
            if (not who or who.lower() in each["who"].lower())
            and each["what"].startswith(what or "")
            and (begin is None or datetime.fromisoformat(each["time"]) >= begin)
        ]
        return left[:limit], first_line(error)
