"""`telltale device` and `telltale tls`. The composition root: clients are made here and nowhere else."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra import stack

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

KAFKA = click.option("--kafka", metavar="HOST:PORT", help="The broker; by default TELLTALE_KAFKA or the stack's.")
AT = click.option("--at", metavar="HOST:PORT", help="Where devices reach the broker; by default the stack's.")
FOLDER = click.option("--folder", metavar="DIR", help="Certificates; by default tls/ in the stack's folder.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON object.")
DEVICE = click.argument("device_id", metavar="ID")


@click.group()
def device() -> None:
    """Who may write readings: credentials of devices."""


@device.command()
@DEVICE
@KAFKA
@AT
@FOLDER
@AS_JSON
def add(device_id: str, kafka: str | None, at: str | None, folder: str | None, as_json: bool) -> None:
    """Give a device a credential. Its edge.toml is printed once; the password is kept nowhere."""
    from infra.security import credentials

    _show(device_id, credentials.add(_admin(kafka), device_id), at, folder, as_json=as_json)


@device.command()
@DEVICE
@KAFKA
@AT
@FOLDER
@AS_JSON
def rotate(device_id: str, kafka: str | None, at: str | None, folder: str | None, as_json: bool) -> None:
    """Give a device a new password; the old one is refused from its next login on."""
    from infra.security import credentials

    _show(device_id, credentials.rotate(_admin(kafka), device_id), at, folder, as_json=as_json)


@device.command()
@DEVICE
@KAFKA
def revoke(device_id: str, kafka: str | None) -> None:
    """Take a device's credential and rights away, at once."""
    from infra.security import credentials

    credentials.revoke(_admin(kafka), device_id)
    click.echo(f"{device_id} may write nothing from now on")


@device.command("list")
@KAFKA
@AS_JSON
def list_devices(kafka: str | None, as_json: bool) -> None:
    """Devices with a credential, and what they may write to."""
    from infra.security import credentials

    found = credentials.known(_admin(kafka))
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, topics in found.items():
        click.echo(f"{name:<32} {', '.join(topics) or 'nothing'}")
    if not found:
        click.echo("no device has a credential; make one with: telltale device add ID")


@click.group()
def tls() -> None:
    """Certificates for listeners that leave the machine."""


@tls.command()
@click.option("--name", "names", multiple=True, metavar="HOST", required=True, help="As devices reach it.")
@FOLDER
def init(names: tuple[str, ...], folder: str | None) -> None:
    """Make an authority of your own, if there is none, and a new certificate for the broker."""
    from infra.security import certificates

    place = _folder(folder)
    new = certificates.init(place, names, now=datetime.now(UTC))
    click.echo(f"{'made' if new else 'kept'} the authority {place / certificates.CA}; devices need this file")
    click.echo(f"made {place / certificates.SERVER} for {', '.join(names)}, good for {certificates.SERVER_DAYS} days")


def _folder(named: str | None) -> Path:
    return Path(named).absolute() if named else stack.folder() / "tls"


def _admin(kafka: str | None) -> "AdminClient":
    from confluent_kafka.admin import AdminClient

    from infra.client import connection

    return AdminClient(connection(stack.kafka_address(kafka)))


def _show(device_id: str, password: str, at: str | None, folder: str | None, *, as_json: bool) -> None:
    from infra.security.certificates import CA

    recorded = stack.recorded()
    address = at or (recorded.devices if recorded else None) or "HOST:PORT"
    values = {
        "device": device_id,
        "kafka": address,
        "security_protocol": "SASL_SSL",
        "sasl_username": device_id,
        "sasl_password": password,
        "ssl_ca_location": "/etc/telltale/ca.pem",
    }
    if as_json:
        click.echo(json.dumps(values))
        return
    for name, value in values.items():
        click.echo(f"{name} = {json.dumps(value)}")
    click.echo(f"# put {_folder(folder) / CA} at ssl_ca_location; this password is shown only now", err=True)
