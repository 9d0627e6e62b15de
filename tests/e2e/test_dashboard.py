"""The dashboard as people meet it: a real browser, a real stage, sink, broker and database.

One module, so that one site serves all. axe-core (from npm) looks for what shuts people out; screenshots of every page,
wide and narrow, light and dark, go to `.screenshots` in the checkout, or to the folder TELLTALE_SCREENSHOTS.
"""

import hashlib
import json
import os
import re
import secrets
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fix_services import await_true
from fix_site import PASSWORD, WAIT_S_MAX, People, Person, Site

from dashboard.pages import assets
from infra.kept_alarms import KeptAlarms
from infra.telling import tell_all
from schemas.alarms import Severity

pytestmark = pytest.mark.integration


def test_a_one_time_link_works_once(site: Site, people: People) -> None:
    person = people()
    person.page.goto(site.first_link())
    person.page.locator("#welcome-problem").wait_for()
    assert "used already" in person.page.locator("#welcome-problem").inner_text()


def test_nothing_is_shown_without_signing_in_and_nothing_comes_from_elsewhere(people: People) -> None:
    person = people()
    person.page.goto("/alarms?tab=history")
    assert "/login" in person.page.url
    person.sign_in("ada", "wrong wrong wrong")
    person.page.locator("#login-problem").wait_for()
    person.sign_in("ada")
    person.page.wait_for_url("**/status")
    person.until("window.telltale?.line.isUp")
    cookie = next(each for each in person.context.cookies() if each["name"] == "telltale_session")
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert person.hosts == {f"127.0.0.1:{person.site.port}"}
    assert [each for each in person.complaints if "401" not in each] == []


def test_values_arrive_on_the_status_page_while_it_is_open(site: Site, people: People) -> None:
    site.configure("live-1", silence_limit_s=600.0)
    person = people("vera")
    person.go("/status?q=live-1")
    row = person.page.locator("tr.row", has_text="live-1/c0")
    row.get_by_text("never heard").wait_for()
    otto = people("otto")
    otto.go("/stations")
    device = otto.page.locator("tr", has_text="live-1")
    device.get_by_text("never heard").wait_for()
    site.measure("live-1", [[20.0, 21.0]])
    device.get_by_text("online", exact=True).wait_for()
    device.get_by_text("2 of 2").wait_for()
    row.get_by_text("18.459 m/s").wait_for()  # 0.046 * (20 - 0.2) / 0.05 + 0.243
    assert "online" in row.inner_text()
    site.measure("live-1", [[30.0, 21.0]])
    row.get_by_text("27.659 m/s").wait_for()
    assert not person.complaints
    assert not otto.complaints


def test_a_page_whose_script_comes_late_misses_nothing(site: Site, people: People) -> None:
    site.configure("slow-1", silence_limit_s=600.0)
    otto = people("otto")
    otto.page.route("**/states.js", lambda route: (otto.page.wait_for_timeout(2000), route.continue_()))
    otto.go("/stations")
    device = otto.page.locator("tr", has_text="slow-1")
    site.measure("slow-1", [[20.0, 21.0]])
    device.get_by_text("2 of 2").wait_for()


def test_a_device_falls_silent_its_alarm_is_acknowledged_here_and_seen_there(site: Site, people: People) -> None:
    otto, vera = people("otto"), people("vera")
    otto.go("/status")
    vera.go("/alarms")
    site.configure("quiet-1", silence_limit_s=2.0)
    site.measure("quiet-1", [[20.0, 21.0]])
    item = otto.page.locator("#alarms li", has_text="quiet-1")
    item.wait_for()
    theirs = vera.page.locator("#alarms tr", has_text="quiet-1")
    theirs.get_by_text("raised").wait_for()
    assert vera.page.get_by_role("button", name="Acknowledge").count() == 0, "a viewer acts on nothing"
    item.get_by_role("button", name="Acknowledge").click()
    theirs.get_by_text("acknowledged").wait_for()
    theirs.get_by_text("otto").wait_for()
    stored = site.await_rows("SELECT event FROM alarm_events WHERE state = 'acknowledged'")[0][0]
    assert stored["data"]["who"] == "otto"
    site.measure("quiet-1", [[20.0, 21.0]])
    site.await_rows("SELECT 1 FROM alarms WHERE device_id = 'quiet-1' AND state = 'cleared'")
    assert not otto.complaints


