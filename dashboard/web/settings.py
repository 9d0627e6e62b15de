"""What can be set, by `TELLTALE_DASHBOARD_...` or on the command line. Bounds come with their reason."""

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Seconds = Annotated[float, Field(gt=0, le=3600)]
Count = Annotated[int, Field(ge=1)]
RoleName = Literal["viewer", "operator", "admin"]


class WebSettings(BaseSettings):
    """Settings of `telltale dashboard run`. Broker and database are the stack's: `--kafka`, `--database`."""

    model_config = SettingsConfigDict(
        env_prefix="TELLTALE_DASHBOARD_", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65_535)] = 8080
    url: str | None = None
    """Where people reach the pages, if that is behind a proxy; for links that are printed."""
    behind_tls: bool = False
    """A proxy speaks TLS to the world: cookies get `Secure`, answers Strict-Transport-Security."""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Whose X-Forwarded-For and X-Forwarded-Proto are believed: addresses or networks of our proxies. From others they
    are ignored, so that nobody chooses the address that the audit log and the limits of signing in know."""
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

    oidc_issuer: str | None = None
    """The OpenID Connect provider as its discovery document writes it; unset: people sign in by password only."""
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_client_secret_file: Path | None = None
    """Read at each sign-in, so that it can be changed in place."""
    oidc_name: str | None = None
    """What the button says; by default the issuer's host."""
    oidc_scope: str = "openid profile email"
    oidc_role_claim: str | None = None
    """The claim of the ID token that says the role: a word or a list; `a.b` is b inside a. With it the provider decides
    at each sign-in."""
    oidc_roles: dict[str, RoleName] = {}
    """From values of that claim to roles; the greatest wins."""
    oidc_default_role: RoleName | None = None
    """Of people without such a value; none: they are refused."""

    @field_validator("proxies")
    @classmethod
    def _are_addresses(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for each in proxies:
            ip_network(each)  # says itself what it expects
        return proxies

    @model_validator(mode="after")
    def _oidc_is_whole(self) -> Self:
        if self.oidc_issuer is None:
            return self
        url = urlsplit(self.oidc_issuer)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in ("127.0.0.1", "::1", "localhost")):
            raise ValueError("OIDC_ISSUER: expected https://...; http is for loopback only")
        if not self.oidc_client_id:
            raise ValueError("OIDC_CLIENT_ID: expected beside OIDC_ISSUER")
        if "openid" not in self.oidc_scope.split():
            raise ValueError('OIDC_SCOPE: expected "openid" among them')
        if bool(self.oidc_roles) != (self.oidc_role_claim is not None):
            raise ValueError("OIDC_ROLE_CLAIM and OIDC_ROLES: expected both or neither")
        self.oidc_secret()
        return self

    def oidc_secret(self) -> str:
        """The client's secret. Raises `ValueError`."""
        if (self.oidc_client_secret is None) == (self.oidc_client_secret_file is None):
            raise ValueError("OIDC_CLIENT_SECRET_FILE or OIDC_CLIENT_SECRET: expected one of them")
        if self.oidc_client_secret is not None:
            secret = self.oidc_client_secret.get_secret_value()
        else:
            assert self.oidc_client_secret_file is not None  # noqa: S101 - for mypy
            try:
                secret = self.oidc_client_secret_file.read_text().strip()
            except OSError as error:
                raise ValueError(f"OIDC_CLIENT_SECRET_FILE: {error.strerror}: {error.filename}") from None
        if not secret:
            raise ValueError("OIDC_CLIENT_SECRET: expected a secret, got nothing")
        return secret

    @property
    def oidc_label(self) -> str:
        """Where one signs in instead of here; empty: nowhere."""
        return (self.oidc_name or urlsplit(self.oidc_issuer).netloc) if self.oidc_issuer else ""

    @property
    def address(self) -> str:
        """Where people reach the pages."""
        return (self.url or f"http://{self.host}:{self.port}").rstrip("/")
