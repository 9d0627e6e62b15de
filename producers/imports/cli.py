"""`telltale import`: what is given on the command line; what is done is made elsewhere."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.caller import caller
from infra.options import KAFKA, Bounded
from producers.imports.unpacking import NeedsPassword
from producers.options import TIMEOUT, F, of_files
from schemas.errors import Refused

if TYPE_CHECKING:
    from producers.files.described import Description
    from producers.files.logger_file import Stamping

PACKED = ("gzip", "xz", "bzip2")


class ImportOrWatch(click.Command):
    """`telltale import watch ...` is another command than `telltale import FILE...`; a file of that name is ./watch."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["watch"]:
            return watch.make_context("import watch", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def _asking(command: F) -> F:
    """Options that say what files do not say of themselves."""
    for option in (
        KAFKA,
        click.option(
            "--password",
            metavar="WORD",
            envvar="TELLTALE_IMPORT_PASSWORD",
            help="Of locked zip archives; by default TELLTALE_IMPORT_PASSWORD.",
        ),
        of_files,
        click.option("--device", "device_id", metavar="ID", help="Whose readings the files hold."),
    ):
        command = option(command)
    return command


@click.command(name="import", cls=ImportOrWatch, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE|FOLDER...")
@_asking
@click.option("--dry-run", is_flag=True, help="Read and tell what is in the files; send nothing, need nothing.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line, for each file.")
@click.option("--again", is_flag=True, help="Also files that were imported before.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 64),
    metavar="N",
    help="Processes that read files; by default one a core, 4 at most.",
)
@click.option("--by", metavar="NAME", help="Who brings them; by default the user.")
@TIMEOUT
@click.option(
    "--wait",
    "stored_s",
    type=Bounded(min=0),
    metavar="SECONDS",
    help="For the database to have all of it; by default 60.",
)
def import_(
    *,
    paths: tuple[Path, ...],
    device_id: str | None,
    description: Path | None,
    utc_offset: str | None,
    stamp: str | None,
    interval_s: float | None,
    date_order: str | None,
    password: str | None,
    kafka: str | None,
    dry_run: bool,
    as_json: bool,
    again: bool,
    jobs: int | None,
    by: str | None,
    timeout_s: float,
    stored_s: float | None,
) -> None:
    """Import logger files of any known format, also compressed and in zip archives.

    The device is known by the logger's serial number. What was imported before is recognised by its content. With
    `watch` instead of files, folders are followed: telltale import watch --help.

    \b
    telltale import mast.dat --dry-run
    telltale import cards/2024 archive.zip
    telltale import export.csv --device mast-8 --description export.toml
    """
    from producers.files.described import read_description

    told = _stamping(utc_offset, stamp, interval_s, date_order)
    described = None if description is None else read_description(description)
    if dry_run:
        _tell(paths, described, told, password, as_json=as_json)
        return
    from infra.stack import kafka_address
    from producers.imports.run import Run, import_files
    from producers.imports.settings import ImportSettings

    settings = ImportSettings()
    run = Run(
        kafka_address(kafka),
        settings,
        device_id=device_id,
        told=told,
        description=described,
        password=password,
        uploaded_by=by or caller(),
        again=again,
        jobs=jobs or settings.jobs,
        timeout_s=timeout_s,
        stored_s=settings.stored_s if stored_s is None else stored_s,
    )
    import_files(run, paths, as_json=as_json)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER..."
)
@_asking
@click.option("--pattern", default="*", show_default=True, metavar="GLOB", help="Of the names of files.")
@click.option(
    "--every",
    "every_s",
    type=Bounded(min=0.05),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Look once, wait until all is sent, and end.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object a line, for each status.")
def watch(
    *,
    folders: tuple[Path, ...],
    device_id: str | None,
    description: Path | None,
    utc_offset: str | None,
    stamp: str | None,
    interval_s: float | None,
    date_order: str | None,
    password: str | None,
    kafka: str | None,
    pattern: str,
    every_s: float,
    once: bool,
    as_json: bool,
) -> None:
    """Follow FOLDERs as LoggerNet and the like write them, until Ctrl-C.

    Files that grow are read on from where they were, also after they were renamed, rotated, sent anew or rewritten;
    other files are imported when they have not changed between two looks.
    """
    from infra.stack import kafka_address
    from producers.files.described import read_description
    from producers.imports.settings import ImportSettings
    from producers.imports.watching import Watch, watch_folders

    watched = Watch(
        kafka_address(kafka),
        ImportSettings(),
        folders=folders,
        pattern=pattern,
        every_s=every_s,
        once=once,
        device_id=device_id,
        told=_stamping(utc_offset, stamp, interval_s, date_order),
        description=None if description is None else read_description(description),
        password=password,
        uploaded_by=caller(),
    )
    watch_folders(watched, as_json=as_json)


def _stamping(
    utc_offset: str | None, stamp: str | None, interval_s: float | None, date_order: str | None
) -> "Stamping":
    from producers.files.logger_file import Stamping
    from producers.files.stamps import offset_minutes

    return Stamping(None if utc_offset is None else offset_minutes(utc_offset), stamp, interval_s, date_order)


def _tell(
    paths: tuple[Path, ...],
    described: "Description | None",
    told: "Stamping",
    password: str | None,
    *,
    as_json: bool,
) -> None:
    """Each file as soon as it is read. Raises `Refused` with the first reason at the end."""
    from producers.files.inspection import Inspection, inspect, summary_lines
    from producers.imports.archive import Archive
    from producers.imports.finding import found_in
    from producers.imports.unpacking import first_bytes, packing

    refused: list[str] = []
    with tempfile.TemporaryDirectory(prefix="telltale-dry-run-") as folder:
        for one, why_not in found_in(paths):
            name = str(one.path) if one.member is None else f"{one.path}!{one.member}"
            found = Inspection(name, refused=why_not)
            try:
                if why_not is None and (one.member is not None or packing(first_bytes(one.path)) in PACKED):
                    kept = Archive(Path(folder)).keep(one, password=password)
                    found = inspect(kept, name=name, description=described, told=told)
                    kept.path.unlink()
                elif why_not is None:
                    found = inspect(one.path, name=name, description=described, told=told)
            except NeedsPassword as error:
                found.questions.append(str(error))
            except Refused as error:
                found.refused = str(error)
            if found.refused is not None:
                refused.append(found.refused)
            if as_json:
                click.echo(json.dumps(found.record(), ensure_ascii=False))
            else:
                click.echo("\n".join(summary_lines(found)))
    if refused:
        raise Refused(refused[0] + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""))
