"""`telltale edge`: send logger files, look into spools, run sources, simulate. Prints what is made elsewhere."""

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.counted import counted
from infra.options import KAFKA
from producers.options import TIMEOUT, of_files
from producers.simulator.cli import simulate
from producers.sources.cli import run
from producers.spool.cli import spool, spool_option
from schemas.errors import Refused, Unavailable

if TYPE_CHECKING:
    from producers.sending import Sending
    from producers.settings import EdgeSettings
    from schemas.devices import Device

ANSWER_S_MAX = 1.0  # after which a broker that says nothing is told, so that nobody looks at a still screen


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def edge() -> None:
    """Send readings from the edge: run sources, send files, simulate, look into spools."""


@edge.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--device", "device_id", required=True, metavar="ID", help="Whose readings the files hold.")
@of_files
@click.option("--again", is_flag=True, help="Send files once more that were sent before.")
@TIMEOUT
@spool_option
@KAFKA
@click.option("--json", "as_json", is_flag=True, help="For scripts: the summary as one JSON object.")
def send(
    *,
    files: tuple[Path, ...],
    device_id: str,
    description: Path | None,
    utc_offset: str | None,
    stamp: str | None,
    interval_s: float | None,
    date_order: str | None,
    again: bool,
    timeout_s: float,
    spool: Path | None,
    kafka: str | None,
    as_json: bool,
) -> None:
    """Send logger files of one device.

    Each row goes once, however often this is stopped and called again.

    \b
    telltale edge send mast-2024-*.dat --device mast-7
    telltale edge send export.csv --device mast-8 --description export.toml
    """
    from infra.stack import kafka_address
    from infra.telemetry.tracing import start as start_tracing
    from infra.version import our_version
    from producers.edge import Edge
    from producers.files.described import read_description
    from producers.files.stamps import offset_minutes
    from producers.report import progress, summary, summary_json
    from producers.sending import Asked, Sending, told_stamping
    from producers.settings import EdgeSettings
    from producers.stopping import sigterm_is_ctrl_c

    told = told_stamping(None if utc_offset is None else offset_minutes(utc_offset), stamp, interval_s, date_order)
    described = None if description is None else read_description(description)
    for path in files:
        if not path.is_file():
            raise Refused(f"no such file: {path}" if not path.exists() else f"{path} is not a file")
    started = time.monotonic()
    settings = EdgeSettings()
    address = kafka_address(kafka or settings.kafka)
    # Rows of a file are many at once: nothing is gained by waiting for more.
    update = {"device_id": device_id, "spool": spool or settings.spool, "linger_s": 0.01}
    settings = settings.model_copy(update=update)
    device = _device(address, device_id, settings, timeout_s)
    one = Edge(settings, address=address, tracing=start_tracing("edge", version=our_version(), log=_Quiet()))
    finished = False
    try:
        asked = Asked(device_id, told, described, again=again, timeout_s=timeout_s)
        with sigterm_is_ctrl_c(), progress(one) as told_of:
            sending = Sending(one, asked, device=device, told=told_of)
            for path in files:
                sending.send(path)
            finished = sending.drain()
        report = summary(sending, one, seconds=time.monotonic() - started)
        stuck = None if finished else sending.why_stuck()
    except KeyboardInterrupt:
        waiting = one.counts(device_id)
        raise Unavailable(
            _goes_on(f"stopped: {counted(waiting.groups, 'group')} of readings wait in {one.spool.folder}")
        ) from None
    finally:
        one.close(drain_s=min(timeout_s, 5.0) if finished else 0.0)
    if as_json:
        click.echo(summary_json(report))
    else:
        report.print()
    _exit(sending, stuck, report.waiting, one.spool.folder)


class _Quiet:
    """A command that prints a summary has no log: only what is wrong is said."""

    def info(self, event: str, **fields: object) -> None:
        """Nobody asked."""

    def warning(self, event: str, **fields: object) -> None:
        click.echo(f"{event}: {fields.get('detail', '')}", err=True)


def _exit(sending: "Sending", stuck: str | None, waiting: int, folder: Path) -> None:
    refused = [report for report in sending.reports if report.state == "refused"]
    if stuck is not None:
        raise Unavailable(_goes_on(f"{stuck}; {waiting} readings are safe in {folder} and wait"))
    if refused:
        first = refused[0]
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise Refused(f"{first.reason}{more}")


def _goes_on(what: str) -> str:
    return f"{what}; run the same command again to go on where it ended"


def _device(address: str, device_id: str, settings: "EdgeSettings", timeout_s: float) -> "Device | None":
    """The device's configuration; as it was known when the broker does not answer, and None where it never was.

    Says within `ANSWER_S_MAX` that the broker does not answer. Raises `Refused` for a device that is not there.
    """
    from infra.whole_topic import ANSWER_S
    from producers.delivery.reachable import reachable
    from producers.sources.configured import recall, remember
    from producers.stations.devices import read_devices

    def waits(why: str) -> None:
        click.echo(f"{why}; what is read waits in the spool, tries go on for {timeout_s:g} s", err=True)

    folder = settings.spool_folder(device_id)
    late = threading.Timer(ANSWER_S_MAX, waits, [f"kafka at {address} has not answered yet"])
    late.daemon = True
    late.start()
    try:
        if not reachable(address, within_s=ANSWER_S_MAX):
            raise Unavailable(f"kafka at {address} does not answer")
        devices = read_devices(address, security=settings.security(), answer_s=min(ANSWER_S, timeout_s))
    except Unavailable as error:
        known = recall(folder, device_id)
        late.cancel()
        waits(str(error) if known else f"{error}; columns are not checked")
        return known
    finally:
        late.cancel()
    if device_id not in devices:
        names = ", ".join(sorted(devices)[:10]) or "none"
        raise Refused(
            f"device {device_id} is not configured (configured: {names}); "
            "configure it with: telltale stations import FILE"
        )
    remember(folder, device_id, devices[device_id])
    return devices[device_id]


edge.add_command(run)
edge.add_command(spool)
edge.add_command(simulate)


@edge.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--description", type=click.Path(path_type=Path), metavar="FILE", help="TOML that describes the file's columns."
)
@click.option("--csv", "as_csv", is_flag=True, help="Rows as CSV: time as the file has it, then its columns.")
def show(file: Path, *, description: Path | None, as_csv: bool) -> None:
    """Show what is in a logger file; send nothing."""
    from producers.files.described import read_description
    from producers.files.recognise import recognise
    from producers.files.show import csv_lines

    if not file.is_file():
        raise Refused(f"no such file: {file}" if not file.exists() else f"{file} is not a file")
    opened = recognise(file, None if description is None else read_description(description))
    if as_csv:
        for line in csv_lines(opened):
            click.echo(line)
        return
    said = opened.identity
    click.echo(f"{file.name}: {opened.format}, {said.maker} {said.model} {said.serial}".rstrip())
    for column in opened.columns:
        click.echo(f"  {column.name}  {column.unit}  {column.statistic}  {column.kind}".rstrip())
