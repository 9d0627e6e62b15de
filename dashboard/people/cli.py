"""`telltale users`: accounts from the shell, for whoever may read the database. Passwords are set by one-time links."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from infra import stack
from infra.caller import caller
from infra.counted import counted
from infra.database import connected, first_line
from infra.options import AS_JSON, DATABASE
from infra.printable import printable
from schemas.errors import Refused, Unavailable

if TYPE_CHECKING:
    from dashboard.web.pools import Database

T = TypeVar("T")

_ROLE = click.option(
    "--role",
    type=click.Choice(["viewer", "operator", "admin"]),
    default="viewer",
    show_default=True,
    help="What the account may do.",
)


@click.group()
def users() -> None:
    """Accounts of the dashboard."""


@users.command("list")
@DATABASE
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line.")
def list_users(database: str | None, as_json: bool) -> None:
    """Accounts with role, last sign-in and open sessions."""
    from dashboard.people.accounts import USERS

    async def work(db: "Database") -> list[dict[str, Any]]:
        return await db.rows(USERS)

    found = _with(database, work)
    for row in found:
        if as_json:
            plain = {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
            click.echo(json.dumps(plain))
            continue
        state = "disabled" if row["disabled"] else counted(row["sessions"], "session")
        last = f"{row['last_login']:%Y-%m-%d %H:%M} UTC" if row["last_login"] else "never signed in"
        click.echo(printable(f"{row['name']:<24} {row['role']:<9} {state:<11} {last}"))
    if not found and not as_json:
        click.echo("nobody yet; the first administrator is made by: telltale users first-link", err=True)


@users.command()
@click.argument("name")
@_ROLE
@DATABASE
@AS_JSON
def add(name: str, role: str, database: str | None, as_json: bool) -> None:
    """Make an account. Prints the one-time link by which its owner chooses a password."""
    from dashboard.people import accounts
    from dashboard.web.access import Role

    async def work(db: "Database") -> str:
        number = await accounts.add(db, name, Role(role))
        return await accounts.link_for(db, number, created_by=_me())

    _print_link(_with(database, work), as_json=as_json, about=f"{name} chooses a password here")


@users.command()
@click.argument("name")
@DATABASE
@AS_JSON
def reset(name: str, database: str | None, as_json: bool) -> None:
    """Print a one-time link by which NAME chooses another password. Using it ends the account's sessions."""
    from dashboard.people import accounts

    async def work(db: "Database") -> str:
        return await accounts.link_for(db, await _number(db, name), created_by=_me())

    _print_link(_with(database, work), as_json=as_json, about=f"{name} chooses another password here")


@users.command("first-link")
@DATABASE
@AS_JSON
def first_link(database: str | None, as_json: bool) -> None:
    """Print a one-time link that makes the first administrator."""
    from dashboard.people import accounts

    async def work(db: "Database") -> str:
        if not await accounts.is_new(db):
            raise Refused("there is an administrator already; see: telltale users list, telltale users reset NAME")
        return await accounts.first_link(db, created_by=_me())

    _print_link(_with(database, work), as_json=as_json, about="make the first administrator here")


@users.command()
@click.argument("name")
@click.option("--enable", is_flag=True, help="Open it again.")
@DATABASE
def disable(name: str, enable: bool, database: str | None) -> None:
    """Shut an account. Nobody signs in as NAME any more; its sessions and tokens are dead at once."""
    from dashboard.people import accounts

    async def work(db: "Database") -> None:
        await accounts.change(db, await _number(db, name), disabled=not enable)

    _with(database, work)
    click.echo(f"{name} is {'enabled' if enable else 'disabled'}")


@users.command()
@click.argument("name")
@click.argument("role", type=click.Choice(["viewer", "operator", "admin"]))
@DATABASE
def role(name: str, role: str, database: str | None) -> None:
    """Make NAME a viewer, operator or admin."""
    from dashboard.people import accounts
    from dashboard.web.access import Role

    async def work(db: "Database") -> None:
        await accounts.change(db, await _number(db, name), role=Role(role))

    _with(database, work)
    click.echo(f"{name} is {role}")


async def _number(db: "Database", name: str) -> int:
    from dashboard.people.accounts import USER

    row = await db.first(USER, (name,))
    if row is None:
        raise Refused(f"there is no account {name}; see: telltale users list")
    return int(row["user_id"])


def _me() -> str:
    return f"{caller()} at the shell"


def _print_link(secret: str, *, as_json: bool, about: str) -> None:
    from dashboard.web.settings import WebSettings

    settings, recorded = WebSettings(), stack.recorded()
    # Where people come by is said before where the stack listens: that is behind a proxy then.
    here = recorded.dashboard if recorded and not settings.url else None
    link = f"{here or settings.address}/welcome#{secret}"
    click.echo(json.dumps({"link": link}) if as_json else f"{about}; the link works once:\n  {link}")


def _with(database: str | None, work: "Callable[[Database], Awaitable[T]]") -> T:
    import psycopg
    from psycopg_pool import AsyncConnectionPool, PoolTimeout

    from dashboard.web.pools import Database

    dsn = stack.database_dsn(database)
    with connected(dsn):  # the pool would try for ten seconds what can never be
        pass

    async def run() -> T:
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=1,
            open=False,
            timeout=10,
            kwargs={"autocommit": True, "prepare_threshold": None, "connect_timeout": 5},
        )
        await pool.open(wait=True, timeout=10)
        try:
            return await work(Database(pool))
        finally:
            await pool.close()

    try:
        return asyncio.run(run())
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
        raise Refused("the database lacks tables; make them with: telltale db migrate") from None
    except (PoolTimeout, psycopg.OperationalError) as error:
        raise Unavailable(f"database: {first_line(error)}") from None
