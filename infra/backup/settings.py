"""What can be set about backups, by `TELLTALE_BACKUP_...`. Knows words; knows no database."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra import stack

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
EVERY = "TELLTALE_BACKUP_EVERY"


def seconds(said: Any) -> Any:
    """A duration such as 12h or 1d in seconds. Raises `ValueError`."""
    if not isinstance(said, str):
        return said
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smhd])", said.strip())
    if match is None:
        raise ValueError("expected a number and one of s, m, h, d, such as 12h")
    return float(match[1]) * UNITS_S[match[2]]


class BackupSettings(BaseSettings):
    """Settings of `telltale backup`. Addresses are the stack's."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_BACKUP_", frozen=True)

    every: Annotated[Annotated[float, Field(ge=1, le=31 * 86400)] | None, BeforeValidator(seconds)] = None
    """How often, in seconds. None: no schedule."""
    keep: Annotated[int, Field(ge=1)] = 7
    """How many backups of a database stay; the newest that was verified stays in any case."""
    verify: bool = True
    """Whether each scheduled backup is restored into a scratch database and compared."""
    folder: Path | None = None
    """Where backups are; by default beside the stack's folder, so that `telltale down --remove` leaves them."""

    def place(self, named: str | None = None) -> Path:
        """The folder to use: an option, the setting, or beside the stack's folder."""
        if named or self.folder:
            return Path(named or self.folder or "").absolute()
        home = stack.folder()
        return home.with_name(f"{home.name}-backups")
