"""What deployment files may name: environment variables that somebody reads."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def _sources() -> str:
    tops = ("infra", "sinks", "dashboard", "streams", "producers")
    return "\n".join(path.read_text() for top in tops for path in (ROOT / top).rglob("*.py"))


def is_read_by_somebody(name: str) -> bool:
    """Whether the packages name the environment variable, or have settings with a field of it."""
    if f'"{name}"' in _sources():
        return True
    for at in re.finditer("_", name):
        prefix, field = name[: at.start()], name[at.end() :].lower()
        for found in re.finditer(rf'env_prefix="{prefix}_"', _sources()):
            if re.search(rf"^    {field}: ", _sources()[found.end() : found.end() + 8000], re.MULTILINE):
                return True
    return False
