"""What can be set about exports, by `TELLTALE_EXPORTS_...`. Bounds come with their reason."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra import stack


class ExportSettings(BaseSettings):
    """Settings of exports, at the shell and as jobs."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_EXPORTS_", frozen=True)

    folder: Path | None = None
    """Where files of jobs wait to be fetched, and what is known of alarms; by default in the stack's folder."""
    slow_s: Annotated[float, Field(gt=0)] = 120.0
    """An export that takes longer raises an alarm: six years of 80 columns take half a minute."""
    at_once: Annotated[int, Field(ge=1, le=8)] = 1
    """Jobs at the same time. Each keeps one core and one connection busy."""
    queued_max: Annotated[int, Field(ge=1)] = 100
    """Jobs that wait; the next one is refused."""
    queued_of_one_max: Annotated[int, Field(ge=1)] = 20
    """Jobs of one person that wait: nobody shuts the others out. More than anybody presses by hand."""
    keep_days: Annotated[float, Field(gt=0)] = 7.0
    """So long a finished job's files are kept."""
    keep_bytes: Annotated[int, Field(ge=1)] = 20_000_000_000
    """Beyond it the oldest files go first."""
    statement_s: Annotated[float, Field(gt=0)] = 120.0
    """A slice takes a fraction of a second; one that takes this long is in trouble."""

    def place(self) -> Path:
        """The folder to use."""
        return (self.folder or stack.folder() / "exports").absolute()
