"""Under whose name a server runs. PostgreSQL refuses to run as root, so root lends it an unprivileged account.

Adds no users and changes no folder that is not ours: data goes where the account can already get to.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import Unavailable

LENDERS = ("postgres", "nobody")
PLACES = (Path("/var/lib/telltale"), Path("/var/tmp/telltale-places"))  # noqa: S108 - checked to be root's before use
"""Where root puts what an unprivileged account must reach, when the stack's own folder cannot be entered by it.
The second is for systems whose /var/lib cannot be written."""


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int

    def popen(self) -> dict[str, Any]:
        """What `subprocess` needs to run a command under this account, with no group of ours left."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def can(self, test: str, path: Path) -> bool:
        """Asks the system itself: `test` is a shell test such as -x. Permissions above `path` count, and ACLs."""
        asked = subprocess.run(
            ["/bin/sh", "-c", f'test {test} "$1"', "sh", str(path)], cwd="/", check=False, **self.popen()
        )
        return asked.returncode == 0

    def own(self, path: Path) -> None:
        os.chown(path, self.uid, self.gid)


def unprivileged() -> Account | None:
    """None for a plain user, who runs servers as himself; for root the account that it lends."""
    if os.geteuid() != 0:
        return None
    for name in LENDERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise Unavailable(f"PostgreSQL does not run as root, and this machine has no account of {' or '.join(LENDERS)}")


def place_for(account: Account, wanted: Path) -> Path:
    """A new folder owned by `account`: `wanted` itself if the account can get there, else one in `PLACES`."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if account.can("-x", wanted.parent):
        wanted.mkdir(mode=0o700, exist_ok=True)
        account.own(wanted)
        return wanted
    place = Path(tempfile.mkdtemp(prefix="stack-", dir=shared_place()))
    account.own(place)
    return place


def shared_place() -> Path:
    """Root's folder that everybody can enter and nobody else can write."""
    for place in PLACES:
        try:
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
            found = place.lstat()
        except OSError:
            continue
        # In a folder that all can write, somebody may have been here first, or laid a link.
        if place.is_dir() and not place.is_symlink() and found.st_uid == 0 and not found.st_mode & 0o022:
            return place
    raise Unavailable(f"none of {', '.join(map(str, PLACES))} can be made; give a database with TELLTALE_DATABASE")


def readable_copy(tree: Path, *, name: str, parts: tuple[str, ...]) -> Path:
    """A copy of `parts` of `tree` that every account can read, made once for each `name`."""
    copy = shared_place() / name
    if not copy.exists():
        making = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=copy.parent))
        try:
            for part in parts:
                shutil.copytree(tree / part, making / part, symlinks=True)
            making.chmod(0o755)
            making.rename(copy)
        except OSError:
            shutil.rmtree(making, ignore_errors=True)
            if not copy.exists():  # another stack may have been quicker
                raise
    return copy
