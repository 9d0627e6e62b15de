"""`telltale edge spool`: what waits, and how to get it out. Prints; what it prints is made elsewhere."""

import sys
import time
from pathlib import Path

import click

from infra.counted import counted
from schemas.errors import Refused, Unavailable

spool_option = click.option(
    "--spool",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The spool's folder; by default TELLTALE_DIR/edge/DEVICE.",
)


def _folder(named: Path | None, device_id: str | None) -> Path | None:
    from producers.settings import EdgeSettings, default_spool

    return named or EdgeSettings().spool or (default_spool(device_id) if device_id else None)


@click.group(invoke_without_command=True)
@click.option("--device", "device_id", metavar="ID", help="Only this device's spool.")
@spool_option
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON list.")
@click.pass_context
def spool(context: click.Context, *, device_id: str | None, spool: Path | None, as_json: bool) -> None:
    """What waits in this machine's spools, and how to get it out."""
    from infra.stack import folder
    from producers.report import spools_json, spools_table
    from producers.spool.look import look, spools

    if context.invoked_subcommand:
        return
    named = _folder(spool, device_id)
    found = [named] if named else spools(folder() / "edge")
    if not found:
        raise Refused(f"no spool below {folder() / 'edge'}; name one with --spool DIR")
    looks = [each for place in found for each in look(place)]
    if as_json:
        click.echo(spools_json(looks))
    else:
        spools_table(looks, now_s=time.time(), width=None if sys.stdout.isatty() else 160)


@spool.command()
@click.option(
    "--from", "from_", required=True, metavar="TIME", help="From this time on, ISO 8601 with a zone: 2024-05-01T12:00Z."
)
@click.option("--to", required=True, metavar="TIME", help="Before this time.")
@click.option("--device", "device_id", metavar="ID", help="Only this device's readings.")
@spool_option
def resend(*, from_: str, to: str, device_id: str | None, spool: Path | None) -> None:
    """Send kept readings of a time again.

    Kept is what was acknowledged and still lies there, by the settings keep_s and keep_bytes.

    They go under their old identity, so that whoever has them already does not take them twice. Whole frames go, by
    the edge that runs on the spool, or the next one that does.
    """
    from producers.spool.kept import ask

    from_us, to_us = _moment_us(from_, "--from"), _moment_us(to, "--to")
    if to_us <= from_us:
        raise Refused(f"--to {to} is not after --from {from_}")
    place = _one(spool, device_id)
    made = ask(place, from_us=from_us, to_us=to_us, device_id=device_id)
    click.echo(
        f"{counted(made.readings, 'reading')} in {counted(made.frames, 'frame')} go again, "
        f"by the edge that runs on {place} or the next one that does"
    )


def _moment_us(text: str, option: str) -> int:
    from infra.moments import zoned_moment
    from producers.edge import time_us

    return time_us(zoned_moment(text, option=option))


def _one(named: Path | None, device_id: str | None) -> Path:
    """The spool that is meant. Raises `Refused` where that is not clear."""
    from infra.stack import folder
    from producers.spool.look import spools

    place = _folder(named, device_id)
    if place is not None:
        return place
    found = spools(folder() / "edge")
    if len(found) != 1:
        known = ", ".join(each.name for each in found) or "none"
        raise Refused(f"which spool? There are: {known}; name one with --device ID or --spool FOLDER")
    return found[0]


@spool.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--device", "device_id", metavar="ID", help="Whose spool.")
@spool_option
def export(*, file: Path, device_id: str | None, spool: Path | None) -> None:
    """Rescue what waits into FILE, as JSON lines.

    FILE may be -, for standard output.

    Works while the edge runs, and on a spool that was set aside as damaged (--spool .../damaged-TIME). The lines can be
    sent by another edge: its source of kind "stdin" reads them.
    """
    from producers.spool.export import export as write

    place = _one(spool, device_id)
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
    lost += f"; {counted(done.dateless, 'row')} of no date that there is are not in it" if done.dateless else ""
    lost += "; some could not be read for damage" if done.cut_short else ""
    click.echo(f"{counted(done.readings, 'reading')} in {counted(done.rows, 'row')} of {place}{lost}", err=True)
