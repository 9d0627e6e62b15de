"""What streams/README.md shows is true."""

import re
from pathlib import Path

from schemas import quality
from schemas.alarm_rules import DEFAULTS
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


def test_the_readme_tells_the_rules_that_every_device_has() -> None:
    table = TEXT.partition("| by default | severity")[2].partition("\n\n")[0]
    told = {at[1]: at[2] for at in re.finditer(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE)}
    assert told == {rule.name: rule.severity for rule in DEFAULTS}


def test_the_readme_tells_what_the_bits_of_tests_mean() -> None:
    told = TEXT.partition("Bits in `tests` say")[2].partition("\n\n")[0]
    assert {int(bit) for bit in re.findall(r"\b(\d+) [a-z`]", told)} == {int(bit) for bit in quality.Test}
