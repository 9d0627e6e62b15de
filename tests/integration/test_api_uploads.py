"""Uploads and their abuse; export jobs from start to a resumed download."""

import hashlib
import io
import json
import os
import socket
import zipfile
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from fix_sink import until
from fix_web import MAST, Served

from dashboard.api import exporting
from dashboard.exports.jobs import Jobs
from dashboard.web.access import Role, Scope

pytestmark = pytest.mark.integration

FILE = b"TOA5,mast,CR1000\n" * 1000


@pytest.fixture(scope="module")
def client(served: Served) -> httpx.Client:
    return served.client(Scope.IMPORT)


def files(served: Served) -> list[Path]:
    return sorted(path for path in (served.folder / "incoming").rglob("*") if path.is_file())


def send(client: httpx.Client, content: bytes, **params: str | int) -> httpx.Response:
    return client.post("/api/v1/imports", params=params, content=content)


@pytest.fixture(autouse=True)
def nothing_left_behind(served: Served) -> None:
    for path in files(served):
        path.unlink()


def test_an_upload_is_whole_where_the_import_service_looks(served: Served, client: httpx.Client) -> None:
    answer = send(client, FILE, name="mast.dat", device=MAST, utc_offset_minutes=60)
    assert answer.status_code == 202
    said, kept = files(served)
    assert (kept.name, kept.read_bytes()) == ("mast.dat", FILE)
    assert answer.json() == {"sha256": hashlib.sha256(FILE).hexdigest(), "name": "mast.dat", "bytes": len(FILE)}
    assert (said.name, json.loads(said.read_bytes())) == (
        ".mast.dat.json",
        {"device": MAST, "utc_offset_minutes": 60},
    )
    who = kept.relative_to(served.folder / "incoming").parts[0]
    assert who.startswith("token_tt_")
    assert served.sql("SELECT subject FROM audit_log WHERE what = 'import.upload'") == [("mast.dat",)]


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "/etc/passwd", "..", ".hidden", "a\\b", "x" * 200, "", "a\nb", "C:x"]
)
def test_a_name_with_a_path_in_it_is_refused(served: Served, client: httpx.Client, name: str) -> None:
    assert send(client, FILE, name=name).status_code == 422
    assert files(served) == []


def test_what_is_too_large_is_refused_while_it_comes(served: Served, client: httpx.Client) -> None:
    answer = send(client, b"x" * 6_000_000, name="large.dat")
    assert (answer.status_code, "5,000,000" in answer.json()["detail"]) == (413, True)

    def pieces():  # type: ignore[no-untyped-def]
        for _ in range(100):
            yield b"x" * 100_000

    with suppress(httpx.WriteError):  # it may hang up before all was sent
        assert client.post("/api/v1/imports", params={"name": "endless.dat"}, content=pieces()).status_code == 413
    assert files(served) == []


