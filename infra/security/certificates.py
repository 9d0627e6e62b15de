"""An authority of one's own and the broker's certificate, as PEM files. Knows `cryptography` and a folder.

`ca.pem` is given to devices; `ca-key.pem` and `server.pem` (key and chain, as Kafka reads it) are private.
"""

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from schemas.errors import Refused

CA, CA_KEY, SERVER = "ca.pem", "ca-key.pem", "server.pem"
DEVICES = "devices"
CA_DAYS, SERVER_DAYS, DEVICE_DAYS = 3650, 397, 730
"""Devices must be given a new authority by hand, so it lives long; some clients refuse servers with more than 398."""
HOST = r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
HOST_CHARACTERS_MAX = 253
NAME = r"[A-Za-z0-9._-]{1,64}"
EARLIER = timedelta(hours=1)
"""Devices' clocks may be behind."""


@dataclass(frozen=True, slots=True)
class Files:
    """The three files in a folder."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / CA

    @property
    def server(self) -> Path:
        return self.folder / SERVER

    def missing(self) -> list[Path]:
        """Those of which the broker has need and which are not there."""
        return [path for path in (self.ca, self.server) if not path.exists()]


def init(folder: Path, names: Sequence[str], *, now: datetime) -> bool:
    """Makes the authority, unless there is one, and a new certificate for the broker. True: the authority is new.

    Args:
        names: host names and addresses by which devices reach the broker.
    """
    if not names:
        raise Refused("name the host as devices reach it: telltale tls init --name broker.example.org")
    alternatives = x509.SubjectAlternativeName([_name(each) for each in names])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key_file, new = folder / CA_KEY, not (folder / CA_KEY).exists()
    if new:
        key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(key, now)
        _write(key_file, _pem(key), private=True)
        _write(folder / CA, authority.public_bytes(serialization.Encoding.PEM), private=False)
    key, authority = _known(folder)
    if authority.not_valid_after_utc <= now:
        raise Refused(f"{folder / CA} ended on {authority.not_valid_after_utc:%Y-%m-%d}: move it and {CA_KEY} away")
    server_key = ec.generate_private_key(ec.SECP256R1())
    usage, ends = ExtendedKeyUsageOID.SERVER_AUTH, now + timedelta(days=SERVER_DAYS)
    made = _signed(server_key.public_key(), names[0], (now, ends), usage, by=(key, authority), also=alternatives)
    _write(folder / SERVER, _pem(server_key) + _chain(made, authority), private=True)
    return new


def for_device(folder: Path, device_id: str, *, now: datetime, days: int = DEVICE_DAYS) -> Path:
    """A device's key and certificate, whose common name is the device's, in one private PEM file. Raises `Refused`."""
    if not re.fullmatch(NAME, device_id):
        raise Refused(
            f"device {device_id}: with a certificate the name may have up to 64 letters, digits, dots, dashes and "
            "underscores, as it is read from the certificate's subject"
        )
    if not (folder / CA_KEY).exists():
        raise Refused(f"there is no authority in {folder}; make it: telltale tls init --name HOST")
    key, authority = _known(folder)
    own = ec.generate_private_key(ec.SECP256R1())
    usage, ends = ExtendedKeyUsageOID.CLIENT_AUTH, now + timedelta(days=days)
    made = _signed(own.public_key(), device_id, (now, ends), usage, by=(key, authority))
    place = folder / DEVICES
    place.mkdir(mode=0o700, exist_ok=True)
    _write(place / f"{device_id}.pem", _pem(own) + _chain(made, authority), private=True)
    return place / f"{device_id}.pem"


def _known(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
        authority = x509.load_pem_x509_certificate((folder / CA).read_bytes())
    except (OSError, ValueError) as error:
        raise Refused(f"the authority in {folder} cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refused(f"{folder / CA_KEY}: expected an elliptic curve key")
    return key, authority


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Telltale authority")])
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _signed(
    key: ec.EllipticCurvePublicKey,
    name: str,
    period: tuple[datetime, datetime],
    usage: x509.ObjectIdentifier,
    *,
    by: tuple[ec.EllipticCurvePrivateKey, x509.Certificate],
    also: x509.SubjectAlternativeName | None = None,
) -> x509.Certificate:
    signer, authority = by
    begins, ends = period
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]))
        .issuer_name(authority.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - EARLIER)
        .not_valid_after(min(ends, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if also is not None:
        builder = builder.add_extension(also, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _chain(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(serialization.Encoding.PEM) for each in certificates)


def _name(said: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(said))
    except ValueError:
        if len(said) > HOST_CHARACTERS_MAX or not re.fullmatch(HOST, said):
            raise Refused(
                f'--name: expected a host\'s name or address, such as broker.example.org, got "{said}"'
            ) from None
        return x509.DNSName(said)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, private: bool) -> None:
    coming = path.with_name(path.name + ".coming")
    with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if private else 0o644), "wb") as file:
        file.write(content)
    coming.replace(path)
