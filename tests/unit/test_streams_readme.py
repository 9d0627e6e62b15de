"""What streams/README.md shows is true."""

import re
from pathlib import Path

from streams.sequences import RANGES_MAX, SPOOLS_MAX

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "streams" / "README.md").read_text()


def test_the_readmes_example_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(block, "streams/README.md", "exec"), {})


def test_the_readme_names_every_file_of_the_core() -> None:
    files = {path.name for path in (ROOT / "streams").glob("*.py")} - {"__init__.py", "cli.py", "settings.py"}
    assert {name for name in files if f"`{name}`" not in TEXT} == set()


def test_the_readme_tells_the_bounds() -> None:
    assert f"{RANGES_MAX} ranges in {SPOOLS_MAX}\n" in TEXT
