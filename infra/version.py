"""Which version of Telltale this is."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def our_version() -> str:
    try:
        return version("telltale")
    except PackageNotFoundError:  # run from the source alone
        return "unknown"
