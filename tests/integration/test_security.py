"""A real broker that asks who comes: TLS, passwords, certificates, rights, and what is told of strangers."""

import datetime as dt
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from fix_house import NOW, WITHIN_S, written
from fix_services import await_true
from fix_stage import START_US, US, make_device

from dashboard.rejected import rejected
from infra.client import Access, connection
from infra.security import certificates, credentials, keys, principals
from infra.security.strangers import CALM, LogEnd, Strangers, tries
from infra.watchdog import probes
from producers.edge import Edge
from producers.settings import EdgeSettings
from producers.stations.devices import publish
from schemas.codec import Codec
from schemas.errors import Refused
from schemas.topics import (
    ALARM_ACTIONS,
    ALARMS,
    DEVICES,
    HEARTBEATS,
    READINGS_CLEAN,
    READINGS_RAW,
    READINGS_REJECTED,
    STREAMS_GROUP,
    STREAMS_STATE,
    WINDOWS,
)

pytestmark = pytest.mark.integration

DENIED = "TOPIC_AUTHORIZATION_FAILED"
OLD = NOW - dt.timedelta(days=900)


def comes_to(said, words, topic=READINGS_RAW):
    """The broker hears of passwords and rights a moment after it has answered."""
    await_true(lambda: written(words, topic) == said, what=f'"{said}" of {topic}', within_s=WITHIN_S)


def let_in(house, name):
    """A new device, that is known by now."""
    me = house.by_password(name, credentials.add(house.admin, name))
    comes_to("delivered", me)
    return me


# -- devices by password --


def test_a_device_writes_readings_and_heartbeats_and_nothing_else(house):
    me = let_in(house, "pi-1")
    said = {topic: written(me, topic) for topic in (READINGS_RAW, HEARTBEATS, ALARMS, READINGS_CLEAN, DEVICES)}
    others = dict.fromkeys((ALARMS, READINGS_CLEAN, DEVICES), DENIED)
    assert said == {READINGS_RAW: "delivered", HEARTBEATS: "delivered", **others}
    assert credentials.known(house.admin)["pi-1"] == sorted([READINGS_RAW, HEARTBEATS])
    with pytest.raises(Refused, match="rotate"):
        credentials.add(house.admin, "pi-1")


def test_strangers_stay_out_and_are_told_of(house, book):
    began = time.monotonic()
    end, known = LogEnd(house.log), Strangers()
    end.lines()
    password = let_in(house, "pi-2")["sasl.password"]
    assert written(house.by_password("pi-2", "wrong")) == "_AUTHENTICATION"
    assert written(house.by_password("nobody", password)) == "_AUTHENTICATION"
    for plain in ("PLAINTEXT", "SASL_PLAINTEXT"):  # on a port that speaks TLS
        assert written(house.by_password("pi-2", password, **{"security.protocol": plain})) != "delivered"
    other = house.folder / "other"
    certificates.init(other, ["localhost"], now=NOW)
    assert written(house.by_password("pi-2", password, **{"ssl.ca.location": str(other / "ca.pem")})) == "_SSL"
    written(house.by_password("pi-2", password), ALARMS)
    found = {}
    seen = lambda: {f.source: f for f in probes.strangers(tries(end.lines()), known, NOW)}  # noqa: E731
    await_true(
        lambda: found.update(seen()) or "device/pi-2" in found,
        what="the broker's log",
        within_s=WITHIN_S,
    )
    assert found["device/pi-2"].bad
    assert "topic alarms" in found["device/pi-2"].said
    assert any(source.startswith("address/127.0.0.1") and each.bad for source, each in found.items())
    after_s = time.monotonic() - began
    assert not any(each.bad for each in probes.strangers((), known, NOW + CALM))
    book.tell(
        "unauthorised device: no credential",
        "wrong password, unknown name, no password, no TLS, another authority, another topic: nothing written",
        accepted=0,
        alarm=f"unauthorised_device {after_s:.1f} s, cleared {CALM.total_seconds():g} s after the last (clock moved)",
    )


