"""Signing in by an OpenID Connect provider, which is a small server of this process that lies when it is told to."""

import json
import secrets
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from fix_web import Served, serving
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from dashboard.pages import oidc
from dashboard.pages.feature import PAGES
from dashboard.pages.oidc import STATE_COOKIE, role_of
from dashboard.web.access import SESSION_COOKIE, Role
from dashboard.web.app import HEALTH
from dashboard.web.settings import WebSettings

CLIENT, SECRET = "telltale", "s3cret-of-the-client"
ROLES = {"wind-ops": "operator", "wind-all": "viewer"}


@dataclass
class Provider:
    """What it knows, what it is asked, and how it lies."""

    issuer: str = ""
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k1"}))
    asked: dict[str, dict[str, str]] = field(default_factory=dict)
    lies: dict[str, Any] = field(default_factory=dict)
    header: dict[str, str] = field(default_factory=dict)
    signer: Any = None
    unsigned: bool = False
    sick: bool = False

    def allow(self, url: str, **person: Any) -> dict[str, str]:
        """The person signs in at `url`; what the browser brings back."""
        query = dict(parse_qsl(urlsplit(url).query))
        code = secrets.token_hex(8)
        self.asked[code] = query | {"person": json.dumps(person)}
        return {"code": code, "state": query["state"]}

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """Each code once, and only to whom knows the client's secret and PKCE's verifier."""
        asked = self.asked.pop(form["code"], None)
        challenge = urlsafe_b64encode(sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        known = b64decode(authorization.removeprefix("Basic ")).decode() == f"{CLIENT}:{SECRET}"
        if (
            asked is None
            or not known
            or (asked["code_challenge"], asked["code_challenge_method"])
            != (
                challenge,
                "S256",
            )
        ):
            return None
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": asked["nonce"]}
        claims |= json.loads(asked["person"]) | self.lies
        header = {"alg": "ES256", "kid": "k1"} | self.header
        signed = jwt.encode(header, claims, self.signer or self.key, algorithms=["ES256", "HS256"])
        if self.unsigned:
            bare = urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=").decode()
            signed = f"{bare}.{signed.split('.')[1]}."
        return {"access_token": "a", "token_type": "Bearer", "id_token": signed}


def handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            at = provider.issuer
            discovery = {
                "issuer": at,
                "authorization_endpoint": f"{at}/authorize",
                "token_endpoint": f"{at}/token",
                "jwks_uri": f"{at}/jwks",
                "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
            }
            keys = {"keys": [provider.key.as_dict(private=False)]}
            self.answer({"/.well-known/openid-configuration": discovery, "/jwks": keys}.get(self.path))

        def do_POST(self) -> None:
            form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.answer(None if provider.sick else provider.token(form, self.headers["Authorization"]))

        def answer(self, body: Any) -> None:
            self.send_response(200 if body else 400)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body or {"error": "invalid_grant"}).encode())

        def log_message(self, *_: object) -> None: ...

    return Handler


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    provider = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(provider))
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield provider
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def provider(running: Provider) -> Provider:
    """It tells the truth again."""
    running.lies, running.header, running.signer = {}, {}, None
    running.unsigned = running.sick = False
    return running


FEATURES = (HEALTH, replace(PAGES, lifespan=None))


