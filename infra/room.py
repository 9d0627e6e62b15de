"""How much room is left where files are put: one number for who takes uploads and who tells of it. Knows the disk."""

import shutil
from pathlib import Path

from schemas.errors import Unavailable

SPARE_BYTES = 500_000_000
"""So much disk stays free of uploads: the database and the broker may live on it."""


def check_room(folder: Path, *, wanted_bytes: int = 0) -> None:
    """Raises `Unavailable` where so much more would leave less than is spared."""
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    if free - wanted_bytes < SPARE_BYTES:
        raise Unavailable(
            f"the disk has no room for uploads: {folder} has {free // 1_000_000:,} MB left, "
            f"and {SPARE_BYTES // 1_000_000} MB of it stay free"
        )
