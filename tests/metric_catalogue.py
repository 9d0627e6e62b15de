"""The metrics that the code registers, and those that infra/telemetry/README.md lists."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[1]
README = ROOT / "infra" / "telemetry" / "README.md"
PACKAGES = ("infra", "producers", "streams", "sinks", "dashboard")
ROW = re.compile(r"^\| `(?P<name>\w+)` \| (?P<kind>\w+) \| (?P<labels>[^|]*) \| (?P<about>[^|]*) \|$", re.MULTILINE)


class Entry(NamedTuple):
    """One metric. `name` is as Prometheus stores it: counters end in _total."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str

    def row(self) -> str:
        labels = ", ".join(f"`{label}`" for label in self.labels)
        return f"| `{self.name}` | {self.kind} | {labels} | {self.about} |"

    @property
    def series(self) -> set[str]:
        """What may stand in a query."""
        return (
            {f"{self.name}_{part}" for part in ("bucket", "sum", "count")} if self.kind == "histogram" else {self.name}
        )


def listed() -> dict[str, Entry]:
    """Of the README."""
    rows = (
        Entry(at["name"], at["kind"], tuple(re.findall(r"\w+", at["labels"])), at["about"])
        for at in ROW.finditer(README.read_text())
    )
    return {row.name: row for row in rows}


def registered() -> dict[str, Entry]:
    """Of every module that names metrics."""
    from infra.telemetry.registry import REGISTRY
    from infra.telemetry.serving import HealthMetrics
    from producers.measured import EdgeMetrics

    for path in sorted(path for top in PACKAGES for path in (ROOT / top).rglob("measured.py")):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    found = {}
    for collector in {id(each): each for each in REGISTRY._collector_to_names}.values():
        for family in collector.collect():
            entry = of(family, getattr(collector, "_labelnames", None))
            found[entry.name] = entry
    for made in (HealthMetrics(), EdgeMetrics()):
        for family in made.describe():
            entry = of(family, getattr(family, "_labelnames", ()))
            found[entry.name] = entry
    return found


def of(family: Metric, labels: tuple[str, ...] | None) -> Entry:
    if labels is None:  # the process and the platform
        labels = tuple(family.samples[0].labels) if family.samples else ()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Entry(name, family.type, tuple(labels), family.documentation)


def scraped(text: str) -> Iterator[Entry]:
    """What a process has said; `labels` are those of its first series."""
    for family in text_string_to_metric_families(text):
        labels = tuple(each for each in (family.samples[0].labels if family.samples else ()) if each != "le")
        yield of(family, labels)
