"""The fault book: what each fault test saw becomes a row of a table. `make faults` prints it and writes FAULTS.md.

A test states its row with the fixture `book`, after its assertions: figures in it are measured, never expected ones.
With `--faults short` (the default) nothing is printed or written; with `--faults long` only tests with rows run.
"""

import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

BOOK = Path(__file__).parent.parent / "FAULTS.md"
PROPERTY = "fault"  # of a test's report; also how rows come here from pytest-xdist's workers
LONG_S_MAX = 7200
WAIT_S_MAX = float(os.environ.get("TELLTALE_FAULT_WAIT_S", "120"))
"""For what comes in seconds on a quiet machine."""
HEAD = """# The fault book

What was done to Telltale, and what it did. `make faults` makes this file: real brokers, databases and processes on one
machine, each row a test in `tests/fault` or `tests/integration` that fails unless every accepted reading became one row
with its right value, and unless the alarm named was raised and, the trouble over, cleared. `make faults ARGS="-k NAME"`
does some of them again; rows of the others stay, with the date on which they were seen. `make test` does the short form
of most (fewer kills, shorter outages) and writes nothing. Brokers are brief ones (`TELLTALE_KAFKA_BRIEF`), since
2026-11-27. `TELLTALE_FAULT_KILLS` (50), `TELLTALE_FAULT_OUTAGE_S` (120, beyond the alarm) and `TELLTALE_FAULT_SOAK_S`
(1,800) say how long the long form is.

- **accepted**: readings whose acceptance was told to their device. **lost**: accepted, and neither stored nor told of
  as refused. **twice**: more than once in what the stage committed, or in the table.
- **alarm**: its rule and, behind it, seconds from the fault to the alarm in the topic (or in the watchdog's inbox where
  the broker is what is away), then from the mending to its being cleared. The limits are those of the tests, shorter
  than the defaults: silence 4 s, broker or database away 2 s, no progress 5 s, calm after a rejected record 4 s, looks
  each second.
- **recovered**: seconds from the mending until everything accepted by then was stored. Read them beside `load`, the
  machine's load average then.
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. `accepted` counts readings."""

    scenario: str
    done: str
    accepted: int
    lost: int = 0
    twice: int = 0
    alarm: str = "none"
    recovered_s: float | None = None
    seed: int | None = None
    form: str = "short"
    load: float = 0.0  # the machine's, while it was seen
    seen: str = ""

    def cells(self) -> list[str]:
        made = {name: "" if value is None else str(value) for name, value in asdict(self).items()}
        return [made[column.name].replace("|", "/").replace("\n", " ") for column in fields(self)]


COLUMNS = [column.name for column in fields(Row)]
TITLES = {"recovered_s": "recovered (s)", "done": "what was done"}


def table(rows: Iterable[Row]) -> str:
    """As Markdown."""
    head = " | ".join(TITLES.get(name, name) for name in COLUMNS)
    lines = [f"| {head} |", "|" + " --- |" * len(COLUMNS), *(f"| {' | '.join(row.cells())} |" for row in rows)]
    return "\n".join(lines) + "\n"


