"""A whole site for browser tests: stage, sink and dashboard as real processes, and Debian's Chromium before it.

Playwright drives the machine's browser; nothing is downloaded. Where there is none, the tests are skipped.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import chromium
import psycopg
import pytest
import tls_proxy
from fix_services import Service, await_true
from fix_stack import empty_broker
from fix_stage import Wire, make_device
from psycopg import sql

from dashboard.pages import assets
from infra import ports
from infra.postgres import server
from infra.provision import provision
from infra.security import certificates
from schemas.devices import Device
from schemas.errors import Unavailable
from schemas.frames import RawFrame
from sinks.timescale import schema

WAIT_S_MAX = 60.0
PASSWORD = "correct horse battery"


class Site:
    """The processes, and ways to act as devices do. `address` is where the pages are."""

    def __init__(self, kafka: str, database: str, folder: Path) -> None:
        self.kafka, self.database, self.folder = kafka, database, folder
        self.port = ports.free()
        self.address = f"http://127.0.0.1:{self.port}"
        self.wire = Wire(kafka)
        self._env = {"TELLTALE_KAFKA": kafka, "TELLTALE_DATABASE": database, "TELLTALE_DIR": str(folder)}
        self._services: dict[str, Service] = {}
        self._sequence: dict[str, int] = {}

    def start(self, name: str, *words: str, **env: str) -> None:
        self._services[name] = Service(list(words), self.folder, {**self._env, **env})

    def start_dashboard(self) -> None:
        self.start("dashboard", "dashboard", "run", "--port", str(self.port))
        self.service("dashboard").await_ready()

    def service(self, name: str) -> Service:
        return self._services[name]

    @contextmanager
    def behind_tls(self) -> Iterator[tuple[str, Path, int]]:
        """A second dashboard behind a proxy that speaks TLS: its address, the authority's file, its own port."""
        port, files = ports.free(taken=frozenset({self.port})), certificates.Files(self.folder / "tls")
        certificates.init(files.folder, ["127.0.0.1"], now=datetime.now(UTC))
        with tls_proxy.before(port, files.server) as address:
            env = {"TELLTALE_DASHBOARD_BEHIND_TLS": "true", "TELLTALE_DASHBOARD_URL": address}
            self.start("behind", "dashboard", "run", "--port", str(port), **env)
            self.service("behind").await_ready()
            try:
                yield address, files.ca, port
            finally:
                assert self.service("behind").stop() == 0

    def stop_dashboard(self) -> int:
        return self.service("dashboard").stop()

    def end(self) -> None:
        for service in self._services.values():  # all at once: each takes its seconds
            if service.lives:
                os.kill(service.pid, signal.SIGTERM)
        for service in self._services.values():
            service.end()

    def first_link(self) -> str:
        """The one-time link that the dashboard has printed."""
        log = self.service("dashboard").log
        await_true(lambda: "/welcome#" in log.read_text(), what="the one-time link", within_s=WAIT_S_MAX)
        found = re.search(r"http\S+/welcome#\S+", log.read_text())
        assert found
        return found.group()

    def configure(self, device_id: str, channels: int = 2, **facts: Any) -> Device:
        device = make_device(device_id, channels, **facts)
        self.wire.configure(device)
        return device

    def measure(self, device_id: str, values: list[list[float]], *, end: float | None = None) -> None:
        """Rows of one second each, the last one at `end` (now), as the device sends them."""
        sequence = self._sequence[device_id] = self._sequence.get(device_id, -1) + 1
        last_us = round((end or time.time()) * 1_000_000)
        channels = tuple(f"c{number}" for number in range(len(values[0])))
        times = [last_us - 1_000_000 * (len(values) - 1 - row) for row in range(len(values))]
        import numpy as np

        self.wire.send(RawFrame(device_id, "sp", sequence, np.array(times), channels, np.array(values, float)))

    def command(self, *words: str) -> str:
        """What one of telltale's commands says, on this site."""
        done = subprocess.run(
            [sys.executable, "-m", "infra.command", *words],
            env={**os.environ, **self._env},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, query: str, *arguments: Any) -> list[Any]:
        with psycopg.connect(self.database, autocommit=True, prepare_threshold=None) as connection:
            return connection.execute(query.encode(), arguments).fetchall()

    def await_rows(self, query: str, *arguments: Any) -> list[Any]:
        """The rows, once there are some."""
        found: list[Any] = []

        def there() -> bool:
            found[:] = self.rows(query, *arguments)
            return bool(found)

        await_true(there, what=query, within_s=WAIT_S_MAX)
        return found


