"""What every Kafka client of Telltale says about its connection: where, who it is, whom it trusts. Opens nothing.

Who a client is: what the environment says (`TELLTALE_KAFKA_USERNAME` and its like, `KafkaSettings`); else, where the
stack of this folder asks who comes, the stack's operator, whose password lies in the folder; else nobody.

librdkafka writes a line to standard error for each failed try, twenty a second; what it has to say reaches us as
errors of the calls, which say it once.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra import stack
from schemas.errors import Refused, Unavailable

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
PLAIN = "PLAIN"
SCRAM = "SCRAM-SHA-512"
OPERATOR = "telltale-ops"
"""The stack's super user."""


def usual_protocol(username: str | None, *, has_tls: bool) -> Protocol | None:
    """What a client speaks where nobody says it: encrypted, as soon as it has a name or TLS files; else None."""
    return "SASL_SSL" if username else "SSL" if has_tls else None


class KafkaSettings(BaseSettings):
    """Who a client is, for every command and service: `TELLTALE_KAFKA_...`. An edge has settings of its own."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_KAFKA_", extra="ignore", frozen=True, env_ignore_empty=True)

    security_protocol: Protocol | None = Field(
        default=None, description="By default SASL_SSL with a username, SSL with a certificate or CA, else PLAINTEXT."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = Field(default=None, description="Holds the password, as secrets are mounted.")
    ca: Path | None = Field(default=None, description="PEM file that vouches for the broker; else the system's.")
    certificate: Path | None = Field(default=None, description="PEM file: who we are, not by password.")
    key: Path | None = Field(default=None, description="PEM file of its key; may be the same file.")

    def access(self) -> "Access":
        """Raises `Refused` for what does not fit together."""
        has_tls = bool(self.certificate or self.ca)
        protocol = self.security_protocol or usual_protocol(self.username, has_tls=has_tls) or "PLAINTEXT"
        password = self._password()
        if protocol.startswith("SASL") and not (self.username and password):
            raise Refused(f"TELLTALE_KAFKA_SECURITY_PROTOCOL is {protocol}: TELLTALE_KAFKA_USERNAME and _PASSWORD?")
        for name, path in (("CA", self.ca), ("CERTIFICATE", self.certificate), ("KEY", self.key)):
            if path is not None and not os.access(path, os.R_OK):
                raise Refused(f"TELLTALE_KAFKA_{name}: {path} is not there or may not be read")
        return Access(protocol, self.sasl_mechanism, self.username, password, self.ca, self.certificate, self.key)

    def _password(self) -> str | None:
        if self.password_file is None:
            return self.password.get_secret_value() if self.password else None
        return read_password(self.password_file)


@dataclass(frozen=True, slots=True)
class Access:
    """Who a client is and whom it trusts."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: str = SCRAM
    username: str | None = None
    password: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def has_password(self) -> bool:
        return self.protocol.startswith("SASL")

    @property
    def has_tls(self) -> bool:
        return self.protocol.endswith("SSL")

    def librdkafka(self) -> dict[str, str]:
        """Options for `confluent_kafka`."""
        made: dict[str, str] = {"security.protocol": self.protocol}
        if self.has_password:
            made |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.username or "",
                "sasl.password": self.password or "",
            }
        if self.has_tls and self.ca:
            made["ssl.ca.location"] = str(self.ca)
        if self.has_tls and self.certificate:
            made["ssl.certificate.location"] = str(self.certificate)
            made["ssl.key.location"] = str(self.key or self.certificate)
        return made

    def java(self) -> str:
        """The same as the properties file of Kafka's own tools. Raises `Refused`: they want key and chain in one."""
        made: dict[str, str] = {"security.protocol": self.protocol}
        if self.has_password:
            login = "scram.Scram" if self.mechanism.startswith("SCRAM") else "plain.Plain"
            made |= {
                "sasl.mechanism": self.mechanism,
                "sasl.jaas.config": (
                    f"org.apache.kafka.common.security.{login}LoginModule required "
                    f'username="{_quoted(self.username)}" password="{_quoted(self.password)}";'
                ),
            }
        if self.has_tls and self.ca:
            made |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(self.ca)}
        if self.has_tls and self.certificate:
            if self.key not in (None, self.certificate):
                raise Refused("Kafka's tools want key and certificate in one PEM file: TELLTALE_KAFKA_CERTIFICATE")
            made |= {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(self.certificate)}
        return java_properties(made)


def java_properties(settings: Mapping[str, str]) -> str:
    """A properties file: Java reads it as latin-1, and backslashes in it as the beginning of something."""
    return "".join(f"{name}={_escaped(value)}\n" for name, value in settings.items())


def _escaped(value: str) -> str:
    units = value.replace("\\", "\\\\").replace("\n", "\\n").encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def _quoted(said: str | None) -> str:
    return (said or "").replace("\\", "\\\\").replace('"', '\\"')


def read_password(path: Path) -> str:
    """Of a file that holds it. Raises `Refused`."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path}, which should hold a password, cannot be read: {error}") from None


def password_file(folder: Path, name: str) -> Path:
    """Where a stack keeps the password of one of its own principals."""
    return folder / "security" / "clients" / name


def operator(folder: Path) -> Access:
    """The operator of the stack in a folder."""
    password = read_password(password_file(folder, OPERATOR))
    return Access("SASL_PLAINTEXT", PLAIN, OPERATOR, password)


def access(address: str) -> Access:
    """Who we are to the brokers at `address`. Raises `Refused`."""
    said = KafkaSettings().access()
    if said.protocol != "PLAINTEXT":
        return said
    try:
        found = stack.recorded()
    except Unavailable:  # somebody else's stack: its operator is not for us
        found = None
    if found is not None and found.asks_who and found.kafka and set(found.kafka.split(",")) & set(address.split(",")):
        return operator(found.folder)
    return said


def connection(address: str, who: Access | None = None) -> dict[str, Any]:
    """Options for a producer, consumer or admin client of `confluent_kafka`."""
    return {
        "bootstrap.servers": address,
        **(who or access(address)).librdkafka(),
        "log_level": 0,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 5_000,
        "socket.keepalive.enable": True,
        # Who leads what is asked again so often. A client that only asks questions (an admin client, above all for the
        # ends of logs) goes on asking a broker that is lost until then: five minutes by default, in which a sink that
        # was given partitions could not open them.
        "topic.metadata.refresh.interval.ms": 5_000,
    }


def reader(address: str, *, group: str) -> dict[str, Any]:
    """Options for a consumer that reads partitions to their end and commits nothing.

    `group` is only a name, or whose committed offsets are asked for: the consumer never joins it.
    """
    return {
        **connection(address),
        "group.id": group,
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,  # at the end of the log, say so at once
        "auto.offset.reset": "earliest",
    }
