"""The notifier as a process: real broker, a mail server with TLS, a receiver that checks signatures, a program; killed
while it sends, a way that fails, alarms that come past Kafka."""

import base64
import datetime as dt
import hashlib
import hmac
import ipaddress
import json
import re
import ssl
import subprocess
import sys
import threading
from email import message_from_bytes
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from confluent_kafka.admin import AdminClient
from fix_services import await_true

from infra import ports
from infra.client import connection
from infra.provision import provision
from infra.telling import tell_all
from schemas.alarms import Alarm, AlarmState, Severity, alarm_event
from schemas.topics import ALARMS

pytestmark = pytest.mark.integration

WITHIN_S = 60
SECRET = "whsec_" + base64.b64encode(b"a key for tests").decode()


def told(name, state="raised", *, step=0, **changes):
    now = dt.datetime.now(dt.UTC)
    known = {
        "alarm_id": name, "rule": "device_silent", "source": f"device/{name}", "device_id": name,
        "station_id": "mast", "severity": Severity.MAJOR, "state": AlarmState(state), "reason": "silent",
        "onset": now, "message": "Go and look.", "step": step,
    }  # fmt: skip
    return alarm_event(Alarm(**(known | changes)), time=now, speaker="streams")


class Hook:
    """Receives webhooks; answers what it is told to; notes what came, with the checked signature."""

    def __init__(self):
        self.got, self.answer, self.hold = [], 204, None
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                said = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
                right = base64.b64encode(hmac.new(b"a key for tests", said, hashlib.sha256).digest()).decode()
                assert self.headers["webhook-signature"] == f"v1,{right}"
                hook.got.append((self.headers["webhook-id"], json.loads(body)))
                if hook.hold is not None:
                    hook.hold.wait(WITHIN_S)
                try:
                    self.send_response(hook.answer)
                    self.end_headers()
                except OSError:
                    pass  # it was killed while it waited for us

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def steps(self):
        """(alarm, state) in the order of arrival, repeats of a notice left out."""
        return [(e["data"]["alarm_id"], e["data"]["state"]) for body in dict(self.got).values() for e in body]

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def hook():
    one = Hook()
    yield one
    if one.hold is not None:
        one.hold.set()
    one.close()


@pytest.fixture
def notifier(cluster, start, tmp_path, monkeypatch):
    """Writes the file and starts the notifier; may be called again after a kill."""
    monkeypatch.setenv("TELLTALE_TEST_SECRET", SECRET)

    def begin(text):
        (tmp_path / "notify.toml").write_text(text)
        named = {"TELLTALE_NOTIFY_CONFIG": str(tmp_path / "notify.toml"), "TELLTALE_DIR": str(tmp_path)}
        return start("notify", "run", TELLTALE_KAFKA=cluster, **named).await_ready()

    return begin


def webhook(url, *, name="hook"):
    return f'[ways.{name}]\nkind = "webhook"\nurl = "{url}"\nsecret = {{ env = "TELLTALE_TEST_SECRET" }}\n'


def route(*ways, wait_s=0):
    return f'[[routes]]\nname = "all"\nways = {json.dumps(ways)}\nwait_s = {wait_s}\n'


def status(tmp_path):
    words = [sys.executable, "-m", "infra.command", "notify", "status", "--json", "--folder", str(tmp_path / "notify")]
    return json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)


def test_each_state_is_told_once_although_the_notifier_is_killed_while_it_sends(cluster, notifier, hook):
    tell_all(cluster, [told("old")], client_id="test")
    text = webhook(hook.url) + route("hook")
    running = notifier(text)
    await_true(lambda: hook.steps() == [("old", "raised")], what="what stands is told", within_s=WITHIN_S)
    for number in range(3):
        hook.hold = threading.Event()
        before = len(hook.got)
        tell_all(cluster, [told(f"a{number}"), told(f"b{number}", replayed=True)], client_id="test")
        await_true(lambda before=before: len(hook.got) > before, what="a try", within_s=WITHIN_S)
        running.kill()  # taken by the receiver, not known to us
        hook.hold.set()
        hook.hold = None
        tell_all(cluster, [told(f"a{number}", "cleared", step=1)], client_id="test")
        running = notifier(text)
    expected = [("old", "raised"), *((f"a{n}", s) for n in range(3) for s in ("raised", "cleared"))]
    await_true(lambda: len(hook.steps()) >= len(expected), what="all is told", within_s=WITHIN_S)
    assert sorted(hook.steps()) == sorted(expected)
    assert running.stop() == 0


def test_a_way_that_fails_keeps_what_it_has_and_is_told_of_by_another(cluster, notifier, hook, tmp_path):
    broken = Hook()
    broken.answer = 503
    try:
        text = webhook(broken.url, name="broken") + webhook(hook.url) + route("broken")
        notifier("alarm_after_s = 0.5\n" + text)
        tell_all(cluster, [told("1")], client_id="test")
        about = lambda: [e["data"] for _, body in hook.got for e in body if e["data"]["rule"] == "notify_undelivered"]  # noqa: E731
        await_true(lambda: len(about()) == 1, what="the other way tells of it", within_s=WITHIN_S)
        assert "503" in about()[0]["message"]
        assert [each["way"] for each in status(tmp_path)["undelivered"]] == ["broken"]
        broken.answer = 200
        await_true(lambda: len(about()) == 2, what="and of its end", within_s=WITHIN_S)
        assert about()[1]["state"] == "cleared"
        assert ("1", "raised") in broken.steps()
        assert status(tmp_path)["undelivered"] == []
    finally:
        broken.close()


