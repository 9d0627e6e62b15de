"""`telltale dashboard` and `telltale token`. The composition root of the web service."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from infra import events, stack
from infra.caller import caller
from infra.database import connected
from infra.options import AS_JSON, DATABASE, KAFKA
from infra.printable import printable
from schemas.errors import Refused

if TYPE_CHECKING:
    from datetime import datetime

    import psycopg

SCOPES = ("read", "export", "flag", "alarm", "import", "admin")
DAYS_MAX = 3660


@click.group()
def dashboard() -> None:
    """Pages and REST API in one service."""


@dashboard.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen; by default TELLTALE_DASHBOARD_HOST or 127.0.0.1.")
@click.option(
    "--port", type=click.IntRange(1, 65_535), metavar="PORT", help="By default TELLTALE_DASHBOARD_PORT or 8080."
)
@KAFKA
@DATABASE
def run(host: str | None, port: int | None, kafka: str | None, database: str | None) -> None:
    """Serve pages and API, until SIGTERM or Ctrl-C."""
    from dashboard.web.app import create_app
    from dashboard.web.health import also_apart
    from dashboard.web.running import serve
    from dashboard.web.settings import WebSettings

    said = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = WebSettings().model_copy(update=said)
    dsn, address = stack.database_dsn(database), stack.kafka_address(kafka)
    events.configure(service="dashboard")
    app = create_app(settings, database=dsn, kafka=address)
    with also_apart(app):
        serve(app, host=settings.host, port=settings.port)


@dashboard.command()
def openapi() -> None:
    """Print the API's OpenAPI 3.1 document; no service need run."""
    from dashboard.web.app import create_app, document
    from dashboard.web.settings import WebSettings

    app = create_app(WebSettings(), database="", kafka=None)
    click.echo(json.dumps(document(app), indent=2))


@click.group()
def token() -> None:
    """Tokens for scripts and notebooks: make one, list them, revoke one."""


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="What it may do, by default read; may come several times.",
)
@click.option(
    "--days", type=click.IntRange(1, DAYS_MAX), default=90, show_default=True, metavar="DAYS", help="How long it works."
)
@click.option("--owner", metavar="USER", help="Beyond whose role it never goes; it dies with the user.")
@DATABASE
@AS_JSON
def create(
    *, name: str, scopes: tuple[str, ...], days: int, owner: str | None, database: str | None, as_json: bool
) -> None:
    """Make a token. It is shown once: keep it where secrets are kept.

    \b
    telltale token create "my notebook"
    telltale token create "night export" --scope read --scope export --days 365
    """
    from datetime import UTC, datetime, timedelta

    from dashboard.web import tokens
    from dashboard.web.access import Scope

    expires = datetime.now(UTC) + timedelta(days=days)
    if not name.strip() or len(name) > 100:
        raise Refused("NAME: expected 1 to 100 characters that say what the token is for")
    with _connected(database) as connection:
        made = tokens.create(
            connection,
            name=name.strip(),
            scopes=[Scope(each) for each in dict.fromkeys(scopes)] or [Scope.READ],
            expires=expires,
            who=_who(),
            owner=owner,
        )
    if as_json:
        click.echo(json.dumps({"token": made, "expires": expires.isoformat()}))
        return
    click.echo(made)
    click.echo(f"works until {expires:%Y-%m-%d}; it is not shown again", err=True)


@token.command("list")
@click.option("--all", "also_dead", is_flag=True, help="Also those that were revoked or have expired.")
@DATABASE
@AS_JSON
def list_tokens(also_dead: bool, database: str | None, as_json: bool) -> None:
    """Tokens by number: whose, what for, until when, last used."""
    from dashboard.web import tokens

    with _connected(database) as connection:
        found = tokens.listed(connection, also_dead=also_dead)
    if as_json:
        click.echo(json.dumps({"tokens": found}, default=str))
        return
    for each in found:
        used = _day(each["last_used"]) if each["last_used"] else "never"
        line = (
            f"{each['token_id']:>4}  {each['prefix']}...  {each['state']:<14}  until {_day(each['expires'])}  "
            f"used {used:<10}  {','.join(each['scopes'])}  {each['owner'] or each['created_by']}  {each['name']}"
        )
        click.echo(printable(line))
    if not found:
        click.echo("no tokens; make one with: telltale token create NAME", err=True)


@token.command()
@click.argument("which", metavar="NUMBER|PREFIX|TOKEN")
@DATABASE
def revoke(which: str, database: str | None) -> None:
    """End a token at once."""
    from dashboard.web import tokens

    with _connected(database) as connection:
        click.echo(f"revoked {tokens.revoke(connection, which, who=_who())}...")


def _day(time: "datetime") -> str:
    return f"{time:%Y-%m-%d}"


def _who() -> str:
    import socket

    return f"{caller()}@{socket.gethostname()}"


@contextmanager
def _connected(database: str | None) -> Iterator["psycopg.Connection[Any]"]:
    import psycopg

    try:
        with connected(stack.database_dsn(database)) as connection:
            yield connection
    except psycopg.errors.UndefinedTable:
        raise Refused("the database has no tables for tokens yet; make them with: telltale db migrate") from None
