"""Signing in by an OpenID Connect provider: authorization code with PKCE, by Authlib. Knows no password.

What a sign-in must remember (state, nonce, PKCE's verifier) lies in a signed cookie for ten minutes and works once. Its
key is the process's own: a sign-in that a restart has cut short is begun again.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Annotated, Any

import structlog
from authlib.integrations.starlette_client import OAuth
from fastapi import APIRouter, Query, Request
from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.responses import RedirectResponse, Response

from dashboard.pages.signing import OPEN, address_of, is_secure, login_form, safe_next, start_session
from dashboard.people import accounts
from dashboard.web import audit
from dashboard.web.access import Role, new_secret
from dashboard.web.limits import Rate
from dashboard.web.problems import not_found
from dashboard.web.settings import WebSettings
from dashboard.web.state import reached_at, web_of
from schemas.errors import Refused

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/oidc", include_in_schema=False)

STATE_COOKIE = "telltale_oidc"
STATE_S = 600
"""How long somebody may take at the provider."""
KNOWN_S = 600.0
"""How long the provider's endpoints and keys are believed without asking again; an unknown key is asked for at once."""
PROVIDER_S = 15.0
"""Below it a slow provider fails people; above it they have left."""
SIGNED_BY = ("RS", "PS", "ES", "Ed")
"""Only what a provider signs with a key that we do not have: no `none`, no HMAC."""
TOLD_PER_S, TOLD_AT_ONCE = 1 / 60, 30
"""So many refused sign-ins of one address come into the audit log: as with passwords, where the address is locked after
thirty and told of once a minute then. A stranger must not fill the database with them."""
AGAIN = "This sign-in was used already, took too long or was begun elsewhere. Sign in again."
SICK = "The sign-in provider does not answer, or not rightly. Try again; the log tells administrators why."


class Provider:
    """Of one application."""

    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._signer = URLSafeTimedSerializer(new_secret(), salt=STATE_COOKIE)
        self.told = Rate(per_s=TOLD_PER_S, burst=TOLD_AT_ONCE)
        self._known: Any = None
        self._until = 0.0

    async def _client(self) -> Any:
        if time.monotonic() >= self._until:
            settings = self._settings
            assert settings.oidc_issuer is not None  # noqa: S101 - `provider_of` looked
            client = OAuth().register(
                "oidc",
                client_id=settings.oidc_client_id,
                client_secret=settings.oidc_secret(),
                server_metadata_url=settings.oidc_issuer.rstrip("/") + "/.well-known/openid-configuration",
                client_kwargs={"scope": settings.oidc_scope, "code_challenge_method": "S256", "timeout": PROVIDER_S},
            )
            told = await client.load_server_metadata()
            if told.get("issuer") != settings.oidc_issuer:
                raise ValueError(f"issuer: expected {settings.oidc_issuer}, the provider says {told.get('issuer')}")
            signed_by = told.get("id_token_signing_alg_values_supported") or ["RS256"]
            told["id_token_signing_alg_values_supported"] = [each for each in signed_by if each.startswith(SIGNED_BY)]
            self._known, self._until = client, time.monotonic() + KNOWN_S
        return self._known

    async def begin(self, back: str, after: str) -> tuple[str, str]:
        """Where the browser goes, and the cookie that it brings back to `back`."""
        async with asyncio.timeout(PROVIDER_S):
            begun = await (await self._client()).create_authorization_url(back)
        url = begun.pop("url")
        return url, str(self._signer.dumps({**begun, "back": back, "next": after}))

    def begun(self, request: Request, state: str) -> dict[str, str] | None:
        """What the cookie remembers, if it belongs to `state` and that comes back for the first time."""
        try:
            found: dict[str, str] = self._signer.loads(request.cookies.get(STATE_COOKIE, ""), max_age=STATE_S)
        except BadSignature:
            return None
        if found["state"] != state or not web_of(request).seen.is_due(f"oidc {state}", time.monotonic(), 2.0 * STATE_S):
            return None
        return found

    async def claims(self, code: str, begun: Mapping[str, str]) -> dict[str, Any]:
        """What the provider says of the person: the claims of an ID token whose signature, issuer, audience, expiry and
        nonce are right."""
        async with asyncio.timeout(PROVIDER_S):
            client = await self._client()
            token = await client.fetch_access_token(
                begun["back"], code=code, code_verifier=begun["code_verifier"], grant_type="authorization_code"
            )
            must = {"iss": self._settings.oidc_issuer, "aud": self._settings.oidc_client_id}
            options = {name: {"essential": True, "value": value} for name, value in must.items()}
            told = await client.parse_id_token(token, nonce=begun["nonce"], claims_options=options)
        subject = told["sub"] if told else None
        if not isinstance(subject, str) or not subject.strip() or not subject.isprintable() or len(subject) > 255:
            raise ValueError("expected an ID token with a subject of 1 to 255 characters")
        return dict(told)