def test_alarms_that_cannot_come_through_kafka_come_by_the_inbox_and_once(cluster, notifier, hook, tmp_path):
    inbox = tmp_path / "notify" / "inbox"
    inbox.mkdir(parents=True)
    event = told("w", rule="broker_unreachable")
    (inbox / "1.json").write_text(event.model_dump_json())
    (inbox / "0.json").write_text("no event")
    notifier(webhook(hook.url) + route("hook"))
    await_true(lambda: hook.steps() == [("w", "raised")], what="told", within_s=WITHIN_S)
    tell_all(cluster, [event, told("x")], client_id="test")  # later it comes through Kafka too
    await_true(lambda: ("x", "raised") in hook.steps(), what="the next", within_s=WITHIN_S)
    assert hook.steps() == [("w", "raised"), ("x", "raised")]
    assert [path.name for path in inbox.iterdir()] == ["0.unreadable"]


def test_alarms_of_a_topic_that_was_made_again_while_nobody_listened_are_told(cluster, notifier, hook):
    """Its log is longer by now than the former one was, so that its own offsets do not tell."""
    text = webhook(hook.url) + route("hook")
    running = notifier(text)
    tell_all(cluster, [told(f"a{number}") for number in range(6)], client_id="test")
    await_true(lambda: len(hook.steps()) == 6, what="the first are told", within_s=WITHIN_S)
    assert running.stop() == 0
    admin = AdminClient(connection(cluster))
    admin.delete_topics([ALARMS], operation_timeout=30)[ALARMS].result()
    await_true(lambda: ALARMS not in admin.list_topics(timeout=10).topics, what="it to be gone", within_s=WITHIN_S)
    provision(cluster)
    later = [told(f"b{number}") for number in range(100)]
    tell_all(cluster, later, client_id="test")
    notifier(text)
    await_true(lambda: len(hook.steps()) >= 106, what="all are told", within_s=WITHIN_S)
    assert sorted(hook.steps()[6:]) == sorted((event.data.alarm_id, "raised") for event in later)


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1, signed by itself: (file of certificate, file of key)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.fixture
def mailbox(certificate):
    """A mail server that takes mail only over TLS and after a login. `mails` are parsed."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult, LoginPassword

    class Box:
        def __init__(self):
            self.mails = []

        async def handle_DATA(  # noqa: N802 - its name in aiosmtpd
            self, server, session, envelope
        ):
            self.mails.append(message_from_bytes(envelope.content, policy=default))
            return "250 OK"

    def known(server, session, envelope, mechanism, data):
        return AuthResult(success=data == LoginPassword(b"telltale", b"right"), handled=False)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*map(str, certificate))
    box = Box()
    box.port = ports.free()
    controller = Controller(
        box, hostname="127.0.0.1", port=box.port, tls_context=context, require_starttls=True,
        authenticator=known, auth_required=True, ready_timeout=60, server_hostname="localhost",
    )  # fmt: skip
    controller.start()
    yield box
    controller.stop()


def mail(box, certificate, password):
    return (
        f'[ways.mail]\nkind = "email"\nhost = "127.0.0.1"\nport = {box.port}\nca_file = "{certificate[0]}"\n'
        f'user = "telltale"\npassword = {{ file = "{password}" }}\nsender = "telltale@example.org"\n'
        'to = ["ops@example.org", "chief@example.org"]\n'
    )


def test_mail_goes_over_tls_with_a_login_and_a_program_gets_the_same(cluster, notifier, mailbox, certificate, tmp_path):
    password, got = tmp_path / "password", tmp_path / "got.json"
    password.write_text("right\n")
    program = tmp_path / "program.py"
    program.write_text(f"import sys; open({str(got)!r}, 'a').write(sys.stdin.read() + '\\n')")
    command = f'[ways.program]\nkind = "command"\ncommand = {json.dumps([sys.executable, str(program)])}\n'
    notifier(mail(mailbox, certificate, password) + command + route("mail", "program", wait_s=2))
    tell_all(cluster, [told("1"), told("2", severity=Severity.CRITICAL)], client_id="test")
    await_true(lambda: mailbox.mails and got.exists(), what="mail and program", within_s=WITHIN_S)
    one = mailbox.mails[0]
    assert one["Subject"] == "[telltale] CRITICAL mast: 2 standing"
    assert one["To"] == "ops@example.org, chief@example.org"
    assert re.search(r"MAJOR raised: device_silent, device/1\s+Go and look.", one.get_content())
    assert [e["data"]["alarm_id"] for e in json.loads(got.read_text())] == ["2", "1"]


def test_the_test_message_says_what_is_wrong(mailbox, certificate, tmp_path):
    password = tmp_path / "password"
    text = mail(mailbox, certificate, password) + route("mail")
    (tmp_path / "notify.toml").write_text(text)
    words = [sys.executable, "-m", "infra.command", "notify", "test", "--config", str(tmp_path / "notify.toml")]
    for secret, code, said in (("wrong", 1, "535"), ("p\xe4ss", 1, "must be ASCII"), ("right", 0, "mail: delivered")):
        password.write_text(secret, encoding="utf-8")
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, said in done.stdout) == (code, True), done.stdout + done.stderr
        assert "p\xe4ss" not in done.stdout + done.stderr
    (tmp_path / "notify.toml").write_text(text.replace("ca_file", "#"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "certificate" in done.stdout.lower()
    assert len(mailbox.mails) == 1
