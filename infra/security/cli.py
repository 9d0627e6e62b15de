"""`telltale device` and `telltale tls`. The composition root: clients are made here and nowhere else."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra import stack
from infra.options import AS_JSON, KAFKA, Bounded
from schemas.errors import Unavailable

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from infra.security.keys import Signing

AT = click.option("--at", metavar="HOST:PORT", help="Where devices reach the broker; by default the stack's.")
FOLDER = click.option("--folder", metavar="DIR", help="Certificates; by default tls/ in the stack's folder.")
CERTIFICATE = click.option(
    "--certificate", is_flag=True, help="It tells who it is by a certificate instead of a password."
)
DEVICE = click.argument("device_id", metavar="ID")


@click.group()
def device() -> None:
    """Who may write readings: credentials and keys of devices."""


@device.command()
@DEVICE
@CERTIFICATE
@KAFKA
@AT
@FOLDER
@AS_JSON
def add(
    *, device_id: str, certificate: bool, kafka: str | None, at: str | None, folder: str | None, as_json: bool
) -> None:
    """Give a device a credential and a key to sign with. The first lines of its edge.toml are printed, once.

    The stack must let devices in: `telltale tls init`, then `telltale up --devices HOST:PORT`.

    \b
    telltale device add pi-1 > edge.toml
    telltale device add pi-1 --certificate --at broker.example.org:9095
    """
    from infra.security import certificates, credentials, keys

    credentials.check_name(device_id)
    admin, now = _admin(kafka), datetime.now(UTC)
    if certificate:
        credentials.allow_new(admin, device_id)
        shown = _by_certificate(certificates.for_device(_folder(folder), device_id, now=now))
    else:
        shown = _by_password(device_id, credentials.add(admin, device_id))
    key = keys.issue(keys.folder(), device_id, now=now, grace=timedelta(0))
    _show(device_id, shown | {"frame_key": key}, at, folder, as_json=as_json)


@device.command()
@DEVICE
@CERTIFICATE
@click.option(
    "--grace",
    "grace_h",
    type=Bounded(min=0, max=24 * 366),
    default=24.0,
    show_default=True,
    metavar="HOURS",
    help="How long frames signed with the key before still count.",
)
@KAFKA
@AT
@FOLDER
@AS_JSON
def rotate(
    *,
    device_id: str,
    certificate: bool,
    grace_h: float,
    kafka: str | None,
    at: str | None,
    folder: str | None,
    as_json: bool,
) -> None:
    """Give a device a new password and a new key.

    The old password is refused from its next login on; the old key counts for --grace hours. A device that has signed
    nothing so far must sign from the end of the grace on.
    """
    from infra.security import certificates, credentials, keys

    credentials.check_name(device_id)
    admin, now = _admin(kafka), datetime.now(UTC)
    if certificate:
        credentials.check_known(admin, device_id)
        shown = _by_certificate(certificates.for_device(_folder(folder), device_id, now=now))
    else:
        shown = _by_password(device_id, credentials.rotate(admin, device_id))
    key = keys.issue(keys.folder(), device_id, now=now, grace=timedelta(hours=grace_h))
    _show(device_id, shown | {"frame_key": key}, at, folder, as_json=as_json)


@device.command()
@DEVICE
@KAFKA
def revoke(device_id: str, kafka: str | None) -> None:
    """Take a device's credential, rights and key away, at once."""
    from infra.security import credentials, keys

    credentials.check_name(device_id)
    admin = _admin(kafka)
    credentials.check_known(admin, device_id)
    keys.end(keys.folder(), device_id, now=datetime.now(UTC))  # first: nothing of it counts, whatever comes after
    credentials.revoke(admin, device_id)
    click.echo(f"{device_id} may write nothing from now on")


