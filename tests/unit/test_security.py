"""Certificates as clients judge them, and strangers by the broker's own words; no broker."""

import datetime as dt
import socket
import ssl
import stat
import threading
from concurrent.futures import Future
from contextlib import suppress

import pytest
from click.testing import CliRunner
from confluent_kafka import KafkaError, KafkaException

from infra import offsets, ports
from infra.command import telltale
from infra.security import certificates, cli, credentials
from infra.security.cli import device
from infra.security.strangers import CALM, OTHERS, SOURCES_MAX, LogEnd, Strangers, Try, tries
from infra.up import Wish, _doors
from schemas.errors import Refused, Unavailable

NOW = dt.datetime.now(dt.UTC)
LOG = [
    "2026-11-26 07:00:00.000 INFO [SocketServer listenerType=BROKER, nodeId=1] Failed authentication with /10.0.0.7 "
    "(channelId=10.0.0.1:9094-10.0.0.7:51234-0-0) (Authentication failed during authentication due to invalid "
    "credentials with SASL mechanism SCRAM-SHA-512) (o.a.k.common.network.Selector)",
    "2026-11-26 07:00:01.000 INFO [SocketServer] Failed authentication with /127.0.0.1 "
    "(channelId=127.0.0.1:9094-127.0.0.1:5-0-1) (SSL handshake failed) (o.a.k.common.network.Selector)",
    "2026-11-26 07:00:02.000 INFO Principal = User:pi-1 is Denied operation = WRITE from host = 10.0.0.7 on resource = "
    "Topic:LITERAL:alarms for request = Produce with resourceRefCount = 1 based on rule DefaultDeny (authorizer)",
    "2026-11-26 07:00:03.000 INFO [GroupCoordinator id=1] Preparing to rebalance group x",
]


def test_refusals_are_read_from_the_brokers_log():
    found = list(tries(LOG))
    assert [(each.source, each.reason) for each in found] == [
        ("address/10.0.0.7", "refused_login"),
        ("address/127.0.0.1", "refused_login"),
        ("device/pi-1", "denied"),
    ]
    assert found[0].said == ("A login from 10.0.0.7 was refused: invalid credentials with SASL mechanism SCRAM-SHA-512")
    assert found[2].said == '"pi-1" at 10.0.0.7 may not write topic alarms'


@pytest.mark.parametrize("name", ["*", "", "a,b", "User:x", ".hidden", "pi 1", "pi-1\n", "x" * 129, "telltale-sink"])
def test_what_is_no_devices_name_gets_no_right(name):
    with pytest.raises(Refused, match="device"):
        credentials.check_name(name)


@pytest.mark.parametrize("words", [["list"], ["add", "mast-7"], ["rotate", "mast-7"], ["revoke", "mast-7"]])
def test_a_broker_that_is_away_is_told_as_everywhere(words, monkeypatch):
    monkeypatch.setattr(offsets, "ANSWER_S_MAX", 0.1)
    done = CliRunner().invoke(device, [*words, "--kafka", "127.0.0.1:1"])
    assert isinstance(done.exception, Unavailable)
    assert str(done.exception).startswith("kafka at 127.0.0.1:1 does not answer")


class Admin:
    """A broker that knows one device, and says something else to one question; None: nothing at all."""

    def __init__(self, question: str, answer: Exception | None) -> None:
        self._question, self._answer = question, answer

    def describe_user_scram_credentials(self, **_):
        return self._said("describe_user_scram_credentials", {"pi-1": None})

    def describe_acls(self, *_, **__):
        return self._said("describe_acls", [])

    def delete_acls(self, filters, **_):
        return {filters[0]: self._said("delete_acls", [])}

    def alter_user_scram_credentials(self, changes, **_):
        return {changes[0].user: self._said("alter_user_scram_credentials", None)}

    def _said(self, question, usual):
        said = Future()
        if question != self._question:
            said.set_result(usual)
        elif self._answer is not None:
            said.set_exception(self._answer)
        return said


AWAY, NO_SUCH_USER = KafkaException(KafkaError(KafkaError._TRANSPORT)), KafkaException(KafkaError(91))


@pytest.mark.parametrize(
    ("words", "question", "answer"),
    [
        (["list"], "describe_user_scram_credentials", None),
        (["list"], "describe_acls", None),
        (["list"], "describe_acls", AWAY),
        (["revoke", "pi-1"], "describe_acls", None),
        (["revoke", "pi-1"], "delete_acls", None),
        (["revoke", "pi-1"], "alter_user_scram_credentials", None),
        (["revoke", "pi-1"], "alter_user_scram_credentials", AWAY),
    ],
)
def test_a_broker_that_does_not_answer_about_devices_is_told_in_one_line(
    monkeypatch, tmp_path, words, question, answer
):
    monkeypatch.setattr(credentials, "ANSWER_S", 0.05)
    monkeypatch.setattr(cli, "_admin", lambda _: Admin(question, answer))
    monkeypatch.setenv("TELLTALE_DIR", str(tmp_path))
    done = CliRunner().invoke(telltale, ["device", *words])
    assert isinstance(done.exception, Unavailable)
    assert str(done.exception).startswith("Kafka: " if answer else "Kafka: no answer within")


