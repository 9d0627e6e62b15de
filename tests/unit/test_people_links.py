"""Where a one-time link leads."""

from types import SimpleNamespace

import pytest
from starlette.requests import Request

from dashboard.pages import people
from dashboard.people import cli
from dashboard.web.app import create_app
from dashboard.web.settings import WebSettings


@pytest.mark.parametrize(
    ("url", "expected"), [(None, "http://inside:8080"), ("https://telltale.example/", "https://telltale.example")]
)
def test_a_link_of_the_pages_leads_to_where_people_come_by(url: str | None, expected: str) -> None:
    app = create_app(WebSettings(url=url), database="", kafka=None)
    address = {"scheme": "http", "server": ("127.0.0.1", 8080), "path": "/users", "query_string": b""}
    asked = Request({"type": "http", "app": app, "headers": [(b"host", b"inside:8080")]} | address)
    assert people._link(asked, "secret") == f"{expected}/welcome#secret"


@pytest.mark.parametrize(
    ("url", "expected"),
    [(None, "http://127.0.0.1:4711"), ("https://telltale.example/", "https://telltale.example")],
)
def test_a_link_leads_to_where_people_come_by(
    url: str | None, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.stack, "recorded", lambda: SimpleNamespace(dashboard="http://127.0.0.1:4711"))
    monkeypatch.delenv("TELLTALE_DASHBOARD_URL", raising=False)
    if url:
        monkeypatch.setenv("TELLTALE_DASHBOARD_URL", url)
    cli._print_link("secret", as_json=False, about="for ada")
    assert f"  {expected}/welcome#secret" in capsys.readouterr().out