def provider_of(request: Request) -> Provider:
    """Raises `Problem` 404 where none is configured."""
    settings = web_of(request).settings
    if settings.oidc_issuer is None:
        raise not_found("a sign-in provider")
    state = request.app.state
    if not hasattr(state, "oidc"):
        state.oidc = Provider(settings)
    found: Provider = state.oidc
    return found


def role_of(claims: Mapping[str, Any], claim: str | None, roles: Mapping[str, str]) -> Role | None:
    """The greatest role that the values of the claim stand for."""
    if claim is None:
        return None
    value: Any = claims.get(claim)
    if value is None:
        value = claims
        for word in claim.split("."):
            value = value.get(word) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    found = [Role(roles[each]) for each in values if isinstance(each, str) and each in roles]
    return max(found, key=list(Role).index, default=None)


def name_of(claims: Mapping[str, Any]) -> str:
    """What the person is called here."""
    names = (claims.get(claim) for claim in ("preferred_username", "email", "name", "sub"))
    return next(
        " ".join(each.split())[:100] for each in names if isinstance(each, str) and each.strip() and each.isprintable()
    )


@router.get("/login", dependencies=OPEN)
async def begin(
    request: Request,
    next: Annotated[str, Query(max_length=2000)] = "/status",  # noqa: A002 - the name in the address
) -> Response:
    """Sends the browser to the provider."""
    provider = provider_of(request)
    try:
        url, cookie = await provider.begin(f"{reached_at(request)}/oidc/callback", safe_next(next))
    except Exception as error:  # noqa: BLE001 - Authlib passes on whatever its HTTP client and a sick answer raise
        _tell(error)
        return await login_form(request, next=next, problem=SICK, status=502)
    response = RedirectResponse(url, 303)
    response.set_cookie(
        STATE_COOKIE, cookie, max_age=STATE_S, path="/oidc", httponly=True, samesite="lax", secure=is_secure(request)
    )
    return response


@router.get("/callback", dependencies=OPEN)
async def finish(request: Request, state: str = "", code: str = "", error: str = "") -> Response:
    """Where the provider sends the browser back to: begins a session, or says on the sign-in page why not."""
    web, provider = web_of(request), provider_of(request)
    settings, db = web.settings, web.pools.pages
    begun = provider.begun(request, state)
    if begun is None:
        return await _refused(request, AGAIN, why="state", status=400)
    after = begun["next"]
    if error or not code:
        return await _refused(request, "The sign-in provider has let nobody in.", why="provider", after=after)
    try:
        claims = await provider.claims(code, begun)
    except Exception as sick:  # noqa: BLE001 - as above, and all that can be wrong with a token
        _tell(sick)
        return await _refused(request, SICK, why=type(sick).__name__, after=after, status=502)
    name, default = name_of(claims), settings.oidc_default_role and Role(settings.oidc_default_role)
    role = role_of(claims, settings.oidc_role_claim, settings.oidc_roles)
    try:
        if settings.oidc_role_claim is not None:
            role = role or default
            if role is None:
                raise Refused("the sign-in provider gives you no role here: ask an administrator")
        subject = f"{settings.oidc_issuer} {claims['sub']}"
        row = await accounts.of_subject(db, subject, name=name, role=role, default=default)
    except Refused as refused:
        told = str(refused)
        return await _refused(request, f"{told[:1].upper()}{told[1:]}.", why=told, who=name, after=after, status=403)
    response = RedirectResponse(after, 303)
    response.delete_cookie(STATE_COOKIE, path="/oidc")
    await start_session(request, response, row["user_id"])
    await audit.note(db, request, None, "login", who=row["name"], by="OIDC")
    return response


async def _refused(
    request: Request, problem: str, *, why: str, who: str | None = None, after: str = "/status", status: int = 401
) -> Response:
    if not provider_of(request).told.wait_s(address_of(request), time.monotonic()):
        db = web_of(request).pools.pages
        await audit.note(db, request, None, "login", who=who, outcome="refused", by="OIDC", why=why)
    response = await login_form(request, next=after, problem=problem, status=status)
    response.delete_cookie(STATE_COOKIE, path="/oidc")
    return response


def _tell(error: Exception) -> None:
    log.warning("oidc_failed", kind=type(error).__name__, detail=str(error)[:300])
