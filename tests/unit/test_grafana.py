"""Dashboards of Grafana and rules of Prometheus name what exists. Their SQL is tried in test_readers.py."""

import json
import re
from pathlib import Path

import promql
import pytest
import yaml
from metric_catalogue import listed

INFRA = Path(__file__).parents[2] / "infra"
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((INFRA / "grafana" / "dashboards").glob("*.json"))}
RULES = [
    rule
    for group in yaml.safe_load((INFRA / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
SOURCES = {
    source["uid"]: source["type"]
    for source in yaml.safe_load((INFRA / "grafana/provisioning/datasources/telltale.yaml").read_text())["datasources"]
}
TARGETS = [
    (f"{name}: {panel['title']}", target)
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel.get("targets", ())
]
QUERIES = [(where, target["expr"]) for where, target in TARGETS if "expr" in target]
QUERIES += [(rule["alert"], rule["expr"]) for rule in RULES]
SCRAPED = {"job", "instance", "service", "le"}
"""Labels that Prometheus itself adds, and those of buckets."""
FROM_PROMETHEUS = {"up": {"job", "instance", "service"}}
DESCRIBED = {series: entry for entry in listed().values() for series in entry.series}


@pytest.mark.parametrize(("where", "expr"), QUERIES, ids=[f"{at}-{where}" for at, (where, _) in enumerate(QUERIES)])
def test_every_query_names_metrics_and_labels_that_exist(where: str, expr: str) -> None:
    named = promql.read(expr)
    assert named.metrics, expr
    assert named.metrics <= DESCRIBED.keys() | FROM_PROMETHEUS.keys()
    known = {label for name in named.metrics if name in DESCRIBED for label in DESCRIBED[name].labels}
    assert named.labels <= known | SCRAPED


@pytest.mark.parametrize(
    "expr",
    [
        "rate(telltale_ready)",
        "sum by (service (up)",
        "rats(up[5m])",
        "up{job=~telltale}",
        "up +",
        "up up",
        "rate(up[5])",
        'sum(up{job="x"',
        "time(up[5m])",
    ],
)
def test_what_is_no_promql_is_refused(expr: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no function|wants a range|no PromQL|takes nothing"):
        promql.read(expr)


def test_an_unknown_metric_is_seen() -> None:
    assert promql.read("sum by (x) (rate(telltale_no_such_total[5m])) > 0 and up") == (
        {"telltale_no_such_total", "up"},
        {"x"},
    )


@pytest.mark.parametrize("name", BOARDS)
def test_boards_are_whole(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == f"telltale-{name}"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        if panel["type"] == "row":
            continue
        for each in (panel, *panel["targets"]):
            assert SOURCES[each["datasource"]["uid"]] == each["datasource"]["type"]
        assert all(("expr" in target) == (target["datasource"]["uid"] == "prometheus") for target in panel["targets"])
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$(?!__)(\w+)", json.dumps([panel.get("targets") for panel in board["panels"]])))
    assert used <= variables


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_rules_say_how_bad_it_is_and_what_to_do(rule) -> None:
    assert rule["labels"]["severity"] in ("critical", "major", "minor", "warning")
    assert rule["annotations"].keys() == {"summary", "description"}
    said = " ".join(rule["annotations"].values())
    by = promql.read(rule["expr"])
    known = {label for name in by.metrics if name in DESCRIBED for label in DESCRIBED[name].labels} | SCRAPED
    assert set(re.findall(r"\$labels\.(\w+)", said)) <= known


def test_the_first_page_of_grafana_is_there() -> None:
    home = "/etc/grafana/dashboards/pipeline.json"
    assert home in (INFRA / "compose.yaml").read_text()
    assert Path(home).stem in BOARDS
