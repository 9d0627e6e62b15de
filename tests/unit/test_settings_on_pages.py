"""What can be set by the environment is on a page, and what the pages say can be set is read by somebody."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from deployed import is_read_by_somebody
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
PACKAGES = ("dashboard", "infra", "producers", "sinks", "streams")
PAGES = "\n".join(
    path.read_text()
    for path in sorted(ROOT.rglob("*.md"))
    if not {".venv", ".venv-bench", "node_modules"} & set(path.relative_to(ROOT).parts)
)
NOT_OURS = re.compile(r"TELLTALE_(BENCH_\w+|FAULT_\w+|TEST_\w+|SCREENSHOTS|READER|URL|TOKEN)")
"""What tests and benchmarks read, and what a person's own notebook is given."""


def settings() -> Iterator[tuple[str, str]]:
    """(prefix of the variable, field) of all there are."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "(BaseSettings)" in path.read_text():
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for each in BaseSettings.__subclasses__():
        if each.__module__.partition(".")[0] in PACKAGES:
            yield from ((str(each.model_config["env_prefix"]), name) for name in each.model_fields)


@pytest.mark.parametrize(("prefix", "name"), sorted(settings()))
def test_a_setting_is_on_a_page(prefix: str, name: str) -> None:
    assert prefix in PAGES
    assert re.search(rf"\b({prefix}{name.upper()}|_?{name.upper()}|{name})\b", PAGES), f"{prefix}{name.upper()}"


@pytest.mark.parametrize("variable", sorted(set(re.findall(r"TELLTALE_[A-Z0-9_]*[A-Z0-9]\b", PAGES))))
def test_a_variable_on_a_page_is_read_by_somebody(variable: str) -> None:
    assert NOT_OURS.fullmatch(variable) or is_read_by_somebody(variable)
