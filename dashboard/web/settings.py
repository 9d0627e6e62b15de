"""What can be set, by `TELLTALE_DASHBOARD_...` or on the command line. Bounds come with their reason."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, le=3600)]
Count = Annotated[int, Field(ge=1)]


class WebSettings(BaseSettings):
    """Settings of `telltale dashboard run`. Broker and database are the stack's: `--kafka`, `--database`."""

    model_config = SettingsConfigDict(env_prefix="TELLTALE_DASHBOARD_", frozen=True, populate_by_name=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    url: str | None = None
    """Where people reach the pages, if that is behind a proxy; for links that are printed."""
    behind_tls: bool = False
    """A proxy speaks TLS to the world: cookies get `Secure`, answers Strict-Transport-Security."""
    origins: tuple[str, ...] = ()
    """Origins other than our own that may act with a session, such as https://telltale.example behind a proxy that
    changes the Host header."""

    pages_connections: Count = 4
    """Of the pool that pages and signed-in people have for themselves."""
    pages_statement_s: Seconds = 10.0
    """A person has left after ten seconds."""
    api_connections: Count = 4
    """Of the pool that tokens share. More than twice the database's cores makes nothing faster."""
    api_statement_s: Seconds = 30.0
    """Data is read in slices of well below a second; only a question that is too large takes this long."""
    waiting_max: Count = 64
    """Requests that may wait for a connection of a pool; the next one is answered 429 at once."""
    wait_s_max: Seconds = 5.0

    requests_per_s: Annotated[float, Field(gt=0)] = 50.0
    """Of one token, on average."""
    requests_burst: Count = 100
    """And at once."""
    downloads_max: Count = max(1, (os.cpu_count() or 2) // 2)
    """Slices that are read from the database at the same time for all tokens together; others wait their turn. Half of
    the cores, so that people, the sink and the stage find one free."""
    downloads_of_one_max: Count = 4
    """Data streams that one token may have open; the next one is answered 429."""
    rows_max: Count = 50_000_000
    """Readings in one stream: six years at 10 minutes of 150 sensors. More is an export job."""
    upload_bytes_max: Count = 1_000_000_000
    incoming: Annotated[Path | None, Field(validation_alias="TELLTALE_IMPORT_INCOMING")] = None
    """Where uploads are put for the import service, which has the same setting; by default in the stack's folder."""
    uploads_max: Count = 4
    """At the same time."""
    live_clients_max: Count = 200
    """Open event streams; each may be `live_behind_max` events behind."""
    live_behind_max: Count = 1_000

    @property
    def address(self) -> str:
        """Where people reach the pages."""
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")
