"""What this machine has of what a stack needs, and how to get what it lacks. Looks; changes and downloads nothing."""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from infra import java, ports
from infra.accounts import unprivileged
from infra.cache import cache_dir
from infra.kafka import jars
from infra.postgres import programs
from infra.up import DISK_BYTES_MIN
from schemas.errors import Refused, Unavailable

PYTHON_MIN = (3, 11)
PACKAGES = ("confluent_kafka", "faust", "psycopg", "fastapi", "httpx", "cryptography", "jgo")
"""One of each extra that the parts of a stack need; an edge has fewer."""


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    ok: bool
    found: str
    """What there is, or what is missing and how to get it."""


def examine(folder: Path, *, kafka_port: int | None = None, postgres_port: int | None = None) -> Iterator[Finding]:
    """One finding after another; the ports only where asked for."""
    yield Finding("python", sys.version_info >= PYTHON_MIN, f"Python {platform.python_version()}")
    yield _asked("packages", _packages)
    yield _asked("java", _java)
    yield _asked("kafka", _jars)
    yield _asked("postgres", _postgres)
    yield _asked("disk", lambda: _disk(folder))
    yield _asked("folder", lambda: _writable(folder))
    yield _asked("cache", lambda: _writable(cache_dir()))
    for name, port in (("kafka", kafka_port), ("postgres", postgres_port)):
        if port:
            yield _asked(f"port {port}", lambda port=port, name=name: _port(port, name))  # type: ignore[misc] # defaults bind the loop's values
    yield _asked("loopback", lambda: f"port {ports.free()} and others are free on {ports.LOOPBACK}")


def _asked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, ok=True, found=look())
    except (Refused, Unavailable) as trouble:
        return Finding(name, ok=False, found=str(trouble))


def _packages() -> str:
    # Faust, once imported, has no spec to be found.
    missing = [name for name in PACKAGES if name not in sys.modules and find_spec(name) is None]
    if missing:
        raise Refused(f"{', '.join(missing)}: install Telltale with all extras (pip install '.[all]', or make setup)")
    return "those of all parts"


def _java() -> str:
    if address := os.environ.get("TELLTALE_KAFKA"):
        return f"not needed: Kafka is at {address} (TELLTALE_KAFKA)"
    found = java.find()
    return f"Java {found.major} by {found.found_by}: {found.program}"


def _jars() -> str:
    folder = cache_dir() / f"kafka-{jars.kafka_version()}"
    missing = [jar for jar in jars.locked() if not jar.is_at(folder / jar.filename)]
    size = sum(jar.size_bytes for jar in missing)
    if not missing:
        return f"Kafka {jars.kafka_version()} in {folder}"
    return f"Kafka {jars.kafka_version()}: {size // 1_000_000} MB will be downloaded at the first start"


def _postgres() -> str:
    if os.environ.get("TELLTALE_DATABASE"):
        return "not needed: TELLTALE_DATABASE names a database"
    account = unprivileged()
    found = programs.find()
    under = f", runs as {account.name}" if account else ""
    return f"PostgreSQL {found.major} by {found.found_by}: {found.folder}{under}"


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.parents) if each.exists())


def _disk(folder: Path) -> str:
    free = shutil.disk_usage(_existing(folder)).free
    if free < DISK_BYTES_MIN:
        raise Unavailable(f"{free // 1_000_000} MB left for {folder}, a stack needs {DISK_BYTES_MIN // 1_000_000} MB")
    return f"{free // 1_000_000} MB left for {folder}"


def _writable(folder: Path) -> str:
    there = _existing(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise Refused(f"{there} cannot be written; name another folder with --dir (or TELLTALE_CACHE for the cache)")
    return f"{folder} can be written"


def _port(port: int, name: str) -> str:
    ports.asked_for(port, option=f"--{name}-port")
    return "is free"
