"""Options of commands that read logger files, said once: what files do not say of themselves, and how long to wait."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from infra.options import Bounded

F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT = click.option(
    "--timeout",
    "timeout_s",
    type=Bounded(min=0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up when the broker has acknowledged nothing for so long; what is left stays in the spool.",
)


def of_files(command: F) -> F:
    """`description`, `utc_offset`, `stamp`, `interval_s`, `date_order`."""
    for option in (
        click.option(
            "--date-order",
            type=click.Choice(["dmy", "mdy", "ymd"]),
            help="Of day, month, year, if a file may mean either.",
        ),
        click.option(
            "--interval",
            "interval_s",
            type=Bounded(min=0, min_open=True),
            metavar="SECONDS",
            help="Between two rows.",
        ),
        click.option("--stamp", type=click.Choice(["begin", "end"]), help="What a stamp marks of its interval."),
        click.option("--utc-offset", metavar="+HH:MM", help="The logger's clock against UTC."),
        click.option(
            "--description",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="TOML that describes the files' columns.",
        ),
    ):
        command = option(command)
    return command
