"""`notify.toml`: ways out of the house, routes to them, and what keeps quiet when. Knows the file; sends nothing.

Secrets stand in files or environment variables of their own, never here: the file may be shown and kept in git.
"""

import os
import tomllib
from collections.abc import Mapping
from datetime import datetime, time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from schemas.alarms import Alarm, AlarmState, Severity
from schemas.errors import Refused

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
RANK = {severity: rank for rank, severity in enumerate(Severity)}  # 0 is the worst


class Strict(BaseModel):
    """A table of the file: what is not known is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(Strict):
    """Where a secret is to be found."""

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one(self) -> "Secret":
        if (self.file is None) == (self.env is None):
            raise ValueError('name one place: { file = "/etc/telltale/secret" } or { env = "NAME" }')
        return self

    def read(self) -> str:
        """Raises `Refused`, without the secret."""
        if self.env is not None:
            if found := os.environ.get(self.env):
                return found
            raise Refused(f"notify: the environment variable {self.env} is not set")
        assert self.file is not None  # noqa: S101 - one of the two is there
        try:
            return self.file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Refused(f"notify: {self.file} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Refused(f"notify: {self.file} cannot be read: it is no UTF-8") from None


class Email(Strict):
    """By SMTP."""

    kind: Literal["email"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    ca_file: Path | None = None  # a certificate authority of one's own
    user: str | None = None
    password: Secret | None = None
    sender: str
    to: Annotated[list[str], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0

    @model_validator(mode="after")
    def _safe(self) -> "Email":
        if self.tls == "none" and (self.host not in LOOPBACK or self.password is not None):
            raise ValueError('tls = "none" is for a mail server on this machine, without a password')
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together")
        return self


class Webhook(Strict):
    """By HTTP POST of a CloudEvents batch, signed as Standard Webhooks does."""

    kind: Literal["webhook"]
    url: str
    secret: Secret | None = None
    ca_file: Path | None = None
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 15.0

    @field_validator("url")
    @classmethod
    def _http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        try:
            parts = urlsplit(url)
            fine = bool(parts.hostname) and parts.port != 0
        except ValueError:
            fine = False
        if not fine or not url.isprintable() or " " in url:
            raise ValueError("must be an address such as https://chat.example.org/hooks/telltale")
        return url


class Command(Strict):
    """By a program of one's own: the CloudEvents batch on its standard input. Exit code 0 means delivered."""

    kind: Literal["command"]
    command: Annotated[list[str], Field(min_length=1)]
    timeout_s: Annotated[float, Field(gt=0, le=300)] = 30.0


Way = Annotated[Email | Webhook | Command, Field(discriminator="kind")]


class Match(Strict):
    """Which alarms; what is left out matches all. Names may hold * and ?."""

    severity: Severity | None = None  # this one and worse
    rules: list[str] = ["*"]
    stations: list[str] = ["*"]
    devices: list[str] = ["*"]
    sources: list[str] = ["*"]

    def takes(self, alarm: Alarm) -> bool:
        """Whether the alarm is one of them."""
        return (
            (self.severity is None or RANK[alarm.severity] <= RANK[self.severity])
            and _any(self.rules, alarm.rule)
            and _any(self.stations, alarm.station_id or "")
            and _any(self.devices, alarm.device_id or "")
            and _any(self.sources, alarm.source)
        )


