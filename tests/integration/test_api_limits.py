"""What happens at the limits: too often, too much, too long; and that people are served while tokens wait."""

import threading
from collections.abc import Iterator

import httpx
import psycopg
import pytest
from fix_sink import Line, until
from fix_web import MAST, Served, serving

from dashboard.web.access import SESSION_COOKIE, Role

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def strict(mast_database: str) -> Iterator[Served]:
    limits = {"requests_per_s": 0.5, "requests_burst": 3, "rows_max": 5_000, "api_statement_s": 1.0}
    with serving(mast_database, api_connections=1, waiting_max=1, wait_s_max=0.5, **limits) as one:
        yield one


def test_who_asks_too_often_is_told_when_to_come_again(strict: Served) -> None:
    client, other = strict.client(), strict.client()
    answers = [client.get("/api/v1/me") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[3].headers["retry-after"]) >= 1
    assert other.get("/api/v1/me").status_code == 200


def test_more_rows_than_one_answer_may_have_are_an_export_job(strict: Served) -> None:
    client = strict.client()
    many = client.get("/api/v1/readings", params={"device": MAST, "format": "arrow"})
    assert (many.status_code, "export job" in many.json()["detail"]) == (413, True)
    period = {"from": "2024-01-01T00:00Z", "to": "2024-01-02T00:00Z"}
    assert client.get("/api/v1/readings", params={"device": MAST, "format": "arrow", **period}).status_code == 200


def test_a_question_that_takes_too_long_ends_and_people_do_not_notice(strict: Served) -> None:
    session = strict.session(strict.user(Role.VIEWER))
    cookies = {SESSION_COOKIE: session[SESSION_COOKIE]}
    with psycopg.connect(strict.dsn) as holding:
        holding.execute("LOCK TABLE readings IN ACCESS EXCLUSIVE MODE")
        long = strict.client().get("/api/v1/readings", params={"sensor": "1"})
        assert (long.status_code, long.headers["retry-after"]) == (503, "5")
        assert "shorter period" in long.json()["detail"]
        with httpx.Client(base_url=strict.url, cookies=cookies, trust_env=False) as person:
            assert person.get("/api/v1/stations").status_code == 200
    assert strict.client().get("/api/v1/readings", params={"sensor": "1"}).status_code == 200


def test_a_database_that_says_nothing_more_is_told(mast_database: str) -> None:
    line, goes_on = Line(mast_database), threading.Event()
    goes_on.set()

    def frozen(_: bool, piece: bytes) -> bytes:
        goes_on.wait()
        return piece

    line.moment = frozen
    limits = {"pages_statement_s": 2.0, "api_statement_s": 2.0, "wait_s_max": 2.0}
    with serving(line.dsn, **limits) as one:
        client = one.client()
        until(lambda: client.get("/api/v1/stations").status_code == 200, what="an answer")
        goes_on.clear()
        try:
            answer = client.get("/api/v1/stations")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        finally:
            goes_on.set()
        until(lambda: client.get("/api/v1/stations").status_code == 200, what="an answer, the database being back")
    line.close()