def test_alarms_are_shelved_together_and_taken_off_the_shelf(site: Site, people: People) -> None:
    names = ["shelf-1", "shelf-2"]
    for name in names:
        site.configure(name, silence_limit_s=1.0, station={"station_id": name, "name": name})
        site.measure(name, [[20.0, 21.0]])
    otto = people("otto")
    otto.go("/alarms?q=shelf-")
    for name in names:
        otto.page.locator("tr", has_text=name).get_by_role("checkbox").check()
    otto.page.get_by_role("toolbar").get_by_role("button", name="Shelve").click()
    otto.page.locator("#act [name=reason]").fill("mast is down for works")
    otto.page.locator("#act").get_by_label("1 hour").check()
    otto.page.locator("#act-go").click()
    otto.page.locator(".toast", has_text="2 shelved").wait_for()
    otto.until("document.querySelector('[data-count=shelved]').textContent !== '0'")
    otto.go("/alarms?tab=shelved")
    row = otto.page.locator("tr", has_text="shelf-1")
    row.get_by_text("mast is down for works").wait_for()
    row.get_by_role("button", name="Unshelve").click()
    otto.page.locator("#act-go").click()
    otto.page.locator(".toast", has_text="1 taken off the shelf").wait_for()
    noted = site.rows("SELECT who, outcome FROM audit_log WHERE what IN ('alarm.shelve', 'alarm.unshelve')")
    assert noted == [("otto", "done")] * 3


def test_a_viewer_is_refused_whatever_the_page_shows(people: People) -> None:
    vera = people("vera")
    vera.go("/alarms")
    asked = """fetch('/alarms/actions', {method: 'POST', headers: {'Content-Type': 'application/json',
      'X-CSRF-Token': document.querySelector('meta[name=csrf]').content},
      body: JSON.stringify({alarms: ['x'], action: 'acknowledge'})}).then((r) => r.status)"""
    assert vera.page.evaluate(asked) == 403


def test_a_change_without_the_sessions_token_is_refused(people: People) -> None:
    otto = people("otto")
    otto.go("/alarms")
    asked = """fetch('/alarms/actions', {method: 'POST', headers: {'Content-Type': 'application/json'},
      body: JSON.stringify({alarms: ['x'], action: 'acknowledge'})}).then((r) => r.status)"""
    assert otto.page.evaluate(asked) == 403


def test_a_session_survives_a_restart_and_the_page_heals(site: Site, people: People) -> None:
    person = people("vera")
    person.go("/status")
    assert site.stop_dashboard() == 0
    person.page.locator("#lost").wait_for()
    assert "connection to the server is lost" in person.page.locator("#lost").inner_text()
    site.start_dashboard()
    person.until("window.telltale.line.isUp")
    person.page.locator("#lost").wait_for(state="hidden")
    person.go("/alarms")
    assert person.page.locator("h1").inner_text() == "Alarms"


def test_too_many_failed_sign_ins_lock_for_a_time(site: Site, people: People) -> None:
    person = people()
    for _ in range(5):
        person.sign_in("nobody-at-all", "wrong wrong wrong")
        person.page.locator("#login-problem").wait_for()
    person.sign_in("nobody-at-all", PASSWORD)
    person.page.get_by_text("too many sign-ins have failed").wait_for()

    def hurried(_: int) -> int:
        told = {"name": "in-a-hurry", "password": "wrong wrong wrong"}
        return httpx.post(f"{site.address}/login", data=told, timeout=60).status_code

    with ThreadPoolExecutor(10) as at_once:
        answers = list(at_once.map(hurried, range(10)))
    assert answers.count(401) <= 5, "many at once are no way around the limit"
    assert 429 in answers
    site.rows("UPDATE login_failures SET time = time - interval '1 hour' RETURNING 1")
    person.sign_in("nobody-at-all", PASSWORD)
    person.page.get_by_text("is not right").wait_for()


