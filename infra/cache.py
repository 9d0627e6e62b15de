"""Where downloads are kept between stacks. Knows one folder and nothing about what is in it."""

import os
from pathlib import Path

from schemas.errors import Unavailable


def cache_dir() -> Path:
    """`TELLTALE_CACHE`, by default `telltale` in the user's cache folder; made when missing."""
    named = os.environ.get("TELLTALE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(named) if named else Path(base) / "telltale"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cache folder {folder}: {error.strerror}; name another one with TELLTALE_CACHE") from error
    return folder.resolve()