def _any(patterns: list[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Quiet(Strict):
    """Hours in which nobody is told, except of what is worse than `holds`."""

    begin: time = Field(alias="from")
    end: time = Field(alias="to")
    zone: str = "UTC"
    days: list[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]] = Field(
        default=["mon", "tue", "wed", "thu", "fri", "sat", "sun"], description="on which it begins"
    )
    holds: Severity = Severity.MAJOR  # this one and milder; worse goes through

    @field_validator("zone")
    @classmethod
    def _known(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f'no time zone "{zone}"; such as Europe/Berlin') from None
        return zone

    def covers(self, now: datetime) -> bool:
        """Whether `now` is quiet. A span over midnight belongs to the day on which it begins."""
        local = now.astimezone(ZoneInfo(self.zone))
        days = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
        today, yesterday = days[local.weekday()], days[local.weekday() - 1]
        at = local.time()
        if self.begin <= self.end:
            return today in self.days and self.begin <= at < self.end
        return (today in self.days and at >= self.begin) or (yesterday in self.days and at < self.end)


class Route(Match):
    """Alarms on their way to ways."""

    name: str
    ways: Annotated[list[str], Field(min_length=1)]
    states: list[AlarmState] = [AlarmState.RAISED, AlarmState.CLEARED]
    group_by: list[Literal["station", "device", "rule", "source", "severity"]] = ["station"]
    wait_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """How long the first alarm of a group waits for others. Longer than a flood takes to be grouped by the stage."""
    repeat_s: Annotated[float, Field(ge=60)] | None = None
    """Tell again while an alarm stands and nobody has acknowledged it."""
    quiet: Quiet | None = None

    def group(self, alarm: Alarm) -> str:
        """The group's name, for people: alarms of one group share a notice."""
        known = {
            "station": alarm.station_id or "-",
            "device": alarm.device_id or "-",
            "rule": alarm.rule,
            "source": alarm.source,
            "severity": alarm.severity.value,
        }
        return " ".join(known[each] for each in self.group_by) or "all"


class Inhibit(Strict):
    """While an alarm of `cause` stands, those of `hides` that share `equal` with it are not told."""

    cause: Match
    hides: Match
    equal: list[Literal["station", "device", "source"]] = ["station"]

    def hidden(self, alarm: Alarm, cause: Alarm) -> bool:
        """Whether `cause`, which stands, hides the alarm."""
        if alarm.alarm_id == cause.alarm_id or not (self.hides.takes(alarm) and self.cause.takes(cause)):
            return False
        pairs = {
            "station": (alarm.station_id, cause.station_id),
            "device": (alarm.device_id, cause.device_id),
            "source": (alarm.source, cause.source),
        }
        return all(pairs[each][0] == pairs[each][1] is not None for each in self.equal)


class Config(Strict):
    """The whole file."""

    ways: dict[str, Way]
    routes: Annotated[list[Route], Field(min_length=1)]
    inhibit: list[Inhibit] = []
    alarm_after_s: Annotated[float, Field(gt=0)] = 60.0
    """How long a way may fail before an alarm says so by the others."""
    dashboard: str | None = None  # its address, for links in notices

    @model_validator(mode="after")
    def _ways_exist(self) -> "Config":
        for route in self.routes:
            if unknown := [way for way in route.ways if way not in self.ways]:
                raise ValueError(
                    f'route "{route.name}": no way is called "{unknown[0]}"; there are: {", ".join(self.ways)}'
                )
        names = [route.name for route in self.routes]
        if len(set(names)) < len(names):
            raise ValueError("two routes have the same name")
        return self


def parse(text: str, *, where: str) -> Config:
    """Raises `Refused` with the table and key that is wrong."""
    try:
        tables: Mapping[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused(f"{where} is no TOML: {error}") from None
    try:
        return Config.model_validate(tables)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(part) for part in first["loc"] if part not in ("email", "webhook", "command"))
        said = first["msg"].removeprefix("Value error, ")
        raise Refused(f"{where}: {at + ': ' if at else ''}{said}" + _got(first["input"])) from None


def _got(value: Any) -> str:
    return f", got {value!r}" if isinstance(value, str | int | float | bool) else ""


def read(path: Path) -> Config:
    """The file. Raises `Refused`."""
    try:
        return parse(path.read_text(encoding="utf-8"), where=str(path))
    except UnicodeDecodeError as error:
        raise Refused(f"{path} is no UTF-8 at its byte {error.start + 1}; save it as UTF-8") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}; `telltale notify example` shows one") from None