def test_a_range_is_flagged_with_the_mouse_and_found_in_the_database(site: Site, people: People) -> None:
    begin = 1_760_000_000
    site.configure("bad-1", interval_s=1.0)
    site.measure("bad-1", [[20.0 + (row % 20), 21.0] for row in range(600)], end=begin + 599)
    site.await_rows("SELECT 1 FROM readings HAVING count(*) FILTER (WHERE time > to_timestamp(%s)) >= 1", begin + 598)
    otto = people("otto")
    otto.go("/plot")
    otto.page.locator("#add-name").fill("bad-1/c0")
    otto.page.get_by_role("button", name="Add", exact=True).click()
    otto.until("window.telltale.plot?.rows === 600")  # of last year, and not of the day that is
    otto.page.locator("#band").check()  # of statistics: this logger gives neither least nor largest
    otto.until("window.telltale.plot.chart.series.length === 4")
    otto.until("window.telltale.plot.chart.data[0].every(Number.isFinite)")
    otto.page.locator("#band").uncheck()
    otto.until("window.telltale.plot.chart.series.length === 2")
    otto.page.get_by_role("button", name="Flag", exact=True).click()
    box = otto.page.locator(".u-over").bounding_box()
    assert box
    left, right = box["x"] + box["width"] * 0.25, box["x"] + box["width"] * 0.5
    otto.page.mouse.move(left, box["y"] + 50)
    otto.page.mouse.down()
    otto.page.mouse.move(right, box["y"] + 60, steps=8)
    otto.page.mouse.up()
    form = otto.page.locator("#flag-form")
    form.locator("[name=category]").select_option("icing")
    form.locator("[name=reason]").fill("ice on the cup")
    form.get_by_role("button", name="Flag", exact=True).click()
    otto.page.locator("#flags").get_by_text("ice on the cup").wait_for()
    ((low, high, author, reason),) = site.rows(
        "SELECT extract(epoch FROM lower(during))::float8, extract(epoch FROM upper(during))::float8, author, reason"
        " FROM flags WHERE removed IS NULL"
    )
    assert (author, reason) == ("otto", "ice on the cup")
    assert abs(low - (begin + 150)) <= 2, "a pixel is about half a second"
    assert abs(high - (begin + 300)) <= 2
    left_out = "SELECT count(*) FROM readings_good WHERE sensor_id = (SELECT sensor('bad-1', 'c0'))"
    assert site.rows(left_out) == [(600 - int(high - low),)]
    zoned = ("--device", "bad-1", "--sensor", "bad-1/c0", "--zone", "UTC", "--out", "bad-1.csv")
    site.command("export", "csv", *zoned)
    exported = [line for line in (site.folder / "bad-1.csv").read_text().splitlines() if not line.startswith("#")]
    empty = [line for line in exported[1:] if line.endswith(",")]
    assert len(exported) == 601
    assert len(empty) == int(high - low), "what is flagged is not exported"
    otto.page.get_by_role("button", name="Undo flag").click()
    otto.page.get_by_text("No flag in this period.").wait_for()
    assert site.rows(left_out) == [(600,)]
    otto.page.locator("#flag-here").click()
    form.get_by_role("button", name="Flag", exact=True).click()
    otto.page.get_by_role("button", name="Take off").click()
    otto.page.get_by_text("No flag in this period.").wait_for()
    otto.page.locator("#undo").wait_for(state="hidden")  # there is nothing to undo of what is off
    assert not otto.complaints


def test_a_revoked_session_ends_its_open_page(site: Site, people: People) -> None:
    ada, vera = people("ada"), people("vera")
    vera.go("/status")
    ada.go("/users")
    ada.page.on("dialog", lambda dialog: dialog.accept())
    ada.page.locator("tr[data-user=vera]").get_by_role("button", name="Sign out").click()
    vera.page.wait_for_url("**/login**")
    vera.page.goto("/status")
    assert "/login" in vera.page.url
    assert site.rows("SELECT who, subject FROM audit_log WHERE what = 'user.sign_out'") == [("ada", "vera")]


def test_a_token_of_ones_own_reads_through_the_api_until_it_is_revoked(site: Site, people: People) -> None:
    otto = people("otto")
    otto.go("/account")
    otto.page.locator("#new-token [name=name]").fill("notebook")
    otto.page.get_by_role("button", name="Make a token").click()
    otto.page.locator("#link-dialog[open]").wait_for()
    headers = {"Authorization": f"Bearer {otto.page.locator('#link-text').inner_text()}"}
    assert httpx.get(f"{site.address}/api/v1/devices", headers=headers).status_code == 200
    assert httpx.get(f"{site.address}/users", headers=headers).status_code == 403
    otto.page.locator("#link-dialog").get_by_role("button", name="Close").click()
    otto.page.on("dialog", lambda dialog: dialog.accept())
    otto.page.get_by_role("button", name="Revoke").click()
    otto.page.get_by_text("No token works.").wait_for()
    assert httpx.get(f"{site.address}/api/v1/devices", headers=headers).status_code == 401


