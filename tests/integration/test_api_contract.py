"""The OpenAPI document against the served API: schemathesis looks for answers that it does not promise."""

from urllib.parse import quote

import httpx
import pytest
import schemathesis
from fix_web import MAST, Served
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error  # noqa: F401 - registers the checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dashboard.web.access import Scope
from dashboard.web.app import document

pytestmark = pytest.mark.integration

EXAMPLES = 4
"""Of each operation, drawn anew each time; what fails is printed as a request that can be repeated."""
LEFT_OUT = ("/api/v1/stream",)
"""An answer without end: it has tests of its own."""
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
PATIENT = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_the_document_is_openapi_3_1_and_describes_every_operation(served: Served) -> None:
    made = document(served.app)
    assert made["openapi"].startswith("3.1")
    for path, methods in made["paths"].items():
        for method, operation in methods.items():
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), f"{method} {path}"
            assert operation["description"], f"{method} {path}"


def operations(served: Served) -> list[schemathesis.APIOperation]:
    found = [each.ok() for each in schemathesis.openapi.from_dict(document(served.app)).get_all_operations()]
    return [each for each in found if each.path not in LEFT_OUT]


def test_no_answer_is_a_500_or_one_that_the_document_does_not_promise(served: Served) -> None:
    headers = {"Authorization": f"Bearer {served.token(*Scope)}"}

    answered: dict[str, set[int]] = {}

    def check(case: schemathesis.Case) -> None:
        for change in (lambda: None, lambda: name_what_is_there(case)):
            change()
            answer = case.call(base_url=served.url, headers=headers, timeout=60)
            assert answer.status_code != 500, case.as_curl_command()
            case.validate_response(answer, checks=CHECKS)
            answered.setdefault(case.operation.label, set()).add(answer.status_code)

    asked = operations(served)
    for operation in asked:
        PATIENT(given(case=operation.as_strategy())(check))()
    assert len(asked) >= 30
    found = {label for label, statuses in answered.items() if min(statuses) < 300}
    assert len(found) >= 25, f"only {sorted(found)} were answered with what they are for"


def name_what_is_there(case: schemathesis.Case) -> None:
    """Made-up names find nothing; these do."""
    there = {"station_id": "hill", "device_id": MAST, "sensor_id": 1, "alarm_id": "alarm-1"}
    case.path_parameters = {name: there.get(name, value) for name, value in (case.path_parameters or {}).items()}
    query = {name: value for name, value in (case.query or {}).items() if name not in ("station", "device", "sensor")}
    if case.path in ("/api/v1/readings", "/api/v1/statistics", "/api/v1/windows", "/api/v1/gaps", "/api/v1/recovery"):
        query = {
            "sensor": ["1", f"{MAST}/Dir78"],
            **{name: query[name] for name in query if name in ("format", "good")},
        }
    case.query = query


PATHS = (
    "/api/v1/readings",
    "/api/v1/statistics",
    "/api/v1/latest",
    "/api/v1/alarms",
    "/api/v1/flags",
    "/api/v1/gaps",
    "/api/v1/sensors/1/series",
    "/sta/v1.1/Observations",
    "/sta/v1.1/Datastreams",
    "/sta/v1.1/Things",
)
NAMES = (
    *("sensor", "device", "station", "from", "to", "quality", "format", "limit", "after", "width", "source", "good"),
    *("$filter", "$orderby", "$top", "$skip", "$count", "$select", "$expand"),
)
VALUES = st.sampled_from(
    [
        *(
            MAST,
            f"{MAST}/Spd80",
            "1",
            "0",
            "-1",
            "1e9",
            "99999999999999999999",
            "NaN",
            "null",
            "true",
            "'",
            '"',
            "%",
            "\x00",
        ),
        *("2024-01-01T00:00Z", "2024-01-01", "0001-01-01T00:00+23:59", "9999-12-31T23:59:59-23:59", "infinity"),
        *(
            "W10",
            "WzEsMV0",
            "WyIxIiwiMjAyNCJd",
            "arrow",
            "ndjson",
            "result gt 5",
            "result gt",
            "((((",
            "name eq 'x''y'",
        ),
        *("phenomenonTime lt 2024-01-02T00:00:00Z and not (result eq 1)", "Observations($top=2)", "a/b/c", "\ud83d"),
    ]
) | st.text(max_size=30)


@given(path=st.sampled_from(PATHS), query=st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=5))
@settings(PATIENT, max_examples=150)
def test_whatever_the_query_the_answer_is_ours(served: Served, path: str, query: list[tuple[str, str]]) -> None:
    client = fuzzed(served)
    words = "&".join(f"{quote(name)}={quote(value, errors='surrogatepass')}" for name, value in query)
    answer = client.get(f"{path}?{words}")
    assert answer.status_code in (200, 400, 404, 406, 413, 422, 501), (path, query, answer.text)
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"]


_FUZZED: dict[str, httpx.Client] = {}


def fuzzed(served: Served) -> httpx.Client:
    if served.url not in _FUZZED:
        _FUZZED[served.url] = served.client()
    return _FUZZED[served.url]
