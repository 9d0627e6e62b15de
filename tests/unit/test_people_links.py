"""Where a one-time link leads."""

from types import SimpleNamespace

import pytest

from dashboard.people import cli


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