def test_a_file_is_uploaded_followed_to_stored_and_exported_again(site: Site, people: People, tmp_path: Path) -> None:
    demo = Path(__file__).parents[2] / "infra" / "demo"
    site.command("stations", "import", str(demo / "demo_mast.json"), "--utc-offset", "+00:00")
    lines = (demo / "demo_mast.dat").read_text().splitlines(keepends=True)
    (tmp_path / "mast.dat").write_text("".join(lines[:104]))
    (tmp_path / "shopping.txt").write_text("bread\nmilk\n" * 20)
    otto = people("otto")
    otto.go("/imports")
    otto.page.locator("#files").set_input_files([tmp_path / "mast.dat", tmp_path / "shopping.txt"])
    otto.page.locator("tr[data-file='mast.dat']").get_by_text("stored", exact=True).wait_for()
    refused = otto.page.locator("tr[data-file='shopping.txt']")
    refused.get_by_text("refused").wait_for()
    assert "line 1" in refused.inner_text()
    ((rows, times),) = site.rows(
        "SELECT count(*), count(DISTINCT time) FROM readings JOIN sensors USING (sensor_id)"
        " WHERE device_id = 'demo-mast'"
    )
    assert (rows, times) == (29 * 100, 100)
    otto.go("/exports")
    otto.page.locator("#export [name=format]").select_option("csv")
    otto.page.locator("#export [name=station]").select_option("demo-mast")
    otto.page.get_by_role("button", name="Start the export").click()
    with otto.page.expect_download() as coming:
        otto.page.get_by_role("link", name="Download").first.click()
    kept = [line for line in Path(coming.value.path()).read_text().splitlines() if not line.startswith("#")]
    head, *body = (line.split(",") for line in kept)
    assert len(body) == 100
    column = next(n for n, name in enumerate(head) if name.startswith("Spd80mN") and "Std" not in name)
    values = [None if not cells[column] else float(cells[column]) for cells in body]
    stored = site.rows(
        "SELECT CASE WHEN quality IN (1, 2) THEN value END FROM readings"
        " WHERE sensor_id = sensor('demo-mast', 'Spd80mN') ORDER BY time"
    )
    assert values == [value for (value,) in stored]
    fill_the_gap(site, otto, people("vera"))
    assert not otto.complaints


MAST_READINGS = "FROM readings JOIN sensors USING (sensor_id) WHERE device_id = 'demo-mast'"


def fill_the_gap(site: Site, otto: Person, vera: Person) -> None:
    """Three hours that the database has lost come back from the file that was imported."""
    lost = f"""DELETE FROM readings r
      USING (SELECT sensor_id, min(time) + interval '5 h' AS t {MAST_READINGS} GROUP BY 1) m
      WHERE r.sensor_id = m.sensor_id AND r.time >= t AND r.time < t + interval '3 h' RETURNING 1"""
    assert len(site.rows(lost)) == 18 * 29
    vera.go("/imports")
    vera.page.locator("tr[data-gaps='demo-mast']").get_by_text("18 rows of 29 channels").wait_for()
    assert vera.page.get_by_role("button", name="What could fill them").count() == 0, "a viewer begins nothing"
    otto.go("/imports")
    otto.page.locator("tr[data-gaps='demo-mast']").get_by_role("button", name="What could fill them").click()
    dialog = otto.page.locator("#fill")
    dialog.get_by_text("3 gaps, ").wait_for()  # before the file and since its end, too
    assert "mast.dat" in dialog.inner_text()
    assert "telltale edge spool resend --device demo-mast" in dialog.inner_text()
    dialog.get_by_role("button", name="Fill them").click()
    otto.page.locator("[data-backfill='demo-mast']").get_by_text("done", exact=True).wait_for(timeout=120_000)
    assert site.await_rows(f"SELECT count(DISTINCT time) {MAST_READINGS} HAVING count(*) = 2900") == [(100,)]
    assert site.rows("SELECT who, subject FROM audit_log WHERE what = 'imports.backfill'") == [("otto", "demo-mast")]
    assert site.await_rows("SELECT uploaded_by FROM imports WHERE name = 'mast.dat' AND state = 'stored'") == [
        ("otto",)
    ]


