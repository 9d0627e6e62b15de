"""`telltale imports run|backfill|forget`: what is given on the command line; what is done is made elsewhere."""

import signal
import threading
from pathlib import Path

import click

from infra.options import DATABASE, KAFKA
from schemas.errors import Refused

STUCK_S = 900.0
"""A loop that has not turned for so long hangs. One turn reads a large file to its end, which takes minutes."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@KAFKA
def run(*, kafka: str | None) -> None:
    """Follow files until they are stored, take uploads, raise alarms, until SIGTERM or Ctrl-C.

    `telltale up` runs this. Settings are environment variables TELLTALE_IMPORT_...; producers/README.md lists them.
    """
    from infra import events
    from infra.stack import kafka_address
    from infra.telemetry import probing
    from infra.telemetry.health import Health
    from infra.telemetry.serving import serving
    from producers.imports.settings import ImportSettings
    from producers.imports.upkeep.keeping import keep

    events.configure(service="imports")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    address, health = kafka_address(kafka), Health("imports", stuck_s=STUCK_S)
    with serving(health, probes={"broker": probing.broker(address)}):
        keep(address, ImportSettings(), stop, health=health)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1, required=True, metavar="HASH...")
@KAFKA
def forget(*, files: tuple[str, ...], kafka: str | None) -> None:
    """Take files off the list, and their alarms with them. What is stored of them stays, and their raw files do.

    HASH is the beginning of a file's hash (`telltale imports list`).
    """
    from infra.stack import kafka_address
    from producers.imports.statuses import Statuses, read_statuses

    address = kafka_address(kafka)
    statuses = Statuses(address, known=read_statuses(address))
    chosen = []
    for beginning in files:
        fitting = [key for key in statuses.known if key.startswith(beginning)]
        if len(fitting) != 1:
            raise Refused(f"{len(fitting)} files have a hash that begins with {beginning!r}; `telltale imports list`")
        chosen += fitting
    for key in dict.fromkeys(chosen):
        name = statuses.known[key].name
        statuses.forget(key)
        click.echo(f"forgot {key[:12]} ({name})")
    if statuses.flush(10.0):
        raise Refused("the broker has not taken all of it; try again")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--device", metavar="ID", help="Only this device.")
@click.option("--station", metavar="ID", help="Only devices of this station.")
@click.option("--from", "begin", metavar="TIME", help="From this time on, UTC where no zone is given.")
@click.option("--to", "end", metavar="TIME", help="Before this time.")
@click.option(
    "--also",
    "sources",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Look here too, beside the archive and where files were found; may come several times.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be read again; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: what was found and done, as one JSON object.")
@DATABASE
@KAFKA
def backfill(
    *,
    device: str | None,
    station: str | None,
    begin: str | None,
    end: str | None,
    sources: tuple[Path, ...],
    dry_run: bool,
    as_json: bool,
    database: str | None,
    kafka: str | None,
) -> None:
    """Read files again for what the database lacks, and nothing else.

    Files are those in the archive and where they were found; `telltale imports gaps` shows what is missing.

    Edges on this machine that keep readings of that time send them again; for others the command to be run there is
    shown: nothing leads from here to an edge.
    """
    from infra.stack import kafka_address
    from producers.imports.upkeep.backfill import Wanted, backfill_gaps, print_report

    wanted = Wanted(device=device, station=station, begin=begin, end=end, database=database, sources=sources)
    report = backfill_gaps(kafka_address(kafka), wanted, dry_run=dry_run)
    print_report(report, as_json=as_json, dry_run=dry_run)
