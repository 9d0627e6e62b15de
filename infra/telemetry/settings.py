"""What can be set about metrics, by `TELLTALE_METRICS_...`. `telltale up` gives each service a port of its own."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.ports import LOOPBACK


class MetricsSettings(BaseSettings):
    """Where a service answers /metrics, /healthz and /readyz."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_METRICS_", frozen=True)

    host: str = LOOPBACK
    """Nobody is asked who he is: beyond this machine only where a network keeps strangers out (0.0.0.0 in a pod)."""
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """0: any free one, which the log names. None: not at all."""