def test_behind_a_proxy_with_tls_cookies_are_secure_and_addresses_are_the_clients(
    site: Site, browser: Any, accounts: None
) -> None:
    with site.behind_tls() as (address, authority, port):
        person = Person(browser, site, address=address)
        person.sign_in("otto")
        person.page.wait_for_url("**/status")
        person.until("window.telltale?.line.isUp")  # a socket by wss, of our own origin
        cookie = next(each for each in person.context.cookies() if each["name"] == "telltale_session")
        assert cookie["secure"]
        assert not person.complaints
        change = """(origin) => fetch('/alarms/actions', {method: 'POST', headers: {'Content-Type': 'application/json',
          'X-CSRF-Token': document.querySelector('meta[name=csrf]').content}, body: '{}'}).then((r) => r.status)"""
        assert person.page.evaluate(change) == 422, "our own origin may act; there was nothing to do"
        person.close()

        def failed_sign_in(where: str, source: str) -> str:
            """The address that the audit log then has of a client at `source` who says he is another."""
            transport = httpx.HTTPTransport(local_address=source, verify=ssl.create_default_context(cafile=authority))
            with httpx.Client(base_url=where, transport=transport) as client:
                who = f"nobody-{secrets.token_hex(4)}"
                said = {"X-Forwarded-For": "203.0.113.9", "Origin": where}
                answer = client.post("/login", data={"name": who, "password": "wrong"}, headers=said)
                assert answer.status_code == 401
                assert ("strict-transport-security" in answer.headers) is True
                away = client.post(
                    "/login", data={"name": who, "password": "x"}, headers={"Origin": "https://a.example"}
                )
                assert away.status_code == 403
            ((found,),) = site.rows("SELECT address FROM audit_log WHERE what = 'login' AND who = %s", who)
            return str(found)

        assert failed_sign_in(address, "127.0.0.2") == "127.0.0.2", "as the proxy has seen him"
        assert failed_sign_in(f"http://127.0.0.1:{port}", "127.0.0.3") == "127.0.0.3", "he is no proxy of ours"


@pytest.fixture
def notebook(site: Site, accounts: None) -> Iterator[httpx.Client]:
    """A program with a token of otto's."""
    scopes = [word for scope in ("read", "import", "alarm") for word in ("--scope", scope)]
    made = json.loads(site.command("token", "create", "notebook", "--owner", "otto", *scopes, "--json"))
    headers = {"Authorization": f"Bearer {made['token']}"}
    with httpx.Client(base_url=f"{site.address}/api/v1", headers=headers, timeout=30) as client:
        yield client


def test_a_file_that_a_program_uploads_is_followed_to_stored(site: Site, notebook: httpx.Client) -> None:
    demo = Path(__file__).parents[2] / "infra" / "demo"
    site.command("stations", "import", str(demo / "demo_mast.json"), "--utc-offset", "+00:00")
    lines = (demo / "demo_mast.dat").read_text().splitlines(keepends=True)
    content = "".join(lines[:4] + lines[1004:1034]).encode()
    answer = notebook.post("/imports", params={"name": "later.dat"}, content=content)
    assert (answer.status_code, answer.json()["sha256"]) == (202, hashlib.sha256(content).hexdigest())
    file = f"/imports/{answer.json()['sha256']}"
    await_true(lambda: notebook.get(file).json().get("state") == "stored", what="the file is stored")
    told = notebook.get(file).json()
    assert (told["rows"], told["sent"], told["device_id"]) == (30, 30, "demo-mast")
    period = {"from": told["first_time"], "format": "ndjson"}
    rows = notebook.get("/readings", params={"device": "demo-mast", **period}).text.splitlines()
    assert len(rows) == len({(each["sensor"], each["time"]) for each in map(json.loads, rows)}) == 30 * 29


