"""Metrics and health: the catalogue is true, names keep to the convention, the listener answers."""

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from metric_catalogue import listed, registered, scraped
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from starlette.testclient import TestClient

from dashboard.web.app import create_app
from dashboard.web.settings import WebSettings
from infra.telemetry import probing
from infra.telemetry.health import Check, Health, Neighbour
from infra.telemetry.serving import serving
from infra.telemetry.settings import MetricsSettings

UNITS = ("_seconds", "_bytes", "_total", "_info")
NO_UNIT = {  # counts of things, states, yes and no
    "records", "readings", "partitions", "devices", "rows", "waiting", "open", "connections", "files", "alarms",
    "findings", "undelivered", "up", "ok", "ready", "link", "sources", "restarts", "fds",
}  # fmt: skip
TOO_MANY = {"device", "device_id", "sensor", "sensor_id", "station", "file", "path", "alarm_id", "partition", "client"}


def test_the_catalogue_is_what_the_code_registers() -> None:
    assert listed() == registered()


@pytest.mark.parametrize("entry", registered().values(), ids=lambda entry: entry.name)
def test_names_units_and_labels_keep_to_the_convention(entry) -> None:
    assert entry.name.startswith(("telltale_", "process_", "python_"))
    assert entry.name.endswith(UNITS) or entry.name.rpartition("_")[2] in NO_UNIT
    assert (entry.kind == "counter") == entry.name.endswith("_total")
    assert not set(entry.labels) & TOO_MANY
    assert entry.about


class Served:
    """A listener with a health of its own, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.health = Health("tried", stuck_s=10, clock=lambda: self.now)
        self.url = ""

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", headers=headers)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def ready(self) -> tuple[int, dict]:
        status, body = self.get("/readyz")
        return status, json.loads(body)


class Journal:
    def __init__(self) -> None:
        self.said: list[tuple[str, dict]] = []

    def info(self, event: str, **fields: object) -> None:
        self.said.append((event, fields))

    warning = info


@pytest.fixture
def served() -> Iterator[Served]:
    one, place = Served(), MetricsSettings(host="127.0.0.1", port=0)
    with serving(one.health, settings=place, log=Journal()) as url:
        assert url is not None
        one.url = url.removesuffix("/metrics")
        yield one


def test_metrics_are_text_and_open_metrics(served: Served) -> None:
    status, text = served.get("/metrics")
    assert status == 200
    found = {entry.name: entry for entry in scraped(text)}
    assert found.keys() <= listed().keys()
    assert {"process_resident_memory_bytes", "telltale_build_info", "telltale_ready"} <= found.keys()
    status, text = served.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert "telltale_ready" in {family.name for family in open_metrics(text)}


def test_a_loop_that_hangs_is_not_alive_and_not_ready(served: Served) -> None:
    assert served.get("/healthz")[0] == 200
    served.now = 11.0
    status, body = served.get("/healthz")
    assert (status, json.loads(body)["alive"]) == (503, False)
    assert served.ready()[0] == 503
    served.health.beat()
    assert (served.get("/healthz")[0], served.ready()[0]) == (200, 200)


def test_what_is_required_decides_and_the_rest_is_told(served: Served) -> None:
    served.health.check("caught_up", lambda: Check(False, "812 records wait", 812, "records", required=False))
    status, told = served.ready()
    assert (status, told["ready"], told["service"]) == (200, True, "tried")
    assert told["checks"]["caught_up"] == {
        "ok": False, "said": "812 records wait", "value": 812, "unit": "records", "required": False,
    }  # fmt: skip
    served.health.check("broker", lambda: Check(False, "it does not answer"))
    status, told = served.ready()
    assert (status, told["ready"], told["checks"]["broker"]["said"]) == (503, False, "it does not answer")
    assert 'telltale_check_ok{check="broker"} 0.0' in served.get("/metrics")[1]
    assert "telltale_ready 0.0" in served.get("/metrics")[1]


def test_other_paths_are_not_found(served: Served) -> None:
    status, body = served.get("/")
    assert (status, "expected /metrics" in body) == (404, True)


def test_a_port_that_is_taken_is_told_and_stops_nothing() -> None:
    journal = Journal()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = MetricsSettings(host="127.0.0.1", port=taken.getsockname()[1])
        with serving(Health("tried"), settings=place, log=journal) as url:
            assert url is None
    assert [event for event, _ in journal.said] == ["no_metrics"]


def test_without_a_port_nothing_listens() -> None:
    journal = Journal()
    with serving(Health("tried"), settings=MetricsSettings(port=None), log=journal) as url:
        assert (url, journal.said) == (None, [])


def test_neighbours_are_asked_while_it_is_open(monkeypatch) -> None:
    monkeypatch.setattr(probing, "EVERY_S", 0.01)
    answers = iter(["it does not answer", None])
    health, last = Health("tried"), [None]

    def ask() -> str | None:
        last[0] = next(answers, None)
        return last[0]

    with serving(health, probes={"broker": ask}, settings=MetricsSettings(port=0), log=Journal()):
        seen, until = [], time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < until:
            check = health.checks()["broker"]
            if "not been asked" not in check.said and (not seen or seen[-1] != check.ok):
                seen.append(check.ok)
            time.sleep(0.01)
    assert seen == [False, True]


def test_a_neighbour_that_says_nothing_is_away() -> None:
    now = [0.0]
    one = Neighbour("database", answer_s_max=6, clock=lambda: now[0])
    assert not one.check().ok
    one.answered()
    one.asked()
    now[0] = 5.0
    assert one.check().ok
    now[0] = 7.0
    assert one.check() == Check(False, "database: it says nothing, for 7.0 s", 7.0, "s")
    one.answered()
    assert one.check().ok


def dashboard(client: tuple[str, int], **settings: object) -> TestClient:
    app = create_app(WebSettings(**settings), database="postgresql://nobody@127.0.0.1:1/none", kafka=None)
    return TestClient(app, client=client)


LOCAL, REMOTE = ("127.0.0.1", 50_000), ("192.0.2.7", 50_000)


def test_the_dashboard_tells_programs_of_this_machine() -> None:
    client = dashboard(LOCAL)
    client.get("/healthz")
    client.get("/nowhere/to/be/found")
    answer = client.get("/metrics")
    assert answer.status_code == 200
    text = answer.text
    assert 'telltale_dashboard_requests_total{method="GET",route="/healthz",status="200"}' in text
    assert 'route="none",status="404"' in text
    assert "nowhere" not in text
    assert {entry.name for entry in scraped(text)} <= listed().keys()


@pytest.mark.parametrize(
    ("client", "headers", "settings"),
    [
        (REMOTE, {}, {}),
        (LOCAL, {"x-forwarded-for": "192.0.2.7"}, {}),
        (LOCAL, {}, {"behind_tls": True}),
        (LOCAL, {}, {"url": "https://telltale.example.org"}),
    ],
    ids=["remote", "forwarded", "behind TLS", "has another address"],
)
def test_the_dashboard_asks_strangers_for_a_token(client, headers, settings) -> None:
    assert dashboard(client, **settings).get("/metrics", headers=headers).status_code == 401


def test_a_dashboard_without_a_database_lives_and_is_not_ready() -> None:
    with dashboard(LOCAL) as client:
        assert client.get("/healthz").json()["alive"] is True
        answer = client.get("/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    told = answer.json()
    assert (told["ready"], told["checks"]["database"]["ok"]) == (False, False)
