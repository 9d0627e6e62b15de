"""The stack in a folder: what runs there and at which addresses. Reads and writes `state.json`, starts nothing.

Light to import, for the edge asks it for the broker's address.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from infra.processes import Identity
from schemas.errors import Refused, Unavailable

FOLDER = ".telltale"
STATE = "state.json"
WORKING = ("running", "done")


@dataclass(frozen=True, slots=True)
class Service:
    """One part of the stack as its supervisor last saw it."""

    name: str
    state: str
    """waiting, starting, running, done (a task that was carried out), restarting, stopped."""
    process: Identity | None = None
    restarts: int = 0
    since_s: float = 0.0
    """When the process was started, in seconds since 1970."""
    stop_signal: int = 15
    metrics: str | None = None
    """Where it answers /metrics; /healthz and /readyz are beside it."""

    def now(self) -> "Service":
        """The same, believing the system more than the record: a supervisor that was killed notes no deaths."""
        if self.process is None or self.process.lives():
            return self
        gone = "done" if self.state == "done" else "stopped"
        return replace(self, state=gone, process=None)

    def told(self) -> dict[str, Any]:
        """For people and scripts."""
        return {
            "name": self.name,
            "state": self.state,
            "pid": self.process.pid if self.process else None,
            "restarts": self.restarts,
            "uptime_s": round(time.time() - self.since_s, 1) if self.process else None,
            "metrics": self.metrics,
        }


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as recorded in its folder."""

    folder: Path
    supervisor: Identity
    kafka: str | None = None
    database: str | None = None
    dashboard: str | None = None
    devices: str | None = None
    """Where devices are let in by password, if they are."""
    certificates: str | None = None
    """The same by certificate."""
    asks_who: bool = False
    """Whether its Kafka asks who comes, on loopback too."""
    services: tuple[Service, ...] = ()

    @property
    def is_supervised(self) -> bool:
        return self.supervisor.lives()

    @property
    def is_up(self) -> bool:
        """Whether every part runs, and somebody would start it again if it did not."""
        return self.is_supervised and all(service.now().state in WORKING for service in self.services)

    def write(self) -> None:
        """Replaces the record at once, for readers of any moment. It holds the database's password: 0600."""
        record = asdict(self) | {"folder": str(self.folder)}
        coming = self.folder / f"{STATE}.coming"
        with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(record, file, indent=1)
        coming.replace(self.folder / STATE)


def folder(named: str | os.PathLike[str] | None = None) -> Path:
    """The stack's folder: `named` (an option), `TELLTALE_DIR`, or `.telltale` here. Always absolute."""
    return Path(named or os.environ.get("TELLTALE_DIR") or FOLDER).absolute()


def recorded(named: str | os.PathLike[str] | None = None) -> Stack | None:
    """What the folder's record says, also of a stack that was killed. None if nothing was left there."""
    place = folder(named)
    try:
        record = json.loads((place / STATE).read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unavailable(f"{place / STATE} cannot be read: {error}") from error
    try:
        return Stack(
            folder=place,
            supervisor=Identity(**record["supervisor"]),
            kafka=record["kafka"],
            database=record["database"],
            dashboard=record["dashboard"],
            devices=record.get("devices"),
            certificates=record.get("certificates"),
            asks_who=record.get("asks_who", False),
            services=tuple(_services(record["services"])),
        )
    except (AttributeError, KeyError, TypeError):
        raise Unavailable(f"{place / STATE} is no record of a stack, or one of another version of Telltale") from None


def _services(records: list[dict[str, Any]]) -> Iterable[Service]:
    for each in records:
        yield Service(**{**each, "process": Identity(**each["process"]) if each["process"] else None})


def locate(named: str | os.PathLike[str] | None = None) -> Stack:
    """The stack that runs in the folder. Raises `Unavailable` if none does."""
    stack = recorded(named)
    if stack is None or not stack.is_supervised:
        here = _short(folder(named))
        raise Unavailable(f"no stack runs in {here}; start one with: telltale up (one elsewhere: TELLTALE_DIR=FOLDER)")
    return stack


def kafka_address(explicit: str | None = None) -> str:
    """Where Kafka is: `explicit` (an option), `TELLTALE_KAFKA`, or the stack in `TELLTALE_DIR`."""
    if address := explicit or os.environ.get("TELLTALE_KAFKA"):
        return _addresses(address, "--kafka" if explicit else "TELLTALE_KAFKA")
    if address := locate().kafka:
        return address
    raise Unavailable(f"the stack in {_short(folder())} runs no Kafka; name one with TELLTALE_KAFKA")


def database_dsn(explicit: str | None = None) -> str:
    """Where the database is: `explicit` (an option), `TELLTALE_DATABASE`, or the stack in `TELLTALE_DIR`."""
    if dsn := explicit or os.environ.get("TELLTALE_DATABASE"):
        return dsn
    if dsn := locate().database:
        return dsn
    raise Unavailable(f"the stack in {_short(folder())} runs no database; name one with TELLTALE_DATABASE")


def _addresses(text: str, option: str) -> str:
    """Brokers as librdkafka takes them; what cannot be an address is told at once, and not as one that is silent."""
    for each in text.split(","):
        host, colon, port = each.strip().partition(":") if each.count(":") == 1 else (each.strip(), "", "")
        is_port = not colon or (port.isdecimal() and 0 < int(port) < 65_536)
        if not host or not is_port or any(letter.isspace() or not letter.isprintable() for letter in host):
            raise Refused(f'{option}: expected HOST:PORT, or several with commas, got "{text}"')
    return text


def _short(place: Path) -> str:
    """As the user would write it: relative when it is below the working folder."""
    return os.path.relpath(place) if place.is_relative_to(Path.cwd()) else str(place)