def test_a_program_acts_on_alarms_and_is_answered_by_the_stage(site: Site, notebook: httpx.Client) -> None:
    site.configure("api-1", silence_limit_s=1.0)
    site.measure("api-1", [[20.0, 21.0]])
    site.await_rows("SELECT 1 FROM alarms WHERE device_id = 'api-1' AND state = 'raised'")
    (alarm,) = notebook.get("/alarms", params={"device": "api-1"}).json()["items"]
    actions = f"/alarms/{alarm['alarm_id']}/actions"
    done = notebook.post(actions, json={"action": "acknowledge", "reason": "on my way"})
    assert (done.status_code, done.json()["state"], done.json()["reason"]) == (200, "acknowledged", None)
    site.await_rows("SELECT 1 FROM alarms WHERE device_id = 'api-1' AND state = 'acknowledged'")
    refused = notebook.post(actions, json={"action": "unshelve"})
    assert refused.status_code == 409
    assert "not shelved" in refused.json()["detail"].replace("_", " ")
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert notebook.post(actions, json={"action": "shelve", "until": until}).json()["state"] == "shelved"
    assert notebook.post(actions, json={"action": "shelve"}).status_code == 422
    assert notebook.post("/alarms/none/actions", json={"action": "acknowledge"}).status_code == 404
    steps = site.await_rows(
        "SELECT event FROM alarm_events WHERE state = 'shelved' AND alarm_id = %s", alarm["alarm_id"]
    )
    assert steps[0][0]["data"]["who"].startswith("token tt_")
    noted = "SELECT outcome FROM audit_log WHERE what LIKE 'alarm.%%' AND subject = %s ORDER BY audit_id"
    assert site.rows(noted, alarm["alarm_id"]) == [("done",), ("refused",), ("done",)]


def test_an_alarm_of_the_pipeline_is_acted_on_like_a_devices(
    site: Site, people: People, notebook: httpx.Client
) -> None:
    kept = KeptAlarms(
        site.folder / "kept.json",
        speaker="backup",
        tell=lambda events: tell_all(site.kafka, events, client_id="test", within_s=WAIT_S_MAX),
    )
    facts = {"severity": Severity.MAJOR, "reason": "failed", "message": "no room"}
    kept.raised("backup_failed", source="backup/site", now=datetime.now(UTC), **facts)
    assert kept.ring()
    otto = people("otto")
    otto.go("/status")
    item = otto.page.locator("#alarms li", has_text="backup/site")
    item.get_by_role("button", name="Acknowledge").click()
    item.get_by_text("acknowledged").wait_for()
    found = site.await_rows("SELECT alarm_id FROM alarms WHERE rule = 'backup_failed' AND state = 'acknowledged'")
    actions, until = f"/alarms/{found[0][0]}/actions", (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    shelved = notebook.post(actions, json={"action": "shelve", "until": until})
    assert (shelved.status_code, shelved.json()["state"], shelved.json()["device_id"]) == (200, "shelved", None)
    otto.go("/alarms?tab=shelved&q=backup")
    row = otto.page.locator("#alarms tr", has_text="backup_failed")
    row.get_by_role("button", name="Unshelve").click()
    otto.page.locator("#act-go").click()
    otto.page.locator(".toast", has_text="1 taken off the shelf").wait_for()
    kept.cleared("backup_failed", source="backup/site", now=datetime.now(UTC), message="made")
    assert kept.ring()
    site.await_rows("SELECT 1 FROM alarms WHERE rule = 'backup_failed' AND state = 'cleared'")
    assert not otto.complaints


def test_a_device_is_edited_once_and_not_over_somebody_elses_edit(site: Site, people: People) -> None:
    site.configure("edit-1", silence_limit_s=600.0)
    otto, ada = people("otto"), people("ada")
    for each in (otto, ada):
        each.page.goto("/devices/edit-1")
        each.page.locator("h1", has_text="edit-1").wait_for()
    form = otto.page.locator("form[data-ask='PUT /devices/edit-1']")
    form.locator("[name=silence_limit_s]").fill("-5")
    form.locator("[name=silence_limit_s]").evaluate("(field) => field.removeAttribute('min')")
    form.get_by_role("button", name="Save").click()
    form.get_by_text("silence_limit_s: Input should be greater than 0").wait_for()
    form.locator("[name=silence_limit_s]").fill("900")
    form.get_by_role("button", name="Save").click()
    otto.page.get_by_text("600.0 → 900.0").wait_for()
    assert site.await_rows(
        "SELECT configured_by FROM devices WHERE device_id = 'edit-1' AND silence_limit_s = 900"
    ) == [("otto",)]
    theirs = ada.page.locator("form[data-ask='PUT /devices/edit-1']")
    theirs.get_by_role("button", name="Save").click()
    theirs.get_by_text("otto has changed edit-1 meanwhile").wait_for()


@pytest.mark.parametrize(
    ("origin", "taken"), [("own", True), ("https://elsewhere.example", False), (None, False)], ids=str
)
def test_a_socket_is_opened_only_by_our_own_pages(site: Site, people: People, origin: str | None, taken: bool) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    vera = people("vera")
    cookie = next(each["value"] for each in vera.context.cookies() if each["name"] == "telltale_session")
    address = f"{site.address.replace('http', 'ws')}/live"
    headers = {"Cookie": f"telltale_session={cookie}"}
    said = site.address if origin == "own" else origin
    if taken:
        with connect(address, additional_headers=headers, origin=said) as socket:
            assert '"t":"s"' in str(socket.recv(timeout=30))
        return
    with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=headers, origin=said):
        pass
    assert refused.value.response.status_code == 403


