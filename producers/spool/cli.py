"""`telltale edge spool`: what waits, and how to get it out. Prints; what it prints is made elsewhere."""

import sys
import time
from pathlib import Path

import click

from schemas.errors import Refused, Unavailable

spool_option = click.option(
    "--spool", type=click.Path(path_type=Path, file_okay=False), help="The spool's folder. [TELLTALE_DIR/edge/DEVICE]"
)


def _folder(named: Path | None, device_id: str | None) -> Path | None:
    from producers.settings import EdgeSettings, default_spool

    return named or EdgeSettings().spool or (default_spool(device_id) if device_id else None)


@click.group(invoke_without_command=True)
@click.option("--device", "device_id", metavar="ID", help="Only this device's spool.")
@spool_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def spool(context: click.Context, *, device_id: str | None, spool: Path | None, as_json: bool) -> None:
    """What waits in the spools of this machine, and what became of the rest."""
    from infra.stack import folder
    from producers.report import spools_json, spools_table
    from producers.spool.look import look, spools

    if context.invoked_subcommand:
        return
    named = _folder(spool, device_id)
    found = [named] if named else spools(folder() / "edge")
    if not found:
        raise Refused(f"no spool below {folder() / 'edge'}; name one with --spool FOLDER")
    looks = [each for place in found for each in look(place)]
    if as_json:
        click.echo(spools_json(looks))
    else:
        spools_table(looks, now_s=time.time(), width=None if sys.stdout.isatty() else 160)


@spool.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--device", "device_id", metavar="ID", help="Whose spool.")
@spool_option
def export(*, file: Path, device_id: str | None, spool: Path | None) -> None:
    """Rescue what waits into FILE (- for standard output), as JSON lines.

    Works while the edge runs, and on a spool that was set aside as damaged (--spool .../damaged-TIME). The lines can be
    sent by another edge: its source of kind "stdin" reads them.
    """
    from infra.stack import folder
    from producers.spool.export import export as write
    from producers.spool.look import spools

    place = _folder(spool, device_id)
    if place is None:
        found = spools(folder() / "edge")
        if len(found) != 1:
            known = ", ".join(each.name for each in found) or "none"
            raise Refused(f"which spool? There are: {known}; name one with --device ID or --spool FOLDER")
        place = found[0]
    if str(file) == "-":
        done = write(place, sys.stdout.buffer)
    else:
        coming = file.with_name(f"{file.name}.coming")
        try:
            with coming.open("wb") as into:
                done = write(place, into)
            coming.replace(file)
        except OSError as error:
            raise Unavailable(f"{file}: {error.strerror}") from None
    lost = f"; {done.damaged} damaged groups are not in it" if done.damaged else ""
    lost += "; some could not be read for damage" if done.cut_short else ""
    click.echo(f"{done.readings:,} readings in {done.rows:,} rows of {place}{lost}", err=True)
