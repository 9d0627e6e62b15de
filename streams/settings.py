"""Settings of the stream stage: environment variables `TELLTALE_STREAMS_...`."""

from enum import StrEnum

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Unsigned(StrEnum):
    """What becomes of unsigned frames of devices without a key. Those with a key must sign in any case."""

    ALLOW = "allow"
    REFUSE = "refuse"


class StreamsSettings(BaseSettings):
    """What can be set, with what it costs."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_STREAMS_", extra="ignore")

    session_timeout_s: float = Field(default=8.0, ge=6, description="A dead worker's partitions move after this long.")
    heartbeat_s: float = Field(default=2.0, gt=0, description="A third of the session timeout or less.")
    transaction_timeout_s: int = Field(default=20, ge=5, description="A frozen worker's transaction is aborted then.")
    silence_check_s: float = Field(default=1.0, gt=0, description="How often silence is looked for.")
    behind_limit_s: float = Field(default=60.0, gt=0, description="The stage being behind for longer raises an alarm.")
    waiting_records_max: int = Field(
        default=20_000, gt=0, description="Records waiting per partition; beyond it fetching waits."
    )
    waiting_bytes_max: int = Field(
        default=32 << 20, gt=0, description="Bytes waiting per partition; beyond it fetching waits."
    )
    unsigned: Unsigned = Field(
        default=Unsigned.ALLOW, description="Frames of devices without a key; `refuse`: every frame must be signed."
    )
    log_level: str = "info"