def test_a_device_without_a_password_is_revoked(monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "_admin", lambda _: Admin("alter_user_scram_credentials", NO_SUCH_USER))
    monkeypatch.setenv("TELLTALE_DIR", str(tmp_path))
    done = CliRunner().invoke(telltale, ["device", "revoke", "pi-1"])
    assert (done.exit_code, done.output) == (0, "pi-1 may write nothing from now on\n")


def test_a_stranger_stands_until_he_has_been_quiet_for_a_while():
    known = Strangers()
    one = Try("address/x", "refused_login", "...")
    known.note([one, one], NOW)
    known.note([one], NOW + CALM / 2)
    (before,) = known.standing(NOW + CALM)
    assert (before[1].count, before[2]) == (3, True)
    (after,) = known.standing(NOW + 1.5 * CALM)
    assert after[2] is False
    assert list(known.standing(NOW + 2 * CALM)) == []


def test_a_scan_is_no_flood_of_alarms():
    known = Strangers()
    known.note((Try(f"address/10.0.0.{n}", "refused_login", "...") for n in range(200)), NOW)
    found = {source: seen.count for source, seen, _ in known.standing(NOW)}
    assert len(found) == SOURCES_MAX + 1
    assert found[OTHERS] == 200 - SOURCES_MAX


def test_a_log_is_followed_from_its_end_over_emptying(tmp_path):
    log = LogEnd(tmp_path / "kafka.log")
    assert log.lines() == []
    log.path.write_text("old\n")
    assert log.lines() == []
    with log.path.open("a") as file:
        file.write("new\nhal")
    assert log.lines() == ["new"]
    with log.path.open("a") as file:
        file.write("f\n")
    assert log.lines() == ["half"]
    log.path.write_text("a\n")
    assert log.lines() == ["a"]


def served(files):
    """A TLS server on loopback with the broker's certificate; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(files.server))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                line, _ = listener.accept()
                with suppress(OSError, ssl.SSLError):
                    context.wrap_socket(line, server_side=True).close()

    threading.Thread(target=serve, daemon=True).start()
    return listener


@pytest.mark.parametrize(("name", "taken"), [("localhost", True), ("127.0.0.1", True), ("other.example.org", False)])
def test_clients_that_trust_the_authority_take_the_certificate_for_its_names(tmp_path, name, taken):

    files = certificates.Files(tmp_path)
    assert certificates.init(tmp_path, ["localhost", "127.0.0.1"], now=NOW)
    assert files.missing() == []
    listener = served(files)
    try:
        context = ssl.create_default_context(cafile=str(files.ca))
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=20) as line:
            try:
                context.wrap_socket(line, server_hostname=name).close()
            except ssl.SSLCertVerificationError:
                assert not taken
            else:
                assert taken
    finally:
        listener.close()


@pytest.mark.parametrize("name", ["", "ä.example.org", "a b", "../x", "a..b", "x" * 254])
def test_what_is_no_host_gets_no_certificate(tmp_path, name):
    with pytest.raises(Refused, match="--name: expected a host's name or address"):
        certificates.init(tmp_path / "tls", [name], now=NOW)
    assert not (tmp_path / "tls").exists()


def test_renewing_keeps_the_authority_and_private_files_are_private(tmp_path):
    certificates.init(tmp_path, ["a"], now=NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert not certificates.init(tmp_path, ["b"], now=NOW)
    changed = {path.name for path in tmp_path.iterdir() if path.read_bytes() != before[path.name]}
    assert changed == {certificates.SERVER}
    for name in (certificates.SERVER, certificates.CA_KEY):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_an_authority_that_has_ended_is_told(tmp_path):
    certificates.init(tmp_path, ["a"], now=NOW - dt.timedelta(days=certificates.CA_DAYS + 1))
    with pytest.raises(Refused, match="ended on"):
        certificates.init(tmp_path, ["a"], now=NOW)


@pytest.mark.parametrize(
    ("said", "told"), [("9094", "expected HOST:PORT"), ("host:99999", "expected HOST:PORT"), ("host:9094", "tls init")]
)
def test_a_door_for_devices_needs_an_address_and_a_certificate(tmp_path, said, told):
    with pytest.raises(Refused, match=told):
        _doors(Wish(tmp_path, devices=said), 1, {"kafka": ports.free()})