def read_table(text: str) -> dict[str, Row]:
    """The rows of a book, by scenario."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.removeprefix("| ").removesuffix(" |").split(" | ")]
        if not line.startswith("| ") or len(cells) != len(COLUMNS) or cells[0] == COLUMNS[0] or cells[0] == "---":
            continue
        said = dict(zip(COLUMNS, cells, strict=True))
        found[said["scenario"]] = Row(
            **{name: said[name] for name in ("scenario", "done", "alarm", "form", "seen")},
            **{name: int(said[name]) for name in ("accepted", "lost", "twice")},
            load=float(said["load"]),
            recovered_s=float(said["recovered_s"]) if said["recovered_s"] else None,
            seed=int(said["seed"]) if said["seed"] else None,
        )
    return found


class Book:
    """Of one test: says what form is asked for, takes its rows, shows its progress."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self.is_long = request.config.getoption("--faults") == "long"
        self.kills = int(os.environ.get("TELLTALE_FAULT_KILLS", "50"))  # of the long form
        self.outage_s = float(os.environ.get("TELLTALE_FAULT_OUTAGE_S", "120"))  # beyond the alarm
        self.soak_s = float(os.environ.get("TELLTALE_FAULT_SOAK_S", "1800" if self.is_long else "12"))
        self.began = time.monotonic()

    def tell(self, scenario: str, done: str, *, accepted: int, **seen: Any) -> None:
        """One row. `alarm` as `Seen.told` gives it; seconds are rounded."""
        if seen.get("recovered_s") is not None:
            seen["recovered_s"] = round(seen["recovered_s"], 1)
        row = Row(
            scenario=scenario,
            done=done,
            accepted=accepted,
            form="long" if self.is_long else "short",
            load=round(os.getloadavg()[0], 1),
            seen=f"{datetime.now(UTC):%Y-%m-%d}",
            **seen,
        )
        assert (row.lost, row.twice) == (0, 0), row
        self._request.node.user_properties.append((PROPERTY, json.dumps(asdict(row))))

    def say(self, what: str) -> None:
        """Progress, for who watches a long form."""
        if not self.is_long:
            return
        capture = self._request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"  {time.monotonic() - self.began:6.1f} s  {what}", flush=True)


@pytest.fixture
def book(request: pytest.FixtureRequest) -> Book:
    """Takes the row of a fault test."""
    return Book(request)


@pytest.fixture
def long_form(book: Book) -> None:
    """For what is done in the long form only, or with TELLTALE_FAULT_ALL in the environment."""
    if not book.is_long and "TELLTALE_FAULT_ALL" not in os.environ:
        pytest.skip("in the long form only: make faults")


@dataclass(slots=True)
class _Run:
    """Of this session, in the process that reports."""

    rows: list[Row] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults",
        choices=("short", "long"),
        default="short",
        help="long: only the fault book, in its long form; prints it and writes FAULTS.md",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Reporter(config), "fault-book")


class _Reporter:
    """Gathers rows of all tests, prints and writes them in the end, also after Ctrl-C."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._run = _Run()
        if not hasattr(config, "workerinput"):
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: servers end, what was seen is told

    @property
    def _is_long(self) -> bool:
        return self._config.getoption("--faults") == "long"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if not self._is_long:
            return
        others = [item for item in items if "book" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if "book" in getattr(item, "fixturenames", ())]
        for item in items:
            item.add_marker(pytest.mark.timeout(LONG_S_MAX), append=False)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._run.failed.append(report.nodeid)
        if report.when == "call" and report.passed:
            self._run.rows += [Row(**json.loads(said)) for name, said in report.user_properties if name == PROPERTY]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._is_long:
            return
        if self._run.rows:
            terminalreporter.section("the fault book")
            terminalreporter.write(table(self._run.rows))
            written(self._run.rows)
            terminalreporter.write_line(f"written to {BOOK}")
        for failed in self._run.failed:
            terminalreporter.write_line(f"FAILED, no row: {failed}")


def written(rows: Iterable[Row], path: Path = BOOK) -> None:
    """Puts rows into the book; others that are there stay. Whole or not at all."""
    known = read_table(path.read_text()) if path.exists() else {}
    known |= {row.scenario: row for row in rows}
    text = f"{HEAD}\nLast run: {machine()}.\n\n{table(known.values())}"
    coming = path.with_suffix(".coming")
    coming.write_text(text)
    coming.replace(path)


def machine() -> str:
    """Where and when."""
    from infra.kafka import jars

    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=BOOK.parent
    ).stdout.strip()
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit or 'unknown'}, {cpu}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, Kafka {jars.kafka_version()}"
    )


def _lines(path: str) -> Iterator[str]:
    try:
        yield from Path(path).read_text().splitlines()
    except OSError:
        return
