"""Settings of an edge: environment variables `TELLTALE_EDGE_...`, or arguments where `Edge` is embedded."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.client import Protocol, usual_protocol
from infra.stack import folder
from producers.spool.policy import Limits, WhenFull
from schemas.errors import Refused


def default_spool(name: str) -> Path:
    """Where a spool lies when nobody says: in the folder of the stack, one per device."""
    return folder() / "edge" / name


class EdgeSettings(BaseSettings):
    """What can be set, with what it costs."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_EDGE_", extra="ignore", frozen=True, allow_inf_nan=False)

    device_id: str | None = Field(default=None, description="Whose readings `Edge.accept` takes.")
    kafka: str | None = Field(default=None, description="Broker, HOST:PORT; else TELLTALE_KAFKA or the stack's.")
    spool: Path | None = Field(default=None, description="The spool's folder; else TELLTALE_DIR/edge/DEVICE.")

    spool_bytes_max: int = Field(
        default=1 << 30, gt=0, description="Bytes that may wait; beyond it `when_full` decides."
    )
    spool_age_s_max: float | None = Field(default=None, gt=0, description="Age at which `when_full` decides too.")
    when_full: WhenFull = Field(default=WhenFull.REFUSE, description="`refuse` new readings or `drop-oldest`.")

    keep_s: float | None = Field(default=None, gt=0, description="How long acknowledged readings stay in the spool.")
    keep_bytes: int | None = Field(
        default=None, gt=0, description="How much of them; with `keep_s` alone, `spool_bytes_max`."
    )

    heartbeat_s: float = Field(default=30.0, gt=0, description="Between two heartbeats of a device.")
    linger_s: float = Field(
        default=0.06, ge=0, description="Between two frames of single readings: longer saves messages, costs latency."
    )
    frame_bytes_max: int = Field(
        default=256 * 1024, ge=1024, le=3 * 1024 * 1024, description="Of one frame, when catching up."
    )
    window_bytes: int = Field(
        default=1 << 20,
        ge=1 << 12,
        le=1 << 28,
        description="On their way to the broker at once, at most: bounds memory.",
    )
    live_within_s: float = Field(
        default=10.0, gt=0, description="When a backlog makes new readings wait for longer, they overtake it."
    )
    live_share: float = Field(
        default=0.5, ge=0, lt=1, description="Of the link, for new readings beside a backlog; 0: all in one order."
    )
    retry_first_s: float = Field(default=0.5, gt=0, description="First wait after the broker refused; doubles.")
    retry_s_max: float = Field(default=60.0, gt=0, description="Longest wait between two tries.")

    restart_first_s: float = Field(default=1.0, gt=0, description="First wait before a source starts again; doubles.")
    restart_s_max: float = Field(default=60.0, gt=0, description="Longest wait before a source starts again.")

    metrics_port: int | None = Field(
        default=None, ge=0, le=65_535, description="Where /metrics, /healthz, /readyz are; none: nowhere, 0: any."
    )
    metrics_host: str = Field(default="127.0.0.1", description="Nobody is asked who he is: keep it on this machine.")

    security_protocol: Protocol | None = Field(
        default=None,
        description="Else SASL_SSL with a username, SSL with a certificate or CA, else as TELLTALE_KAFKA_... says.",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_ca_location: Path | None = Field(default=None, description="PEM file that vouches for the broker.")

    ssl_certificate_location: Path | None = Field(
        default=None, description="PEM file: who we are, instead of a password."
    )
    ssl_key_location: Path | None = Field(default=None, description="PEM file of its key; may be the same file.")

    frame_key: SecretStr | None = Field(default=None, description="Signs the device's frames; `telltale device add`.")
    frame_keys: dict[str, SecretStr] = Field(default={}, description="The same for further devices, by their ids.")

    def limits(self) -> Limits:
        """The spool's bounds."""
        return Limits(
            bytes_max=self.spool_bytes_max,
            age_s_max=self.spool_age_s_max,
            when_full=self.when_full,
            keep_s=self.keep_s,
            keep_bytes=self.keep_bytes,
        )

    def spool_folder(self, name: str) -> Path:
        return self.spool or default_spool(name)

    def security(self) -> dict[str, Any]:
        """librdkafka's options for who we are and whom we trust; none where nothing is said. Raises `Refused`."""
        has_tls = bool(self.ssl_certificate_location or self.ssl_ca_location)
        protocol = self.security_protocol or usual_protocol(self.sasl_username, has_tls=has_tls)
        if protocol is None:
            return {}
        made: dict[str, Any] = {"security.protocol": protocol}
        if protocol.startswith("SASL"):
            if not (self.sasl_username and self.sasl_password):
                raise Refused(f"security_protocol is {protocol}: sasl_username and sasl_password?")
            made |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username,
                "sasl.password": self.sasl_password.get_secret_value(),
            }
        if self.ssl_ca_location:
            made["ssl.ca.location"] = str(self.ssl_ca_location)
        if self.ssl_certificate_location:
            made["ssl.certificate.location"] = str(self.ssl_certificate_location)
            made["ssl.key.location"] = str(self.ssl_key_location or self.ssl_certificate_location)
        return made