def test_a_new_password_replaces_the_old_and_a_revoked_device_is_a_stranger(house, book):
    first = let_in(house, "pi-3")
    second = house.by_password("pi-3", credentials.rotate(house.admin, "pi-3"))
    comes_to("_AUTHENTICATION", first)
    comes_to("delivered", second)
    began, end, known = time.monotonic(), LogEnd(house.log), Strangers()
    end.lines()
    credentials.revoke(house.admin, "pi-3")
    comes_to("_AUTHENTICATION", second)
    assert "pi-3" not in credentials.known(house.admin)
    await_true(
        lambda: [each.bad for each in probes.strangers(tries(end.lines()), known, NOW)] == [True],
        what="the broker's log",
        within_s=WITHIN_S,
    )
    after_s = time.monotonic() - began
    assert [each.bad for each in probes.strangers((), known, NOW + CALM)] == [False]
    book.tell(
        "unauthorised device: revoked",
        "a password replaced, then the device: neither writes any more",
        accepted=1,
        alarm=f"unauthorised_device {after_s:.1f} s, cleared {CALM.total_seconds():g} s after the last (clock moved)",
    )
    with pytest.raises(Refused, match="has no credential"):
        credentials.revoke(house.admin, "pi-3")


def test_an_open_connection_of_a_revoked_device_may_write_nothing(house):
    me, said = let_in(house, "pi-4"), []
    producer = Producer(me | {"enable.idempotence": False})

    def write():
        producer.produce(READINGS_RAW, b"x", on_delivery=lambda e, _: said.append(e.name() if e else "delivered"))
        producer.flush(WITHIN_S)
        return said[-1]

    assert write() == "delivered"
    credentials.revoke(house.admin, "pi-4")
    await_true(lambda: write() != "delivered", what="a refusal", within_s=WITHIN_S)
    assert said[-1] == DENIED


def test_a_device_cannot_take_the_name_of_a_service(house):
    for name in ("telltale-ops", "Telltale-Sink", "ANONYMOUS"):
        with pytest.raises(Refused, match="services"):
            credentials.add(house.admin, name)


def test_an_expired_certificate_of_the_brokers_is_refused_by_devices(house):
    me = let_in(house, "pi-5")
    old = house.folder / "old"
    old.mkdir()
    for name in (certificates.CA, certificates.CA_KEY):
        (old / name).write_bytes((house.files.folder / name).read_bytes())
    certificates.init(old, ["localhost"], now=OLD)
    setting = "listener.name.devices.ssl.keystore.location"

    def serve(file):
        entry = ConfigEntry(setting, str(file), incremental_operation=AlterConfigOpType.SET)
        asked = ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[entry])
        for answer in house.admin.incremental_alter_configs([asked]).values():
            answer.result(WITHIN_S)

    serve(certificates.Files(old).server)
    try:
        comes_to("_SSL", me)
    finally:
        serve(house.files.server)
    comes_to("delivered", me)


# -- devices by certificate --


def test_a_device_with_a_certificate_has_the_rights_of_its_name_until_it_is_revoked(house):
    credentials.allow_new(house.admin, "pi-6")
    mine = house.with_certificate(certificates.for_device(house.files.folder, "pi-6", now=NOW))
    comes_to("delivered", mine)
    assert [written(mine, topic) for topic in (HEARTBEATS, ALARMS)] == ["delivered", DENIED]
    assert "pi-6" in credentials.known(house.admin)
    credentials.revoke(house.admin, "pi-6")
    comes_to(DENIED, mine)
    assert "pi-6" not in credentials.known(house.admin)


def test_without_a_certificate_of_ours_that_is_good_today_nobody_comes_in(house):
    credentials.allow_new(house.admin, "pi-7")
    own = certificates.for_device(house.files.folder, "pi-7", now=NOW)
    expired = certificates.for_device(house.files.folder, "pi-7", now=OLD)
    other = house.folder / "third"
    certificates.init(other, ["localhost"], now=NOW)
    foreign = certificates.for_device(other, "pi-7", now=NOW)
    assert written(house.with_certificate(expired)) in ("_SSL", "_TRANSPORT")
    assert written(house.with_certificate(foreign)) in ("_SSL", "_TRANSPORT")
    bare = house.with_certificate(own)
    del bare["ssl.certificate.location"], bare["ssl.key.location"]
    assert written(bare) in ("_SSL", "_TRANSPORT")
    for name in ("a,b", "a=b", "x" * 65, "a b"):
        with pytest.raises(Refused, match="with a certificate"):
            certificates.for_device(house.files.folder, name, now=NOW)


# -- the stack's own services --


