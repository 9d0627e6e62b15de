"""What the pages point to is there."""

import re
from pathlib import Path

import pytest

from dashboard.exports import told as exports
from infra.backup import alarms as backup
from infra.watchdog import findings as watchdog
from producers.imports.upkeep import alarms as imports
from schemas.alarm_rules import DEFAULTS
from sinks.notify.notifier import UNDELIVERED
from sinks.timescale import alarms as sink
from streams.alarms.panel import OWN
from streams.alarms.rules import STAGE_BEHIND

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", ".venv-bench", "node_modules"} & set(path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/.]+)`", README))))
def test_tests_that_the_readme_names_exist(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Of its headings, as they are made of their words."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 250


RULES = [
    *(rule.name for rule in DEFAULTS),
    *OWN,
    STAGE_BEHIND,
    *watchdog.Rule,
    *backup.Rule,
    *(sink.WAITING, sink.LOG_LOST),
    *imports.CLEARED,
    *exports.Rule,
    UNDELIVERED,
]


@pytest.mark.parametrize("rule", RULES)
def test_an_alarm_is_explained(rule: str) -> None:
    assert any(f"`{rule}`" in page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