def raw(served: Served, head: str, body: bytes) -> bytes:
    """Sends part of a request and hangs up after the answer, if one comes within two seconds."""
    host, _, port = served.url.removeprefix("http://").partition(":")
    token = served.token(Scope.IMPORT)
    with socket.create_connection((host, int(port)), timeout=2) as line:
        line.sendall(f"{head}\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode() + body)
        try:
            return line.recv(10_000)
        except TimeoutError:
            return b""


def test_ten_gigabytes_that_are_announced_are_refused_before_they_come(served: Served) -> None:
    said = raw(served, "POST /api/v1/imports?name=big.dat HTTP/1.1\r\nContent-Length: 10000000000", b"x" * 100)
    assert b" 413 " in said.splitlines()[0]
    assert files(served) == []


def test_a_cut_connection_leaves_nothing(served: Served) -> None:
    head = "POST /api/v1/imports?name=cut.dat HTTP/1.1\r\nContent-Length: 1000000"
    assert raw(served, head, b"x" * 5_000) == b""
    until(lambda: files(served) == [], what="nothing is left of it")


def test_forms_and_empty_files_are_refused(served: Served, client: httpx.Client) -> None:
    form = client.post("/api/v1/imports", params={"name": "a.dat"}, files={"file": FILE})
    assert (form.status_code, "file itself" in form.json()["detail"]) == (415, True)
    assert send(client, b"", name="empty.dat").status_code == 422
    assert files(served) == []


def test_a_zip_bomb_is_kept_packed_and_read_by_nobody_here(served: Served, client: httpx.Client) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("../../evil.dat", b"\0" * 50_000_000)
    answer = send(client, packed.getvalue(), name="bomb.zip")
    assert answer.status_code == 202
    assert [path.name for path in files(served)] == ["bomb.zip"]
    assert sum(path.stat().st_size for path in files(served)) == len(packed.getvalue()) < 100_000


def test_an_answer_lies_beside_a_file_that_waits(served: Served) -> None:
    client = served.client(Scope.IMPORT, Scope.READ)
    sha256 = send(client, FILE, name="ask.dat").json()["sha256"]
    (kept,) = files(served)
    assert client.post(f"/api/v1/imports/{sha256}/answers", json={"device": MAST}).status_code == 404
    served.sql(
        "INSERT INTO imports (sha256, name, state, rows, readings, sent, time, source, questions) "
        "VALUES (%s, 'ask.dat', 'needs an answer', 0, 0, 0, now(), %s, '{device}')",
        sha256,
        str(kept),
    )
    assert client.post(f"/api/v1/imports/{sha256}/answers", json={}).status_code == 422
    for said in ({"device": MAST}, {"date_order": "dmy"}):
        assert client.post(f"/api/v1/imports/{sha256}/answers", json=said).status_code == 202
    assert json.loads((kept.parent / ".ask.dat.json").read_bytes()) == {"device": MAST, "date_order": "dmy"}
    served.sql("UPDATE imports SET source = '/etc/passwd' WHERE sha256 = %s", sha256)
    assert client.post(f"/api/v1/imports/{sha256}/answers", json={"device": MAST}).status_code == 409
    assert not Path("/etc/.passwd.json").exists()


def test_an_export_is_cancelled_by_who_has_asked_for_it_or_an_operator(served: Served) -> None:
    ann, bob = served.user(Role.VIEWER), served.user(Role.VIEWER)

    def asked_by(author: str) -> str:
        """A job that runs: of those the service's own worker takes none."""
        ((number,),) = served.sql(
            "INSERT INTO exports (request, author, state) SELECT %s, %s, 'running' RETURNING export_id",
            json.dumps({"format": "csv", "device": MAST}),
            author,
        )
        return f"/api/v1/exports/{number}"

    def as_person(user: str) -> httpx.Client:
        cookies = served.session(user)
        headers = {"X-CSRF-Token": cookies.pop("csrf")}
        made = httpx.Client(base_url=served.url, cookies=cookies, headers=headers, timeout=60, trust_env=False)
        served.clients.append(made)
        return made

    of_ann = served.client(token=served.token(Scope.EXPORT, Scope.READ, owner=ann))
    of_bob = served.client(token=served.token(Scope.EXPORT, owner=bob))
    job = asked_by(ann)
    for stranger in (as_person(bob), of_bob, served.client(Scope.EXPORT)):
        refused = stranger.delete(job)
        assert (refused.status_code, f"{ann} may cancel it" in refused.json()["detail"]) == (403, True)
    assert not of_ann.get(job).json()["is_cancelled"]
    anybody = (as_person(served.user(Role.OPERATOR)), served.client(Scope.EXPORT, Scope.ADMIN))
    for who in (as_person(ann), of_ann, *anybody):
        answer = who.delete(asked_by(ann))
        assert (answer.status_code, answer.json()["is_cancelled"]) == (200, True)
    me = of_ann.get("/api/v1/me").json()["name"]
    assert as_person(ann).delete(asked_by(me)).status_code == 200


def test_too_many_exports_of_one_are_refused_until_some_are_done(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = Jobs(served.dsn, served.folder / "exports", queued_of_one_max=0)
    monkeypatch.setattr(exporting, "jobs_of", lambda _: full)
    answer = served.client(Scope.EXPORT).post("/api/v1/exports", json={"format": "csv", "device": MAST})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert "cancel one, or try again" in answer.json()["detail"]


def test_an_export_is_started_followed_and_its_download_resumed(served: Served) -> None:
    client = served.client(Scope.EXPORT)
    started = client.post("/api/v1/exports", json={"format": "csv", "device": MAST, "zone": "UTC"})
    assert started.status_code == 202
    where = started.headers["location"]

    def done() -> bool:
        job = client.get(where).json()
        assert job["state"] in ("queued", "running", "done"), job
        return bool(job["state"] == "done")

    until(done, what="the export is done")
    whole = client.get(f"{where}/file")
    assert whole.status_code == 200
    half = len(whole.content) // 2
    rest = client.get(f"{where}/file", headers={"Range": f"bytes={half}-"})
    assert (rest.status_code, whole.content[:half] + rest.content) == (206, whole.content)
    assert client.delete(where).status_code == 409
    assert client.get("/api/v1/exports/4711/file").status_code == 404
    listed = client.get("/api/v1/exports", params={"limit": 1}).json()
    assert listed["items"][0]["export_id"] == int(os.path.basename(where))  # noqa: PTH119 - of a URL
