"""`telltale stations calibration`: certificates of instruments, dated. Prints; what it prints is made elsewhere."""

from datetime import UTC, datetime
from pathlib import Path

import click
import orjson

from infra.caller import caller
from infra.moments import moment
from infra.options import KAFKA
from schemas.errors import Refused


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def calibration() -> None:
    """Dated calibrations of sensors: add a certificate, list."""


@calibration.command()
@click.argument("device")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--from", "since", metavar="TIME", help="Since when the instrument is in use; UTC if no zone is given.")
@click.option("--point", metavar="NAME", help="Of this measurement point, whatever the certificate's serial number.")
@click.option("--channel", metavar="NAME", help="Of this channel alone.")
@click.option("--dry-run", is_flag=True, help="Show what would change; publish nothing.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the device as one JSON object.")
@KAFKA
def add(
    *,
    device: str,
    file: Path,
    since: str | None,
    point: str | None,
    channel: str | None,
    dry_run: bool,
    as_json: bool,
    kafka: str | None,
) -> None:
    """Give a sensor of DEVICE a certificate, from a time on.

    FILE is a digital calibration certificate (JSON). The sensor is found by the certificate's serial
    number. Its logger's numbers stay. Readings that are stored are calibrated anew by `telltale recalibrate`.
    """
    from infra.stack import kafka_address
    from producers.stations.calibrations.dating import calibrated, sensors_of
    from producers.stations.devices import named, publish, read_devices
    from producers.stations.files import read_json
    from schemas.iea.certificate import read_certificate

    certificate = read_certificate(read_json(file))
    [chosen] = named(read_devices(kafka_address(kafka)), [device])
    now, begin = datetime.now(UTC), moment(since, option="--from")
    sensors = sensors_of(chosen, certificate, point=point, channel=channel, at=begin or now)
    made = calibrated(chosen, sensors, certificate, since=begin, now=now, who=caller())
    if not dry_run:
        publish(kafka_address(kafka), [made])
    if as_json:
        click.echo(_json(made.model_dump(mode="json")))
        return
    channels = ", ".join(sensor.channel for sensor in sensors)
    word = "would be calibrated" if dry_run else "calibrated"
    click.echo(
        f"{device}: {channels} {word} by certificate {certificate.certificate or '-'} of "
        f"{certificate.laboratory or '-'} ({certificate.calibrated_on or 'no date'}): "
        f"{certificate.slope:g}·x {'-' if certificate.offset < 0 else '+'} {abs(certificate.offset):g}"
        f"{f' from {begin:%Y-%m-%d %H:%M} UTC' if begin else ', since ever'}"
    )


@calibration.command("list")
@click.argument("device")
@click.option("--channel", metavar="NAME", help="Only this channel.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: the calibrations as JSON.")
@KAFKA
def list_calibrations(*, device: str, channel: str | None, as_json: bool, kafka: str | None) -> None:
    """Calibrations of DEVICE's sensors, and when each holds."""
    from infra.stack import kafka_address
    from producers.stations.devices import named, read_devices

    [chosen] = named(read_devices(kafka_address(kafka)), [device])
    sensors = [one for one in chosen.sensors if channel in (None, one.channel)]
    if not sensors and channel is not None:
        known = ", ".join(one.channel for one in chosen.sensors)
        raise Refused(f'device {device} has no channel "{channel}"; it has {known}')
    if as_json:
        dated = [(one.channel, each) for one in sensors for each in one.calibrations]
        click.echo(_json([{"channel": name, **each.model_dump(mode="json")} for name, each in dated]))
        return
    for one in sensors:
        for each in one.calibrations:
            begin = f"{each.valid_from:%Y-%m-%d %H:%M}" if each.valid_from else "ever"
            end = f"{each.valid_to:%Y-%m-%d %H:%M}" if each.valid_to else "now"
            numbers = [f"{name} {value:g}" for name in _NUMBERS if (value := getattr(each, name)) is not None]
            words = [word for word in (each.instrument, each.serial, each.certificate, each.laboratory) if word]
            click.echo(f"{one.channel:<20} {begin:>16} to {end:<16}  {', '.join([*numbers, *words])}")


_NUMBERS = ("logger_slope", "logger_offset", "slope", "offset", "dead_band_orientation_deg")
