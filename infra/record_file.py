"""A small record on disk, of which there is the old or the new at any moment, whenever the machine stops."""

import json
import os
from pathlib import Path

from pydantic import BaseModel


def write(path: Path, record: BaseModel) -> None:
    """Writes JSON so that at any moment there is the old or the new."""
    coming = path.with_name(path.name + ".coming")
    with os.fdopen(os.open(coming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(record.model_dump(mode="json"), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    coming.replace(path)