def test_each_service_may_do_its_work_and_no_other(house):
    who = {part: connection(house.kafka, house.service(part)) for part in principals.RIGHTS}
    comes_to("delivered", who["backup"], ALARMS)
    for part, topic, what in (
        ("streams", READINGS_CLEAN, "delivered"),
        ("streams", READINGS_RAW, DENIED),
        ("streams", DEVICES, DENIED),
        ("sink", READINGS_REJECTED, "delivered"),
        ("sink", READINGS_RAW, DENIED),
        ("sink", READINGS_CLEAN, DENIED),
        ("imports", READINGS_RAW, "delivered"),
        ("imports", WINDOWS, DENIED),
        ("dashboard", ALARM_ACTIONS, "delivered"),
        ("dashboard", READINGS_RAW, DENIED),
        ("watchdog", ALARMS, "delivered"),
        ("watchdog", READINGS_CLEAN, DENIED),
        ("notify", ALARMS, "delivered"),
        ("notify", ALARM_ACTIONS, DENIED),
        ("backup", ALARMS, "delivered"),
        ("backup", READINGS_CLEAN, DENIED),
    ):
        assert written(who[part], topic) == what, (part, topic)


def test_a_service_reads_what_it_needs_and_administers_nothing(house):
    def read(part, topic):
        alone = {"group.id": "telltale-any", "enable.auto.commit": False, "enable.partition.eof": True}
        consumer = Consumer({**connection(house.kafka, house.service(part)), **alone})
        consumer.assign([TopicPartition(topic, 0, 0)])
        try:
            message = consumer.poll(WITHIN_S)
            error = message.error()
            return "read" if error is None or error.name() == "_PARTITION_EOF" else error.name()
        finally:
            consumer.close()

    assert read("streams", READINGS_RAW) == "read"
    assert read("sink", READINGS_CLEAN) == "read"
    assert read("sink", READINGS_RAW) == DENIED
    assert read("notify", READINGS_CLEAN) == DENIED
    assert read("sink", STREAMS_STATE) == DENIED
    stage = AdminClient(connection(house.kafka, house.service("streams")))
    everything = AclBinding(
        ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, "User:telltale-streams", "*", AclOperation.ALL,
        AclPermissionType.ALLOW,
    )  # fmt: skip
    for asked in (
        lambda: stage.create_acls([everything]),
        lambda: stage.create_topics([NewTopic("mine", 1, 1)]),
        lambda: stage.delete_topics([READINGS_RAW]),
    ):
        (answer,) = asked().values()
        with pytest.raises(KafkaException, match=r"(?i)authori[sz]"):
            answer.result(WITHIN_S)


def test_nobody_elses_transactions_and_nobody_without_a_password(house):
    words = connection(house.kafka, house.service("sink"))
    thief = Producer(words | {"transactional.id": f"{STREAMS_GROUP}-0"})
    with pytest.raises(KafkaException, match=r"(?i)authori[sz]"):
        thief.init_transactions(WITHIN_S)
    mine = Producer(connection(house.kafka, house.service("streams")) | {"transactional.id": f"{STREAMS_GROUP}-0"})
    mine.init_transactions(WITHIN_S)
    assert written(connection(house.kafka, Access())) != "delivered"
    wrong = Access("SASL_PLAINTEXT", username="telltale-sink", password="wrong")
    assert written(connection(house.kafka, wrong)) == "_AUTHENTICATION"


def test_rights_that_nobody_gave_are_taken_away_again(house):
    more = AclBinding(
        ResourceType.TOPIC, READINGS_RAW, ResourcePatternType.LITERAL, "User:telltale-notify", "*", AclOperation.WRITE,
        AclPermissionType.ALLOW,
    )  # fmt: skip
    credentials.settled(house.admin.create_acls([more]))
    notify = connection(house.kafka, house.service("notify"))
    comes_to("delivered", notify)
    principals.ensure(house.admin, house.folder)
    comes_to(DENIED, notify)


