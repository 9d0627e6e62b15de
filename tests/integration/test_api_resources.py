"""Lists, single things, flags, access and errors over HTTP."""

import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from fix_web import MAST, Served

from dashboard.web.access import CSRF_HEADER, SESSION_COOKIE, Role, Scope

pytestmark = pytest.mark.integration

LISTS = {
    "stations": "station_id",
    "devices": "device_id",
    "sensors": "sensor_id",
    "calibrations": "sensor_id",
    "heartbeats": "received",
    "alarms": "alarm_id",
    "alarm-events": "event_id",
    "imports": "sha256",
    "rejected": "at_offset",
    "replays": "replay_id",
    f"gaps?device={MAST}": "begins",
    f"recovery?device={MAST}": "month",
}


@pytest.fixture(scope="module")
def client(served: Served) -> httpx.Client:
    return served.client()


def pages(client: httpx.Client, path: str, limit: int) -> list[Any]:
    """All entries, page by page, by the Link header."""
    found = []
    link: str | None = f"/api/v1/{path}{'&' if '?' in path else '?'}limit={limit}"
    while link:
        answer = client.get(link).raise_for_status()
        found += answer.json()["items"]
        link = answer.links.get("next", {}).get("url")
    return found


@pytest.mark.parametrize("path", LISTS)
def test_pages_join_to_the_whole_list(client: httpx.Client, path: str) -> None:
    whole = [each[LISTS[path]] for each in pages(client, path, 1000)]  # what is open lasts until now
    assert whole
    assert [each[LISTS[path]] for each in pages(client, path, 2)] == whole