@pytest.fixture(scope="module")
def site(kafka: str, database_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Stage, sink and dashboard on the session's broker and a new database."""
    if not chromium.found():
        pytest.skip("no browser: apt-get install chromium")
    try:
        assets.folder(with_tests=True)
    except Unavailable as error:
        pytest.skip(str(error))
    empty_broker(kafka)
    provision(kafka)
    name = f"e2e_{os.getpid()}_{secrets.token_hex(4)}"
    server.ensure_database(database_server, name)
    dsn = database_server.rpartition("/")[0] + f"/{name}"
    schema.migrate(dsn)
    here = Site(kafka, dsn, tmp_path_factory.mktemp("site"))
    try:
        here.start("streams", "streams", "run")
        here.start("sink", "sink", "run")
        here.start("imports", "imports", "run")
        here.start_dashboard()
        for part in ("streams", "sink", "imports"):
            here.service(part).await_ready()
        yield here
    finally:
        here.end()
        with psycopg.connect(database_server, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


FORBIDDEN_STYLE = "Applying inline style violates"


class Person:
    """Somebody before a browser of their own (cookies and all). Remembers what the console said and whom it asked."""

    def __init__(
        self,
        browser: Any,
        site: Site,
        *,
        width: int = 1440,
        height: int = 900,
        scheme: str = "light",
        address: str | None = None,
    ) -> None:
        self.site = site
        self.context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
            base_url=address or site.address,
            ignore_https_errors=address is not None,  # Chromium has authorities of its own
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on(
            "console", lambda m: self.complaints.append(f"{m.text} {m.location}") if m.type == "error" else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("response", lambda r: self.complaints.append(f"{r.status} {r.url}") if r.status >= 500 else None)
        self.context.on("request", lambda request: self.hosts.add(request.url.split("/")[2]))

    def until(self, script: str, *, within_s: float = WAIT_S_MAX) -> None:
        """Asks the page again and again: its policy forbids Playwright's own way of waiting for a script."""
        await_true(lambda: bool(self.page.evaluate(script)), what=script, within_s=within_s)

    def go(self, path: str) -> None:
        self.page.goto(path)
        self.until("window.telltale?.line.isUp")

    def sign_in(self, name: str, password: str = PASSWORD) -> None:
        self.page.goto("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def choose_password(self, link: str, name: str | None = None) -> None:
        self.page.goto(link)
        form = self.page.locator("#welcome-form")
        form.wait_for()
        if name:
            form.get_by_label("Name").fill(name)
        form.locator("[name=password]").fill(PASSWORD)
        form.locator("[name=again]").fill(PASSWORD)
        form.get_by_role("button").click()
        self.page.wait_for_url("**/status")

    @contextmanager
    def looked_at_by_a_tool(self) -> Iterator[None]:
        """What the page's policy forbids meanwhile is the tool's: axe-core and Playwright's screenshots put <style>s of
        their own into the page, now and then where the policy sees them."""
        before = list(self.complaints)
        yield
        since = self.complaints[len(before) :]
        self.complaints[:] = before + [each for each in since if not each.startswith(FORBIDDEN_STYLE)]

    def screenshots(self, folder: Path, name: str) -> None:
        """The page as it stands, light and dark."""
        folder.mkdir(parents=True, exist_ok=True)
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            with self.looked_at_by_a_tool():
                self.page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)

    def close(self) -> None:
        self.context.close()


class People:
    """Makes people; all of them leave with the test."""

    def __init__(self, browser: Any, site: Site) -> None:
        self._browser, self._site = browser, site
        self._there: list[Person] = []

    def __call__(self, name: str | None = None, **how: Any) -> Person:
        """Somebody; with a name, somebody who is signed in."""
        person = Person(self._browser, self._site, **how)
        self._there.append(person)
        if name:
            person.sign_in(name)
            person.page.wait_for_url("**/status")
        return person

    def close(self) -> None:
        for person in self._there:
            person.close()


@pytest.fixture(scope="module")
def browser(site: Site) -> Iterator[Any]:
    """The machine's Chromium."""
    with chromium.launched() as running:
        yield running


@pytest.fixture(scope="module")
def accounts(site: Site, browser: Any) -> None:
    """ada (admin) by the printed link; otto (operator) and vera (viewer) by links of hers, from the shell."""
    person = Person(browser, site)
    person.choose_password(site.first_link(), "ada")
    assert not person.complaints
    person.close()
    for name, role in (("otto", "operator"), ("vera", "viewer")):
        link = json.loads(site.command("users", "add", name, "--role", role, "--json"))["link"]
        person = Person(browser, site)
        person.choose_password(site.address + "/welcome" + link.partition("/welcome")[2])
        person.close()


@pytest.fixture
def people(site: Site, browser: Any, accounts: None) -> Iterator[People]:
    """Makes people before browsers."""
    made = People(browser, site)
    yield made
    made.close()