FAR = "Far away behind the seven hills, where names of stations fit into no choice on a phone"
PAGES = (
    *("/status", "/status?view=devices", "/alarms", "/alarms?tab=shelved", "/alarms?tab=history", "/stations"),
    *("/stations/mast", "/devices/page-1", "/plot", "/plot?sensor=page-1/c0&sensor=page-1/c1", "/imports", "/exports"),
    *("/pipeline", "/users", "/account"),
)
SCREENSHOTS = Path(os.environ.get("TELLTALE_SCREENSHOTS") or Path(__file__).parents[2] / ".screenshots")
SERIOUS = {"serious", "critical"}
# axe copies a style sheet that is still on its way into a <style> of its own, which the page's policy forbids: the
# complaint would be axe's, not the page's. No rule that is on reads style sheets.
AXE = "{preload: false}"
BUSY = "document.querySelector('.htmx-request') !== null || /loading…|counting…|Asking/.test(document.body.innerText)"


@pytest.fixture(scope="module")
def filled(site: Site, accounts: None) -> None:
    """A device with readings and an alarm, and one that never spoke."""
    site.configure("page-1", silence_limit_s=2.0)
    site.configure("page-2", silence_limit_s=600.0, station={"station_id": "far", "name": FAR})
    site.measure("page-1", [[20.0 + row % 9, 21.0] for row in range(120)])
    site.await_rows("SELECT 1 FROM alarms WHERE device_id = 'page-1' AND state = 'raised'")


def looked_at(person: Person, path: str) -> list[str]:
    """Serious things that axe-core finds, and whether something sticks out to the side."""
    person.go(path)
    person.until(f"!({BUSY})")
    person.page.evaluate((assets.folder(with_tests=True) / "axe.js").read_text())
    with person.looked_at_by_a_tool():
        found: list[dict[str, Any]] = person.page.evaluate(f"axe.run({AXE}).then((result) => result.violations)")
    told = [
        f"{path}: {each['id']} ({each['impact']}): {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in SERIOUS
    ]
    if person.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        told.append(f"{path}: wider than the window")
    return told


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_no_page_shuts_anybody_out(filled: None, people: People, width: int, scheme: str) -> None:
    person = people("ada", width=width, height=900, scheme=scheme)
    troubles = []
    ((alarm,),) = person.site.rows("SELECT alarm_id FROM alarms WHERE device_id = 'page-1' LIMIT 1")
    for path in (*PAGES, f"/alarms/{alarm}"):
        troubles += looked_at(person, path)
        name = re.sub(r"\W+", "-", path.replace(alarm, "one")).strip("-")
        person.screenshots(SCREENSHOTS, f"{name}-{width}")
    assert not troubles
    assert not person.complaints
    person.page.evaluate("document.querySelector('main').append(document.createElement('img'))")
    assert person.page.evaluate(f"axe.run({AXE}).then((r) => r.violations.map((v) => v.id))") == ["image-alt"], (
        "it looks"
    )


def test_a_table_is_sorted_and_filtered_with_the_keyboard_alone(filled: None, people: People) -> None:
    person = people("vera")
    person.go("/status")
    person.page.locator("tr.row").first.wait_for()
    person.page.keyboard.press("Tab")
    assert person.page.evaluate("document.activeElement.className") == "skip"
    person.page.locator("#filter").focus()
    person.page.keyboard.type("page-2")
    person.page.locator("#shown", has_text=re.compile(r"^2 of \d+ sensors")).wait_for()
    person.page.locator("thead button", has_text="Sensor").focus()
    person.page.keyboard.press("Enter")
    person.page.keyboard.press("Enter")
    assert person.page.locator("th[aria-sort=descending]").inner_text().startswith("Sensor")
    assert person.page.locator("tr.row:visible").first.inner_text().startswith("page-2/c1")
    assert "q=page-2" in person.page.url
    assert not person.complaints
