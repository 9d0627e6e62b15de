"""The parts of a stack: how each is started and how it is known to work. Runs none of them; `supervisor` does."""

import os
import signal
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from infra.accounts import Account, unprivileged
from infra.client import Access
from infra.kafka import broker
from infra.kafka.cluster import KAFKA
from infra.postgres import server
from infra.readiness import READY_FILE
from schemas.errors import Refused, Unavailable

POSTGRES = "postgres"


KAFKA_STOP_S_MAX = 30.0


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to be started."""

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack. `launch` is asked before each start and may prepare files; `ready` is a probe that
    may be called at any time and blocks for two seconds at most."""

    name: str
    launch: Callable[[], Launch]
    ready: Callable[[], bool]
    once: bool = False
    metrics: str | None = None
    """Where it answers /metrics, and /healthz and /readyz beside it."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s_max: float = 20.0
    """A stream worker commits its last batch, PostgreSQL writes a checkpoint: seconds. Beyond this it is killed."""
    ready_s_max: float = 90.0
    """Ten times what the slowest part needs on two busy cores; longer only delays the bad news."""
    group: str | None = None
    """Neighbours of one group are started together, for none of them works before the others run, and are asked to
    stop together."""


def kafka_part(name: str, one: broker.Broker, folder: Path, who: Access | None = None) -> Part:
    """A node of the stack in `folder`. Where it asks who comes, `who` is the operator, who gives the others their
    passwords and rights as soon as it answers."""

    def launch() -> Launch:
        class_path = broker.prepared_class_path()
        one.prepare(class_path=class_path)
        return Launch(one.command(class_path=class_path), env=one.environment(), cwd=one.folder)

    def ready() -> bool:
        if not broker.answers(one.address, node_id=one.node_id, who=who):
            return False
        return who is None or _principals_known(one.address, who, folder)

    return Part(name, launch, ready, stop_s_max=KAFKA_STOP_S_MAX, group=KAFKA)


def _principals_known(address: str, who: Access, folder: Path) -> bool:
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - only where it is asked who comes

    from infra.client import connection  # noqa: PLC0415
    from infra.security import principals  # noqa: PLC0415

    try:
        principals.ensure(AdminClient(connection(address, who)), folder)
    except (Refused, Unavailable):  # among several, the others may not be there yet
        return False
    return True


def postgres_part(one: server.Server) -> Part:
    def launch() -> Launch:
        one.prepare()
        return Launch(one.command(), cwd=one.place, account=unprivileged())

    def ready() -> bool:
        import psycopg  # noqa: PLC0415 - the edge imports this package's neighbours without it

        if not server.answers(one.dsn("postgres")):
            return False
        try:
            server.ensure_database(one.dsn("postgres"), server.DATABASE)
        except psycopg.OperationalError:  # it has ended since it answered
            return False
        return True

    return Part(POSTGRES, launch, ready, stop_signal=server.STOP_SIGNAL, stop_s_max=30)


def service_part(
    name: str,
    words: Sequence[str],
    *,
    folder: Path,
    env: Mapping[str, str],
    once: bool = False,
    metrics: str | None = None,
) -> Part:
    """A part that is a command of telltale's own, announced by a file in the stack's folder."""
    ready_file = folder / "ready" / name

    def launch() -> Launch:
        ready_file.parent.mkdir(exist_ok=True)
        ready_file.unlink(missing_ok=True)
        # -P: a folder called `infra` where the user stands must not be taken for ours.
        command = [sys.executable, "-P", "-m", "infra.command", *words]
        return Launch(command, env={**env, READY_FILE: str(ready_file), "PYTHONUNBUFFERED": "1"})

    return Part(name, launch, ready_file.exists, once=once, metrics=metrics)


def declared() -> dict[str, dict[str, object]]:
    """The services of `parts.toml`, in order."""
    return tomllib.loads((files("infra") / "parts.toml").read_text())


def chosen(only: str | None) -> list[str]:
    """The names of the parts to run: all that are wanted here, or those of a list such as "kafka,postgres". Raises
    `Refused`."""
    services = declared()
    known = [KAFKA, POSTGRES, *services]
    if only is None:
        unwanted = {
            name for name, entry in services.items() if "where" in entry and not os.environ.get(str(entry["where"]))
        }
        return [name for name in known if name not in unwanted]
    asked = [name.strip() for name in only.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise Refused(f'--only: expected some of {",".join(known)}, got "{name}"')
    if not asked:
        raise Refused(f"--only: expected some of {','.join(known)}, got nothing")
    return [name for name in known if name in asked]
