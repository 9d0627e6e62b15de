"""What can be set, by `TELLTALE_SINK_...` or on the command line. Bounds come with their reason."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class SinkSettings(BaseSettings):
    """Settings of `telltale sink run`. Addresses are the stack's: `--kafka`, `--database`."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_SINK_", frozen=True)

    rows_max: Annotated[int, Field(ge=1)] = 50_000
    """Rows of a batch. Above some 50,000 nothing gets faster and a halved batch costs more."""
    bytes_max: Annotated[int, Field(ge=1)] = 32 * 2**20
    """Kafka bytes of a batch: the bound for records that make few rows."""
    linger_ms: Annotated[int, Field(ge=0, le=10_000)] = 0
    """How long a batch that is not full waits for more. 0: it goes as soon as the database is free."""
    fetch_kbytes_max: Annotated[int, Field(ge=1024)] = 65_536
    """Fetched and not yet decoded, all partitions together."""
    session_timeout_ms: Annotated[int, Field(ge=6_000, le=60_000)] = 8_000
    """How long a dead sink keeps its partitions. The broker allows no less than 6 s."""
    retry_s_max: Annotated[float, Field(gt=0)] = 5.0
    """Longest pause between two tries while the database is away."""
    alarm_after_s: Annotated[float, Field(gt=0)] = 60.0
    """How long nothing may be stored before an alarm says so. Below a restart of the database it would cry wolf."""
    copy_rows: bool = True
    """COPY for new rows. Off where the server has none (PGlite): all rows go by the upsert."""
    migrate: bool = True
    """Bring the schema up to date at start."""
    upkeep_s: Annotated[float, Field(ge=0)] = 60.0
    """How often aggregates follow late rows, and retention and compression are seen to. 0: never, by this sink."""
