"""`telltale import`: what is given on the command line; what is done is made elsewhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from schemas.errors import Refused

if TYPE_CHECKING:
    from producers.files.logger_file import Stamping


@click.command(name="import", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|FOLDER...")
@click.option("--device", "device_id", metavar="ID", help="Whose readings the files hold.")
@click.option("--description", type=click.Path(path_type=Path), help="TOML that describes the files' columns.")
@click.option("--utc-offset", metavar="+HH:MM", help="The logger's clock against UTC.")
@click.option("--stamp", type=click.Choice(["begin", "end"]), help="What a stamp marks of its interval.")
@click.option(
    "--interval", "interval_s", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS", help="Between two rows."
)
@click.option(
    "--date-order", type=click.Choice(["dmy", "mdy", "ymd"]), help="Of day, month, year, if a file may mean either."
)
@click.option("--dry-run", is_flag=True, help="Read and tell what is in the files; send nothing, need nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each file, one in a line.")
def import_(
    *,
    paths: tuple[Path, ...],
    device_id: str | None,
    description: Path | None,
    utc_offset: str | None,
    stamp: str | None,
    interval_s: float | None,
    date_order: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import logger files of any known format."""
    from producers.files.logger_file import Stamping
    from producers.files.stamps import offset_minutes

    offset = None if utc_offset is None else offset_minutes(utc_offset)
    told = Stamping(offset, stamp, interval_s, date_order)
    if dry_run:
        _tell(paths, description, told, as_json=as_json)
        return
    raise Refused("telltale import sends nothing yet: use --dry-run, or telltale edge send")


def _tell(paths: tuple[Path, ...], description: Path | None, told: "Stamping", *, as_json: bool) -> None:
    """Each file as soon as it is read. Raises `Refused` with the first reason at the end."""
    from producers.files.described import read_description
    from producers.files.inspection import inspect, summary_lines

    described = None if description is None else read_description(description)
    refused: list[str] = []
    for path in files_in(paths):
        found = inspect(path, description=described, told=told)
        if found.refused is not None:
            refused.append(found.refused)
        if as_json:
            click.echo(json.dumps(found.record(), ensure_ascii=False))
        else:
            click.echo("\n".join(summary_lines(found)))
    if refused:
        raise Refused(refused[0] + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""))


def files_in(paths: tuple[Path, ...]) -> Iterator[Path]:
    """The files, those of folders in the order of their names. Hidden ones are left out."""
    for path in paths:
        if path.is_dir():
            yield from sorted(
                each
                for each in path.rglob("*")
                if each.is_file() and not any(part.startswith(".") for part in each.relative_to(path).parts)
            )
        else:
            yield path