def test_commands_at_the_shell_find_the_operator_in_the_stacks_folder(house, tmp_path):
    def telltale(*words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "infra.command", *words],
            env={**_environment(), "TELLTALE_DIR": str(house.folder)},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    added = json.loads(telltale("device", "add", "pi-8", "--json"))
    assert added["kafka"] == house.door.address
    comes_to("delivered", house.by_password("pi-8", added["sasl_password"]))
    listed = json.loads(telltale("device", "list", "--json"))["pi-8"]
    assert (listed["key"], listed["writes"]) == (1, sorted([READINGS_RAW, HEARTBEATS]))
    assert READINGS_RAW in telltale("kafka", "topics", "--list").split()
    assert "User:pi-8" in telltale("kafka", "acls", "--list", "--principal", "User:pi-8")
    telltale("device", "revoke", "pi-8")
    comes_to("_AUTHENTICATION", house.by_password("pi-8", added["sasl_password"]))
    assert "pi-8" not in json.loads(telltale("device", "list", "--json"))
    telltale("device", "add", "telltale-sink", code=2)


def _environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("TELLTALE_KAFKA")}


def test_a_broker_without_a_door_says_how_to_get_one(kafka):
    with pytest.raises((Refused, KafkaException), match="tls init"):
        credentials.add(AdminClient(connection(kafka)), "pi-1")


# -- the whole way --


@pytest.fixture
def at_home(house, monkeypatch, tmp_path):
    """This process is the operator; its keys are the test's own."""
    for name, value in house.environment("topics").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TELLTALE_SECURITY", str(tmp_path / "security"))


@pytest.mark.usefixtures("at_home")
def test_bombs_of_a_device_that_may_write_end_neither_stage_nor_sink(house, start, stored, tmp_path):
    me = let_in(house, "pi-9")
    key = keys.issue(tmp_path / "security", "pi-9", now=NOW, grace=dt.timedelta(0))
    publish(house.kafka, [make_device("pi-9", configured_at=NOW)])
    services = [
        start(part, "run", TELLTALE_DATABASE=stored.dsn, **house.environment(part)) for part in ("streams", "sink")
    ]
    for service in services:
        service.await_ready()
    settings = EdgeSettings(
        device_id="pi-9", frame_key=key, spool=tmp_path / "spool", security_protocol="SASL_SSL", sasl_username="pi-9",
        sasl_password=me["sasl.password"], ssl_ca_location=house.files.ca,
    )  # fmt: skip
    rows = "SELECT count(*) FROM readings JOIN sensors USING (sensor_id) WHERE device_id = 'pi-9'"

    def measured(times):
        with Edge(settings, address=house.door.address) as edge:
            edge.accept_frame(times, ["c0", "c1", "c2"], [[1.0, 2.0, 3.0]] * len(times))
            await_true(lambda: edge.drained, what="the edge's readings delivered", within_s=WITHIN_S)
        await_true(lambda: stored.rows(rows) == [(expected,)], what=f"{expected} rows", within_s=WITHIN_S)

    expected = 6
    measured([START_US, START_US + US])
    megabyte = 1_000_000
    for topic, codec, size in (
        (READINGS_RAW, "zstd", 10 * megabyte),
        (READINGS_RAW, "lz4", 10 * megabyte),
        (READINGS_RAW, "gzip", 10 * megabyte),
        (READINGS_RAW, "snappy", 10 * megabyte),
        (READINGS_RAW, "zstd", 150 * megabyte),
        (HEARTBEATS, "zstd", 10 * megabyte),
    ):
        large = {"compression.type": codec, "message.max.bytes": 200 * megabyte, "queue.buffering.max.kbytes": 400_000}
        assert written(me | large, topic, value=bytes(size), key=b"pi-9") == "delivered", (topic, codec)
    assert written(me | {"message.max.bytes": 200 * megabyte}, value=os.urandom(5 * megabyte)) == "MSG_SIZE_TOO_LARGE"
    before = [service.pid for service in services]
    expected = 12
    measured([START_US + 2 * US, START_US + 3 * US])
    assert all(service.lives for service in services), [service.log.read_text()[-2000:] for service in services]
    for pid in before:
        peak_kb = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
        print(f"peak of {pid}: {peak_kb // 1024} MB")
        assert peak_kb < 1_000_000
    # The edge's own word is signed and stored, nobody else's is.
    assert stored.rows("SELECT DISTINCT device_id FROM heartbeats") == [("pi-9",)]
    told = "SELECT DISTINCT reason FROM rejected WHERE topic = 'heartbeats' AND device_id = 'pi-9'"
    await_true(lambda: stored.rows(told) == [("unsigned",)], what="refused heartbeats", within_s=WITHIN_S)
    assert {"unsigned", "too_large"} <= {each.record.reason for each in rejected(house.kafka, Codec())}
