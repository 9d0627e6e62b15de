"""What can be set, by `TELLTALE_WATCHDOG_...`. Bounds come with their reason."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class WatchdogSettings(BaseSettings):
    """Settings of `telltale watchdog`. Addresses are the stack's: `--kafka`, `--database`."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_WATCHDOG_", frozen=True)

    every_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    """Between two looks. Each costs the broker some tens of requests."""
    unreachable_s: Annotated[float, Field(ge=0)] = 20.0
    """How long broker or database may be away. Below a restart it would cry wolf."""
    service_s: Annotated[float, Field(ge=0)] = 45.0
    """How long a part of the stack may be away or hang. Above the supervisor's longest pause between two starts."""
    still_s: Annotated[float, Field(gt=0)] = 60.0
    """How long a group with work may stand still. Above its session timeout and the restore of its state."""
    lag_s: Annotated[float, Field(gt=0)] = 300.0
    """How long a record may wait to be processed or stored."""
    retention_share: Annotated[float, Field(gt=0, lt=1)] = 0.8
    """Of a topic's retention that an unread record may reach: the rest is the time to act."""
    disk_share_min: Annotated[float, Field(ge=0, lt=1)] = 0.1
    disk_hours_min: Annotated[float, Field(ge=0)] = 24.0
    disks: list[Path] = []
    """Folders whose disks are looked at, as a JSON list; by default the stack's folder."""
    certificates: list[Path] = []
    """Files of certificates (PEM), as a JSON list."""
    expiry_days: Annotated[float, Field(gt=0)] = 21.0
    clock_s: Annotated[float, Field(gt=0)] = 2.0
    """How far the database's clock may be from this machine's."""
    backup_hours: Annotated[float, Field(gt=0)] | None = None
    """How old the newest backup may be; by default three times TELLTALE_BACKUP_EVERY, if that is set."""
    calm_s: Annotated[float, Field(gt=0)] = 600.0
    """After the last refused login or record, so long the alarm of whoever sent it stands: one that tries again each
    minute is one alarm."""
    alive_url: str | None = None
    """Asked for (GET) after each look that could be made, by whatever raises an alarm when it ceases (a dead man's
    switch outside of this machine)."""
