"""BENCHMARKS.md: what each benchmark measures, its last figures with the machine and the load they were taken on, and
where another wins, with the reason. Texts are those of the benchmarks' own modules at each writing."""

import ast
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

Written by `make bench`; each section is the last run of one benchmark (`tests/bench/bench_NAME.py`). A figure's share
is of the limit or the peer that was measured in the same run; compare within a section only, as the machine's noise
from run to run is a third. Of several runs figure and share are each the median of theirs, so that one need not follow
from the other. Where another wins, it is said below the table.
"""
VERSIONS = ("confluent-kafka", "faust-streaming", "fastavro", "numpy", "psycopg", "pyarrow")
HEAD = "| what | figure | of the limit |"


def write(name: str, figures: Sequence[Figure], *, rounds: int, load: float) -> None:
    """Puts the figures of one benchmark in the place of its last ones; the texts of all are made anew."""
    measured = _measured(PATH.read_text()) if PATH.exists() else {}
    measured[name] = _table(figures, rounds=rounds, load=load)
    PATH.write_text(book(measured))


def book(measured: dict[str, str]) -> str:
    """The whole text, of what was measured of each benchmark (line of circumstances and table)."""
    parts = [ABOUT]
    for name in sorted(measured):
        about, wins = _texts(name)
        parts += [f"## {name}\n", f"{about}\n", measured[name], *([f"{wins}\n"] if wins else [])]
    return "\n".join(parts)


def _texts(name: str) -> tuple[str, str]:
    """What a benchmark says of itself, and of where another wins (`WINS`), without running it."""
    module = ast.parse((Path(__file__).parent / f"bench_{name}.py").read_text())
    wins = [
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "WINS"
    ]
    return ast.get_docstring(module) or "", wins[0].strip() if wins else ""


def _measured(text: str) -> dict[str, str]:
    found = {}
    for part in text.split("\n## ")[1:]:
        name, _, body = part.partition("\n")
        lines = body.splitlines()
        table = lines.index(HEAD)
        end = next((at for at in range(table, len(lines)) if not lines[at]), len(lines))
        found[name] = "\n".join(lines[table - 2 : end]) + "\n"
    return found


def _table(figures: Sequence[Figure], *, rounds: int, load: float) -> str:
    rows = "".join(
        f"| {each.what} | {each.value:,} {each.unit} | {'' if each.of_limit is None else f'{each.of_limit:.0%}'} |\n"
        for each in figures
    )
    runs = "one run" if rounds == 1 else f"medians of {rounds} runs"
    return f"{_circumstances(runs, load)}\n\n{HEAD}\n| --- | ---: | ---: |\n{rows}"


def _circumstances(runs: str, load: float) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    libraries = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, {runs}; {platform.machine()}, "
        f"{os.cpu_count()} cores, load {load:.1f} at the start; Python {platform.python_version()}, {libraries}."
    )