@pytest.fixture(scope="module")
def served(mast_database: str, running: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    kept = tmp_path_factory.mktemp("oidc") / "secret"
    kept.write_text(SECRET + "\n")
    options = {"oidc_issuer": running.issuer, "oidc_client_id": CLIENT, "oidc_client_secret_file": kept}
    options |= {"oidc_role_claim": "groups", "oidc_roles": ROLES, "oidc_name": "Wind ID"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        with serving(mast_database, features=FEATURES, **options) as one:
            yield one


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=30) as client:
        yield client


def begin(browser: httpx.Client, after: str = "/account") -> str:
    """Where the browser is sent."""
    answer = browser.get("/oidc/login", params={"next": after})
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def sign_in(browser: httpx.Client, provider: Provider, **person: Any) -> httpx.Response:
    person = {"sub": secrets.token_hex(4), "groups": ["wind-ops"]} | person
    return browser.get("/oidc/callback", params=provider.allow(begin(browser), **person))


def assert_refused(answer: httpx.Response, served: Served, status: int, why: str) -> None:
    """Told on the sign-in page, without secrets, and in the audit log."""
    assert answer.status_code == status
    assert 'id="login-problem"' in answer.text
    assert SECRET not in answer.text
    assert SESSION_COOKIE not in answer.headers.get("set-cookie", "")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    ((outcome, detail),) = served.sql("SELECT outcome, detail FROM audit_log ORDER BY audit_id DESC LIMIT 1")
    assert (outcome, detail["by"]) == ("refused", "OIDC")
    assert why in detail["why"]


@pytest.mark.integration
def test_who_the_provider_knows_gets_a_session_with_the_mapped_role(
    browser: httpx.Client, provider: Provider, served: Served
) -> None:
    assert 'href="/oidc/login?next=/alarms"' in browser.get("/login", params={"next": "/alarms"}).text
    asked = parse_qs(urlsplit(begin(browser)).query)
    assert asked["response_type"] == ["code"]
    assert asked["redirect_uri"] == [f"{served.url}/oidc/callback"]
    assert SECRET not in str(asked)
    answer = sign_in(browser, provider, sub="anna-1", preferred_username="Anna", groups=["x", "wind-all", "wind-ops"])
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    (cookie,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith(SESSION_COOKIE)]
    assert {"HttpOnly", "SameSite=lax"} <= set(cookie.split("; "))
    assert browser.get("/session").status_code == 204
    find = "SELECT role, subject, password_hash FROM users WHERE name = 'Anna'"
    assert served.sql(find) == [("operator", f"{provider.issuer} anna-1", None)]
    assert served.sql("SELECT outcome, way FROM audit_log WHERE who = 'Anna' AND what = 'login'") == [
        ("done", "nobody")
    ]
    assert sign_in(browser, provider, sub="anna-1", preferred_username="Other", groups="wind-all").status_code == 303
    assert served.sql(find)[0][0] == "viewer"


@pytest.mark.integration
def test_what_a_sign_in_remembers_is_hidden_from_scripts_and_other_sites(browser: httpx.Client) -> None:
    cookie = browser.get("/oidc/login").headers["set-cookie"]
    assert cookie.startswith(STATE_COOKIE)
    assert {"HttpOnly", "SameSite=lax", "Path=/oidc", "Max-Age=600"} <= set(cookie.split("; "))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ({"nonce": "another"}, "InvalidClaimError"),
        ({"aud": "another"}, "InvalidClaimError"),
        ({"aud": ["another", "third"], "azp": CLIENT}, "InvalidClaimError"),
        ({"iss": "https://elsewhere.example"}, "InvalidClaimError"),
        ({"exp": 1_700_000_000}, "ExpiredTokenError"),
        ({"sub": ""}, "ValueError"),
    ],
    ids=str,
)
def test_a_token_that_says_something_wrong_is_refused(
    browser: httpx.Client, provider: Provider, served: Served, lie: dict[str, Any], why: str
) -> None:
    provider.lies = lie
    assert_refused(sign_in(browser, provider), served, 502, why)


@pytest.mark.integration
@pytest.mark.parametrize("algorithm", ["ES256", "HS256", "none"])
def test_a_token_that_another_key_or_none_has_signed_is_refused(
    browser: httpx.Client, provider: Provider, served: Served, algorithm: str
) -> None:
    if algorithm == "none":
        provider.unsigned = True
    else:
        other = ECKey.generate_key("P-256", {"kid": "k1"})
        provider.signer = other if algorithm == "ES256" else OctKey.import_key(SECRET * 2)
        provider.header = {"alg": algorithm}
    why = "BadSignatureError" if algorithm == "ES256" else "UnsupportedAlgorithmError"
    assert_refused(sign_in(browser, provider), served, 502, why)


@pytest.mark.integration
def test_a_state_works_once_and_only_in_its_browser(browser: httpx.Client, provider: Provider, served: Served) -> None:
    url = begin(browser)
    kept, back = browser.cookies[STATE_COOKIE], provider.allow(url, sub="bo", groups=["wind-all"])
    with httpx.Client(base_url=served.url, trust_env=False) as stranger:
        assert_refused(stranger.get("/oidc/callback", params=back), served, 400, "state")
    assert browser.get("/oidc/callback", params=back).status_code == 303
    with httpx.Client(base_url=served.url, trust_env=False, cookies={STATE_COOKIE: kept}) as thief:
        again = provider.allow(url, sub="bo", groups=["wind-all"])
        assert_refused(thief.get("/oidc/callback", params=again), served, 400, "state")
        assert again["code"] in provider.asked  # nobody has asked the provider


