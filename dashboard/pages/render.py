"""Makes pages of templates. Knows Jinja2 and what every page has: who is signed in, the menu, versions of files."""

import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any
from urllib.parse import quote

import jinja2
from fastapi import Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dashboard.web.access import Principal, Role
from dashboard.web.problems import Problem
from infra.version import our_version

STATIC = files("dashboard.pages") / "static"


def _digest() -> str:
    found = hashlib.sha256()
    for file in sorted(STATIC.iterdir(), key=lambda each: each.name):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:12]


STATIC_PATH = f"/static/{_digest()}"
"""Changes when a file of ours does, so that browsers may keep what they have for ever."""

MENU: tuple[tuple[str, str, Role], ...] = (
    ("/status", "Status", Role.VIEWER),
    ("/alarms", "Alarms", Role.VIEWER),
    ("/stations", "Stations", Role.VIEWER),
    ("/plot", "Plot", Role.VIEWER),
    ("/imports", "Imports", Role.VIEWER),
    ("/exports", "Exports", Role.VIEWER),
    ("/pipeline", "Pipeline", Role.VIEWER),
    ("/users", "Users", Role.ADMIN),
)

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("dashboard.pages"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)


def _time(value: datetime | None, offset: int | None = None, *, since: bool = False) -> Markup:
    """A time that follows the reader's choice of zone; UTC where scripts do not run."""
    if value is None:
        return Markup('<span class="soft">–</span>')
    utc = value.astimezone(UTC)
    shift = "" if offset is None else f' data-offset="{offset}"'
    ago = " data-since" if since else ""
    return Markup('<time class="nowrap" datetime="{}"{}{}>{}</time>').format(
        utc.isoformat(timespec="milliseconds"),
        Markup(shift),  # noqa: S704 - a number
        Markup(ago),  # noqa: S704 - our own word
        f"{utc:%Y-%m-%d %H:%M:%S} UTC",
    )


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None or value != value else f"{value:,.{digits}f}".replace(",", "\u2009")  # noqa: PLR0124


def _bytes(value: float | None) -> str:
    if value is None:
        return "–"
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _span(value: float) -> str:
    """Seconds as people say them: `90 s`, `10 min`, `30 d`; in the largest unit that is whole."""
    for seconds, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= 2 * seconds and value % seconds == 0:
            return f"{value / seconds:.0f} {unit}"
    return f"{value:.12g} s"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _words(value: Any) -> str:
    """Lists and mappings as people write them; what is empty is left out."""
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_words(each)}" for name, each in value.items() if each not in (None, "", [], {}))
    return ", ".join(map(_words, value)) if isinstance(value, list | tuple) else str(value)


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


_environment.filters |= {
    "iso": _iso,
    "words": _words,
    "time": _time,
    "number": _number,
    "bytes": _bytes,
    "share": _share,
    "span": _span,
}


def fragment(template: str, /, **told: Any) -> str:
    """A template's text."""
    return _environment.get_template(template).render(**told)


def page(
    request: Request, template: str, /, *, title: str, status: int = 200, live: str = "alarms", **told: Any
) -> Response:
    """A whole page. `live` says what its socket brings: `all`, or only `alarms`."""
    principal: Principal | None = getattr(request.state, "principal", None)
    text = fragment(
        template,
        title=title,
        static=STATIC_PATH,
        principal=principal,
        role=str(principal.role) if principal and principal.role else "",
        csrf=principal.csrf if principal else "",
        may=lambda right: principal is not None and principal.may(Role(right)),
        menu=[(path, label) for path, label, right in MENU if principal is not None and principal.may(right)],
        path=request.url.path,
        version=our_version(),
        live=live,
        **told,
    )
    return HTMLResponse(text, status)


def wants_page(request: Request) -> bool:
    """Whether a person waits for a page (and not a script, a token, a part of a page)."""
    return (
        request.method == "GET"
        and "text/html" in request.headers.get("accept", "")
        and "hx-request" not in request.headers
        and "authorization" not in request.headers
        and not request.url.path.startswith("/api/")
    )


def trouble(request: Request, problem: Problem) -> Response | None:
    """What a person sees instead of problem details: the sign-in page, or a page that says what happened."""
    if not wants_page(request):
        return None
    if problem.status == 401:
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(wanted)}", 303)
    if problem.status == 404 and problem.detail == "Not Found":
        problem = Problem(404, "there is no such page")
    told = problem.detail[:1].upper() + problem.detail[1:]
    return page(request, "trouble.html", title=_TITLES.get(problem.status, "That did not work"), status=problem.status,
                detail=told, problem_status=problem.status)  # fmt: skip


_TITLES = {
    403: "This is not for your role",
    404: "Not found",
    422: "That cannot be done",
    429: "Too much at once",
    500: "Our mistake",
    503: "Something does not answer",
}
