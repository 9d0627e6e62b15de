"""BENCHMARKS.md: the last figures of each benchmark, with the machine and the load they were taken on."""

import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench_stack import Figure

PATH = Path(__file__).parents[2] / "BENCHMARKS.md"
ABOUT = """# Benchmarks

Written by `make bench`; each section is the last run of one benchmark. A figure's share is of the limit or the peer
that was measured in the same run; compare within a section only, as the machine's noise from run to run is a third.
What each measures is said at the top of `tests/bench/bench_NAME.py`.
"""
VERSIONS = ("confluent-kafka", "faust-streaming", "fastavro", "numpy", "psycopg", "pyarrow")


def write(name: str, figures: Sequence[Figure], *, rounds: int, load: float) -> None:
    """Puts the section of one benchmark in the place of its last one."""
    sections = _sections(PATH.read_text()) if PATH.exists() else {}
    sections[name] = _section(figures, rounds=rounds, load=load)
    PATH.write_text(ABOUT + "".join(f"\n## {each}\n\n{sections[each]}" for each in sorted(sections)))


def _sections(text: str) -> dict[str, str]:
    found = {}
    for part in text.split("\n## ")[1:]:
        name, _, body = part.partition("\n")
        found[name] = body.strip("\n") + "\n"
    return found


def _section(figures: Sequence[Figure], *, rounds: int, load: float) -> str:
    rows = "".join(
        f"| {each.what} | {each.value:,} {each.unit} | {'' if each.of_limit is None else f'{each.of_limit:.0%}'} |\n"
        for each in figures
    )
    runs = "one run" if rounds == 1 else f"medians of {rounds} runs"
    return f"{_about(runs, load)}\n\n| what | figure | of the limit |\n| --- | ---: | ---: |\n{rows}"


def _about(runs: str, load: float) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    libraries = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, {runs}; {platform.machine()}, "
        f"{os.cpu_count()} cores, load {load:.1f} at the start; Python {platform.python_version()}, {libraries}."
    )
