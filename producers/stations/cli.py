"""`telltale stations`: import descriptions of stations, show what is configured."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
import orjson

from infra.caller import caller
from infra.counted import counted
from infra.options import KAFKA, Bounded
from producers.stations.calibrations.cli import calibration
from producers.stations.files import read_file
from schemas.devices import DEVICE_ID
from schemas.errors import Refused
from schemas.iea.convert import Answers


class UtcOffset(click.ParamType):
    """`+01:00`, `-5`, `05:30`, `0` or `Z` as minutes."""

    name = "+HH:MM"
    pattern = re.compile(r"([+-]?)(\d{1,2})(?::?([0-5]\d))?")

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = self.pattern.fullmatch("0" if value == "Z" else str(value))
        minutes = int(match[2]) * 60 + int(match[3] or 0) if match else None
        if match is None or minutes is None or minutes > 14 * 60:
            self.fail(f"{value!r} is no offset from UTC; write +01:00, -5 or 0", param, ctx)
        return -minutes if match[1] == "-" else minutes


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def stations() -> None:
    """Stations, devices and their sensors: what is configured, and how it comes there."""


stations.add_command(calibration)


@stations.command(name="import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--device", "device_id", metavar="ID", help="Call the device so, where the file has one.")
@click.option("--utc-offset", type=UtcOffset(), help="The logger's clock against UTC, where the file does not say.")
@click.option("--stamp", type=click.Choice(["begin", "end"]), help="What its stamps mean, where the file does not say.")
@click.option(
    "--silence-limit",
    "silence_limit_s",
    type=Bounded(min=0, min_open=True, max=366 * 86_400),
    metavar="SECONDS",
    help="Silent for longer than this raises an alarm; by default as FILE says, of a data model three intervals.",
)
@click.option("--dry-run", is_flag=True, help="Read, check and show; publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the devices as JSON.")
@KAFKA
def import_(
    *,
    file: Path,
    device_id: str | None,
    utc_offset: int | None,
    stamp: Literal["begin", "end"] | None,
    silence_limit_s: float | None,
    dry_run: bool,
    as_json: bool,
    kafka: str | None,
) -> None:
    """Configure the devices that FILE describes.

    FILE is an IEA Task 43 WRA data model, or devices as `telltale stations show --json` prints them.

    Alarm rules (`telltale alarms rules`) stay where the file says nothing of them.

    \b
    telltale stations import mast.json --utc-offset +01:00 --dry-run
    telltale stations import mast.json --utc-offset +01:00 --silence-limit 1800
    """
    _check_device_id(device_id)
    answers = Answers(
        configured_at=datetime.now(UTC),
        configured_by=caller(),
        device_id=device_id,
        utc_offset_minutes=utc_offset,
        stamp=stamp,
        silence_limit_s=silence_limit_s,
    )
    imported = read_file(file, answers=answers)
    if not dry_run:
        from infra.stack import kafka_address
        from producers.stations.devices import configure

        configure(kafka_address(kafka), imported.devices)
    for warning in imported.warnings:
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        devices = [device.model_dump(mode="json") for device in imported.devices]
        _print_json({"devices": devices, "warnings": imported.warnings, "published": not dry_run})
        return
    for device in imported.devices:
        dated = sum(len(sensor.calibrations) > 1 for sensor in device.sensors)
        changing = f", {dated} of them with calibrations that change" if dated else ""
        click.echo(
            f"{'would configure' if dry_run else 'configured'} {device.device_id}: "
            f"{counted(len(device.sensors), 'sensor')}{changing}"
        )


@stations.command()
@click.argument("device", required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts: the devices as JSON.")
@KAFKA
def show(*, device: str | None, as_json: bool, kafka: str | None) -> None:
    """Every configured device with its sensors, or one."""
    from rich.console import Console

    from infra.stack import kafka_address
    from producers.stations.devices import named, read_devices
    from producers.stations.show import table

    devices = read_devices(kafka_address(kafka))
    wanted = named(devices, sorted(devices) if device is None else [device])
    if as_json:
        dumps = [one.model_dump(mode="json") for one in wanted]
        _print_json(dumps if device is None else dumps[0])
        return
    if not wanted:
        click.echo("no device is configured; `telltale stations import FILE` does it")
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for one in wanted:
        console.print(table(one, now=datetime.now(UTC)))


@stations.command()
@click.argument("file", metavar="FILE")
@click.option("--device", "device_id", metavar="ID", help="Extend this device, or call the new one so.")
@click.option("--station", metavar="NAME", help="Where it stands, for a new device.")
@click.option("--utc-offset", type=UtcOffset(), help="The logger's clock against UTC, where the file does not say.")
@click.option("--stamp", type=click.Choice(["begin", "end"]), help="What its stamps mean, where the file does not say.")
@click.option(
    "--interval", "interval_s", type=Bounded(min=0, min_open=True), metavar="SECONDS", help="Between two rows."
)
@click.option("--date-order", type=click.Choice(["dmy", "mdy", "ymd"]), help="Of day, month, year in its files.")
@click.option("--leave-out", metavar="COLUMN", multiple=True, help="Do not take this column; may come several times.")
@click.option("--leave-out-new", is_flag=True, help="Take no column that the device does not have yet.")
@click.option(
    "--description", type=click.Path(path_type=Path), metavar="FILE", help="TOML that describes the file's columns."
)
@click.option("--dry-run", is_flag=True, help="Show the configuration; publish nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="For scripts: the device as one JSON object, as `stations import` reads it."
)
@KAFKA
def adopt(
    *,
    file: str,
    device_id: str | None,
    station: str | None,
    utc_offset: int | None,
    stamp: Literal["begin", "end"] | None,
    interval_s: float | None,
    date_order: str | None,
    leave_out: tuple[str, ...],
    leave_out_new: bool,
    description: Path | None,
    dry_run: bool,
    as_json: bool,
    kafka: str | None,
) -> None:
    """Accept the logger of FILE.

    It becomes a device made of what the file says; of a known one, new columns and programs are accepted.

    FILE is a logger file, also packed (archive.zip!member), or the beginning of the hash of an imported one
    (`telltale imports list`). Look at it first with --dry-run; what is not right is corrected in the output of --json
    and read by `telltale stations import`.
    """
    from rich.console import Console

    from infra.stack import kafka_address
    from producers.files.described import read_description
    from producers.files.logger_file import Stamping
    from producers.stations.adoption import Wanted, adoption
    from producers.stations.devices import publish, read_devices
    from producers.stations.show import table
    from schemas.errors import Unavailable

    _check_device_id(device_id)
    try:
        devices = read_devices(kafka_address(kafka))
    except Unavailable:
        if not dry_run:
            raise
        devices = {}  # a look needs no stack
    wanted = Wanted(
        device_id=device_id,
        station=station,
        told=Stamping(utc_offset, stamp, interval_s, date_order),
        leave_out=frozenset(leave_out),
        leave_out_new=leave_out_new,
        description=None if description is None else read_description(description),
        who=caller(),
    )
    found = adoption(file, devices, wanted, now=datetime.now(UTC))
    if not dry_run:
        publish(kafka_address(kafka), [found.proposal.device])
    if as_json:
        _print_json(found.proposal.device.model_dump(mode="json"))
        return
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table(found.proposal.device, now=datetime.now(UTC)))
    for line in found.lines(dry_run=dry_run):
        click.echo(line)


@stations.command()
@click.argument("devices", nargs=-1, metavar="[DEVICE]...")
@click.option("--iea", is_flag=True, help="As an IEA Task 43 WRA data model, version 1.3; the only format.")
@click.option("--author", metavar="NAME", help="Of the data model; by default the user.")
@click.option("--organisation", metavar="NAME", default="-", show_default=True, help="Of the data model.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="By default standard output."
)
@KAFKA
def export(
    *,
    devices: tuple[str, ...],
    iea: bool,
    author: str | None,
    organisation: str,
    out: Path | None,
    kafka: str | None,
) -> None:
    """Write the configuration as an IEA data model.

    Of the named DEVICEs or of all; `telltale stations import` and other tools read it.
    """
    from infra.stack import kafka_address
    from producers.stations.devices import named, read_devices
    from schemas.iea.export import model_of

    _ = iea  # `show --json` has our own format; here there is one
    configured = read_devices(kafka_address(kafka))
    chosen = named(configured, devices or sorted(configured))
    if not chosen:
        raise Refused("no device is configured; `telltale stations import FILE` does it")
    made = model_of(chosen, author=author or caller(), organisation=organisation, today=datetime.now(UTC).date())
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    data = orjson.dumps(made.model, option=orjson.OPT_INDENT_2)
    if out is None:
        click.echo(data)
        return
    try:
        out.write_bytes(data + b"\n")
    except OSError as error:
        raise Refused(f"{out}: {error.strerror}") from None
    click.echo(f"wrote {out}: {', '.join(device.device_id for device in chosen)}")


@stations.command()
@click.argument("devices", nargs=-1, required=True, metavar="DEVICE...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; remove nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="For scripts: what was removed as JSON, as `stations import` reads it."
)
@KAFKA
def remove(*, devices: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool, kafka: str | None) -> None:
    """Take devices that are gone out of the configuration.

    Their alarms end, their silence is judged no more, and they leave the pages. What they have measured stays in the
    database, with flags and calibrations: plots, exports and the API find it by the device's name.

    What a removed device still sends is rejected, and an alarm says so; `telltale device revoke` takes its credential
    away. The output of --json, imported by `telltale stations import`, brings the devices back.
    """
    from infra.asking import is_wanted
    from infra.stack import kafka_address
    from producers.stations.devices import named, read_devices
    from producers.stations.devices import remove as take_out
    from producers.stations.rules.placing import last_places

    address = kafka_address(kafka)
    configured = read_devices(address)
    chosen = named(configured, dict.fromkeys(devices))
    for one in chosen:
        sensors = counted(len(one.sensors), "sensor")
        click.echo(f"{one.device_id}: {one.name}, at {one.station.name}, {sensors}", err=True)
    for place, rules in last_places(configured, chosen):
        click.echo(f"warning: alarm rules of {place} go with the last device: {', '.join(rules)}", err=True)
    click.echo("ends: alarms, the judging of silence, the place on the pages", err=True)
    click.echo("stays: readings, windows, heartbeats, flags and calibrations in the database", err=True)
    if not dry_run:
        if not (yes or is_wanted(f"remove {counted(len(chosen), 'device')}?")):
            raise Refused("nothing was removed")
        take_out(address, [one.device_id for one in chosen])
    if as_json:
        _print_json([one.model_dump(mode="json") for one in chosen])
        return
    click.echo(f"{'would remove' if dry_run else 'removed'} {', '.join(one.device_id for one in chosen)}")


def _check_device_id(device_id: str | None) -> None:
    if device_id is not None and not re.fullmatch(DEVICE_ID, device_id):
        raise Refused(f'"{device_id}" is no device id: letters, digits, dot, dash and underscore, up to 128')


def _print_json(value: object) -> None:
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2))