@pytest.mark.integration
def test_made_up_states_do_not_fill_the_audit_log(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oidc, "TOLD_PER_S", 1e-9)  # no minute passes in this test
    monkeypatch.setattr(oidc, "TOLD_AT_ONCE", 3)
    options = {"oidc_issuer": "http://127.0.0.1:1", "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
    find = "SELECT count(*) FROM audit_log WHERE detail ->> 'why' = 'state'"
    ((before,),) = served.sql(find)
    with (
        serving(served.dsn, features=FEATURES, **options) as other,
        httpx.Client(base_url=other.url, trust_env=False, timeout=60) as stranger,
    ):
        for number in range(6):
            answer = stranger.get("/oidc/callback", params={"state": f"made-up-{number}", "code": "x"})
            assert (answer.status_code, 'id="login-problem"' in answer.text) == (400, True)
    assert served.sql(find) == [(before + 3,)]


@pytest.mark.integration
def test_who_has_no_role_is_refused_and_gets_no_account(
    browser: httpx.Client, provider: Provider, served: Served
) -> None:
    assert_refused(sign_in(browser, provider, sub="cid", groups=["cooks"]), served, 403, "no role")
    assert served.sql("SELECT FROM users WHERE subject LIKE '%% cid'") == []


@pytest.mark.integration
def test_without_a_role_claim_accounts_keep_their_role_and_strangers_are_refused(
    provider: Provider, served: Served
) -> None:
    eve = f"{provider.issuer} eve"
    served.sql("INSERT INTO users (name, role, subject) VALUES ('Eve', 'admin', %s)", eve)
    options = {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
    with (
        serving(served.dsn, features=FEATURES, **options) as other,
        httpx.Client(base_url=other.url, trust_env=False, timeout=30) as browser,
    ):
        assert_refused(sign_in(browser, provider, sub="fay"), other, 403, "nobody here knows you")
        assert sign_in(browser, provider, sub="eve").status_code == 303
    assert served.sql("SELECT role FROM users WHERE subject = %s", eve) == [("admin",)]


@pytest.mark.integration
def test_a_name_alone_opens_no_account(browser: httpx.Client, provider: Provider, served: Served) -> None:
    served.user(Role.ADMIN, name="Root")
    assert_refused(sign_in(browser, provider, preferred_username="root"), served, 403, "already")
    as_a_token = sign_in(browser, provider, preferred_username="token tt_AbCdEf1 of Root")
    assert_refused(as_a_token, served, 403, "take another name")


@pytest.mark.integration
def test_a_disabled_account_stays_shut(browser: httpx.Client, provider: Provider, served: Served) -> None:
    assert sign_in(browser, provider, sub="dora").status_code == 303
    served.sql("UPDATE users SET disabled = true WHERE subject LIKE '%% dora'")
    assert_refused(sign_in(browser, provider, sub="dora"), served, 403, "disabled")


@pytest.mark.integration
def test_a_provider_that_refuses_or_is_sick_is_told(browser: httpx.Client, provider: Provider, served: Served) -> None:
    state = dict(parse_qsl(urlsplit(begin(browser)).query))["state"]
    denied = browser.get("/oidc/callback", params={"error": "access_denied", "state": state})
    assert_refused(denied, served, 401, "provider")
    provider.sick = True
    assert_refused(sign_in(browser, provider), served, 502, "OAuthError")


def test_without_a_provider_there_is_no_button_and_half_a_provider_is_refused(tmp_path: Path) -> None:
    assert WebSettings().oidc_label == ""
    whole: dict[str, Any] = {"oidc_issuer": "https://id.example", "oidc_client_id": "x", "oidc_client_secret": SECRET}
    assert WebSettings(**whole).oidc_label == "id.example"
    for wrong in (
        {"oidc_client_id": None},
        {"oidc_client_secret": None},
        {"oidc_client_secret_file": tmp_path / "none"},
        {"oidc_client_secret": None, "oidc_client_secret_file": tmp_path / "none"},
        {"oidc_issuer": "http://id.example"},
        {"oidc_role_claim": "groups"},
        {"oidc_scope": "email"},
    ):
        with pytest.raises(ValueError, match="OIDC_") as told:
            WebSettings(**(whole | wrong))
        assert SECRET not in str(told.value)


def test_the_greatest_role_wins_also_inside_another_claim() -> None:
    assert role_of({"realm": {"roles": ["wind-all", "wind-ops"]}}, "realm.roles", ROLES) is Role.OPERATOR
    assert role_of({"https://a.b/roles": "wind-all"}, "https://a.b/roles", ROLES) is Role.VIEWER
    for nothing in ({}, {"realm": "wind-ops"}, {"realm": {"roles": [1, None, "x"]}}):
        assert role_of(nothing, "realm.roles", ROLES) is None