@pytest.mark.parametrize(
    "path", ["stations/hill", "devices/mast-7", "sensors/1", "sensors?station=hill", "calibrations"]
)
def test_configuration_is_not_sent_twice(client: httpx.Client, path: str) -> None:
    first = client.get(f"/api/v1/{path}").raise_for_status()
    again = client.get(f"/api/v1/{path}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert client.get(f"/api/v1/{path}", headers={"If-None-Match": '"other"'}).status_code == 200


def test_filters_choose(client: httpx.Client) -> None:
    assert {each["state"] for each in pages(client, "alarms?state=raised", 3)} == {"raised"}
    period = "from=2024-01-01T01:00Z&to=2024-01-01T02:00Z"
    assert len(pages(client, f"heartbeats?device={MAST}&{period}", 7)) == 60
    assert pages(client, "heartbeats?device=nobody", 7) == []
    assert [each["sensor_id"] for each in pages(client, "sensors?quantity=wind_speed", 1)] == [1, 4]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("readings?device=mast-7&from=2024-01-01T00:00", 422, "timezone"),
        ("readings?device=mast-7&from=2024-02-01T00:00Z&to=2024-01-01T00:00Z", 422, "must be before"),
        ("readings", 422, "say which"),
        ("readings?sensor=Spd80", 422, "DEVICE/CHANNEL"),
        ("readings?sensor=mast-7/none", 404, "mast-7/none is not known"),
        ("readings?device=mast-7&quality=fine", 422, "1 good"),
        ("readings?device=mast-7&format=xlsx", 422, "format"),
        ("readings?device=mast-7&after=xyz", 422, "no cursor"),
        ("stations?limit=0", 422, "limit"),
        ("stations/none", 404, "station none is not known"),
        ("sensors/99999999999", 422, "sensor_id"),
        ("imports/xyz", 422, "sha256"),
        ("none", 404, "Not Found"),
    ],
)
def test_trouble_is_told_as_a_problem(client: httpx.Client, path: str, status: int, says: str) -> None:
    answer = client.get(f"/api/v1/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    told = answer.json()
    assert says in told["detail"]
    assert (told["status"], told["instance"]) == (status, answer.request.url.path)


def test_a_flag_is_put_on_taken_off_and_noted(served: Served) -> None:
    client = served.client(Scope.READ, Scope.FLAG)
    span = {"begin": "2024-01-03T00:00Z", "end": "2024-01-04T00:00Z"}
    asked = {"sensor": f"{MAST}/Tmp5", **span, "category": "icing", "reason": "frost"}
    made = client.post("/api/v1/flags", json=asked)
    assert made.status_code == 201
    flag = made.json()
    assert client.get(made.headers["location"]).json() == flag
    good = {"sensor": "3", "good": "true", "from": span["begin"], "to": span["end"]}
    assert client.get("/api/v1/readings", params=good).json()["items"] == []
    assert client.post("/api/v1/flags", json=asked).status_code == 409
    assert client.post("/api/v1/flags", json=asked | {"category": "none"}).status_code == 422
    assert client.delete(f"/api/v1/flags/{flag['flag_id']}").json()["removed_by"].startswith("token tt_")
    assert client.delete(f"/api/v1/flags/{flag['flag_id']}").status_code == 409
    assert len(client.get("/api/v1/readings", params=good).json()["items"]) == 143  # one has failed
    noted = served.sql("SELECT what, outcome FROM audit_log WHERE what LIKE 'flag.%' ORDER BY audit_id")
    assert noted == [("flag.add", "done"), ("flag.add", "refused"), ("flag.remove", "done"), ("flag.remove", "refused")]


def test_a_token_opens_what_its_scopes_say_and_no_more(served: Served) -> None:
    reader, flagger = served.client(Scope.READ), served.client(Scope.FLAG)
    assert flagger.get("/api/v1/stations").status_code == 403
    refused = reader.post("/api/v1/flags", json={})
    assert (refused.status_code, '"flag"' in refused.json()["detail"]) == (403, True)
    assert httpx.get(f"{served.url}/api/v1/stations").status_code == 401
    for header in ("Bearer tt_unknown", "Basic eDp5", "Bearer", ""):
        answer = httpx.get(f"{served.url}/api/v1/stations", headers={"Authorization": header})
        assert (answer.status_code, "www-authenticate" in answer.headers) == (401, True)


def test_a_token_ends_with_its_time_its_revocation_and_its_owner(served: Served) -> None:
    owner = served.user(Role.OPERATOR)
    expired, owned = served.client(token=served.token(days=-1)), served.client(token=served.token(owner=owner))
    assert "expired" in expired.get("/api/v1/me").json()["detail"]
    assert owned.get("/api/v1/me").json()["scopes"] == ["read"]
    served.sql("UPDATE users SET role = 'viewer' WHERE name = %s", owner)
    served.sql(
        "UPDATE tokens SET scopes = '{read,flag}' WHERE user_id = (SELECT user_id FROM users WHERE name = %s)", owner
    )
    assert owned.get("/api/v1/me").json()["scopes"] == ["read"]
    served.sql("UPDATE users SET disabled = true WHERE name = %s", owner)
    assert "disabled" in owned.get("/api/v1/me").json()["detail"]


def test_a_session_reads_with_its_cookie_and_acts_only_with_its_csrf_token(served: Served) -> None:
    session = served.session(served.user(Role.OPERATOR))
    cookies = {SESSION_COOKIE: session[SESSION_COOKIE]}
    with httpx.Client(base_url=served.url, cookies=cookies, trust_env=False) as client:
        assert client.get("/api/v1/me").json()["role"] == "operator"
        body = {"sensor": "1", "begin": "2024-01-03T00:00Z", "end": "2024-01-03T00:10Z", "category": "note"}
        assert client.post("/api/v1/flags", json=body).status_code == 403
        good = {CSRF_HEADER: session["csrf"]}
        evil = good | {"Origin": "https://elsewhere.example"}
        assert client.post("/api/v1/flags", json=body, headers=evil).status_code == 403
        assert client.post("/api/v1/flags", json=body, headers=good | {"Origin": served.url}).status_code == 201
    viewer = served.session(served.user(Role.VIEWER))
    cookies = {SESSION_COOKIE: viewer[SESSION_COOKIE]}
    with httpx.Client(base_url=served.url, cookies=cookies, trust_env=False) as client:
        assert client.post("/api/v1/flags", json=body, headers={CSRF_HEADER: viewer["csrf"]}).status_code == 403


def test_the_command_makes_lists_and_revokes_tokens(served: Served) -> None:
    def telltale(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.command", "token", *words, "--database", served.dsn]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    made = json.loads(telltale("create", "my notebook", "--scope", "read", "--scope", "export", "--json").stdout)
    client = served.client(token=made["token"])
    assert client.get("/api/v1/me").json()["scopes"] == ["export", "read"]
    listed = json.loads(telltale("list", "--json").stdout)["tokens"]
    mine = next(each for each in listed if each["name"] == "my notebook")
    assert made["token"].startswith(mine["prefix"])
    assert made["token"] not in json.dumps(listed)
    assert mine["last_used"] is not None
    assert telltale("revoke", mine["prefix"]).returncode == 0
    assert "revoked" in client.get("/api/v1/me").json()["detail"]
    again = telltale("revoke", mine["prefix"])
    assert (again.returncode, again.stderr.startswith("error: no working token")) == (2, True)


def test_every_answer_has_security_headers(served: Served, client: httpx.Client) -> None:
    for answer in (client.get("/api/v1/me"), client.get("/healthz"), client.get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