@device.command("list")
@KAFKA
@AS_JSON
def list_devices(kafka: str | None, as_json: bool) -> None:
    """Devices with a credential, and what they may write to."""
    from infra.security import credentials, keys

    found, signing = credentials.known(_admin(kafka)), keys.read_register(keys.folder())
    now = datetime.now(UTC)
    told = {
        name: {"writes": topics, **(_signing(signing[name], now) if name in signing else NO_KEY)}
        for name, topics in found.items()
    }
    if as_json:
        click.echo(json.dumps(told))
        return
    for name, one in told.items():
        click.echo(f"{name:<32} {', '.join(one['writes']) or 'nothing':<28} {one['signs']}")
    if not found:
        click.echo("no device has a credential; make one with: telltale device add ID")


NO_KEY = {"signs": "need not sign", "key": None, "must_sign_from": None}


def _signing(one: "Signing", now: datetime) -> dict[str, Any]:
    ends = next((key.until for key in one.keys[-2:-1] if key.until and key.until > now), None)
    grace = f", key {one.newest.serial - 1} counts until {ends:%Y-%m-%d %H:%M}" if ends else ""
    said = "revoked" if one.is_revoked else f"signs with key {one.newest.serial}{grace}"
    return {"signs": said, "key": one.newest.serial, "must_sign_from": one.required.isoformat()}


@click.group()
def tls() -> None:
    """Certificates for listeners that leave the machine."""


@tls.command()
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="HOST",
    required=True,
    help="How devices reach the broker; may come several times.",
)
@FOLDER
def init(names: tuple[str, ...], folder: str | None) -> None:
    """Make a new certificate for the broker.

    And an authority of your own that signs it, if there is none yet.

    \b
    telltale tls init --name broker.example.org --name 192.0.2.7
    """
    from infra.security import certificates

    place = _folder(folder)
    new = certificates.init(place, names, now=datetime.now(UTC))
    click.echo(f"{'made' if new else 'kept'} the authority {place / certificates.CA}; devices need this file")
    click.echo(f"made {place / certificates.SERVER} for {', '.join(names)}, good for {certificates.SERVER_DAYS} days")


def _folder(named: str | None) -> Path:
    return Path(named).absolute() if named else stack.folder() / "tls"


def _admin(kafka: str | None) -> "AdminClient":
    """Of a broker that answers; what is asked then may take it longer. Raises `Unavailable`."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    from infra.client import connection
    from infra.offsets import ANSWER_S_MAX

    address = stack.kafka_address(kafka)
    admin = AdminClient(connection(address))
    try:
        admin.list_topics(timeout=ANSWER_S_MAX)
    except KafkaException as error:
        raise Unavailable(f"kafka at {address} does not answer: {error.args[0].str()}") from None
    return admin


def _by_password(device_id: str, password: str) -> dict[str, str]:
    return {"security_protocol": "SASL_SSL", "sasl_username": device_id, "sasl_password": password}


def _by_certificate(file: Path) -> dict[str, str]:
    click.echo(f"# put {file} at ssl_certificate_location, readable for the edge alone", err=True)
    return {"security_protocol": "SSL", "ssl_certificate_location": "/etc/telltale/device.pem"}


def _show(device_id: str, shown: dict[str, str], at: str | None, folder: str | None, *, as_json: bool) -> None:
    from infra.security import keys
    from infra.security.certificates import CA

    recorded = stack.recorded()
    address = at or _door(recorded, by_certificate=shown["security_protocol"] == "SSL") or "HOST:PORT"
    values = {"device": device_id, "kafka": address, **shown, "ssl_ca_location": "/etc/telltale/ca.pem"}
    if as_json:
        click.echo(json.dumps(values))
        return
    for name, value in values.items():
        click.echo(f"{name} = {json.dumps(value)}")
    click.echo(f"# put {_folder(folder) / CA} at ssl_ca_location; what is secret here is shown only now", err=True)
    if recorded is None:
        click.echo(f"# the stage checks signatures by {keys.folder()}: bring that folder to it", err=True)


def _door(recorded: "stack.Stack | None", *, by_certificate: bool) -> str | None:
    if recorded is None:
        return None
    return recorded.certificates if by_certificate else recorded.devices
