"""What can be set about imports, as TELLTALE_IMPORT_...; options go before it."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.stack import folder
from producers.settings import default_spool

SPOOL = "imports"


class ImportSettings(BaseSettings):
    """What can be set, with what it costs."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_IMPORT_", extra="ignore", frozen=True)

    archive: Path | None = Field(default=None, description="Folder of raw files; else TELLTALE_DIR/archive.")
    spool: Path | None = Field(default=None, description="The spool's folder; else TELLTALE_DIR/edge/imports.")
    incoming: Path | None = Field(default=None, description="Where uploads are put; else TELLTALE_DIR/incoming.")
    jobs: int = Field(
        default=max(1, min(4, os.cpu_count() or 1)), ge=1, le=64, description="Processes that read files."
    )
    stored_s: float = Field(default=60.0, ge=0, description="How long to wait until all is in the database.")
    overdue_hours: float | None = Field(
        default=24.0, gt=0, description="Without an upload of a device that uploads on its own: an alarm. None: never."
    )
    expect: str = Field(default="", description="The same for single devices: mast-7=48,mast-8=never.")
    waiting_s: float = Field(
        default=3600.0, gt=0, description="A file that is not stored after so long raises an alarm."
    )

    def archive_folder(self) -> Path:
        return self.archive or folder() / "archive"

    def spool_folder(self) -> Path:
        return self.spool or default_spool(SPOOL)

    def incoming_folder(self) -> Path:
        return self.incoming or folder() / "incoming"
