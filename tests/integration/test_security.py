"""Devices at a real broker's door: TLS and passwords, rights, revocation, and what is told of strangers."""

import datetime as dt
import signal
import threading

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from fix_services import await_true
from fix_stack import _start, _stop, wait_until

from infra import ports
from infra.client import connection
from infra.kafka import broker
from infra.provision import provision
from infra.security import certificates, credentials
from infra.security.strangers import LogEnd, Strangers, tries
from infra.watchdog import probes
from schemas.errors import Refused
from schemas.topics import ALARMS, HEARTBEATS, READINGS_CLEAN, READINGS_RAW

pytestmark = pytest.mark.integration

WITHIN_S = 30
NOW = dt.datetime.now(dt.UTC)


class House:
    """A broker with a door for devices."""

    def __init__(self, folder):
        certificates.init(folder / "tls", ["localhost"], now=NOW)
        self.files = certificates.Files(folder / "tls")
        taken = set()
        for _ in range(3):
            taken.add(ports.free(taken=frozenset(taken)))
        own, controller, door = taken
        self.door = broker.Door(ports.LOOPBACK, door, "localhost", self.files.server)
        self.broker = broker.Broker(folder / "kafka", own, controller, devices=self.door)
        self.log = folder / "kafka.log"
        self.admin = AdminClient(connection(self.broker.address))

    def say(self, topic, user, password, **changes):
        """What becomes of one record: "delivered" or the broker's word."""
        heard, said = threading.Event(), []

        def note(word):
            said.append(word)
            heard.set()

        words = {
            "bootstrap.servers": self.door.address, "security.protocol": "SASL_SSL", "log_level": 0,
            "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user, "sasl.password": password,
            "ssl.ca.location": str(self.files.ca), "enable.idempotence": True,
        }  # fmt: skip
        producer = Producer(words | changes | {"error_cb": lambda error: note(error.name())})
        producer.produce(topic, b"x", key=user.encode(), on_delivery=lambda e, _: note(e.name() if e else "delivered"))
        await_true(
            lambda: producer.poll(0.1) >= 0 and heard.is_set(), what=f"an answer about {topic}", within_s=WITHIN_S
        )
        producer.purge()
        producer.flush(5)
        return said[0]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    one = House(tmp_path_factory.mktemp("house"))
    class_path = broker.prepared_class_path()
    one.broker.prepare(class_path=class_path)
    running = _start(one.broker.command(class_path=class_path), log=one.log, cwd=one.broker.folder)
    try:
        answers = lambda: broker.answers(one.broker.address)  # noqa: E731
        wait_until(answers, what="Kafka", alive=lambda: running.poll() is None, log=one.log)
        provision(one.broker.address, partitions=1)
        yield one
    finally:
        _stop(running, signal.SIGTERM)


def test_a_device_writes_readings_and_heartbeats_and_nothing_else(house):
    password = credentials.add(house.admin, "pi-1")
    said = {topic: house.say(topic, "pi-1", password) for topic in (READINGS_RAW, HEARTBEATS, ALARMS, READINGS_CLEAN)}
    denied = "TOPIC_AUTHORIZATION_FAILED"
    assert said == {READINGS_RAW: "delivered", HEARTBEATS: "delivered", ALARMS: denied, READINGS_CLEAN: denied}
    assert credentials.known(house.admin)["pi-1"] == sorted([READINGS_RAW, HEARTBEATS])
    with pytest.raises(Refused, match="rotate"):
        credentials.add(house.admin, "pi-1")


def test_strangers_stay_out_and_are_told_of(house):
    end, known = LogEnd(house.log), Strangers()
    end.lines()
    password = credentials.add(house.admin, "pi-2")
    assert house.say(READINGS_RAW, "pi-2", "wrong") == "_AUTHENTICATION"
    assert house.say(READINGS_RAW, "nobody", password) == "_AUTHENTICATION"
    assert house.say(READINGS_RAW, "pi-2", password, **{"security.protocol": "PLAINTEXT"}) != "delivered"
    assert house.say(READINGS_RAW, "pi-2", password, **{"security.protocol": "SASL_PLAINTEXT"}) != "delivered"
    other = house.files.folder / "other"
    certificates.init(other, ["localhost"], now=NOW)
    assert house.say(READINGS_RAW, "pi-2", password, **{"ssl.ca.location": str(other / "ca.pem")}) == "_SSL"
    house.say(ALARMS, "pi-2", password)
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


def test_a_new_password_replaces_the_old_and_a_revoked_device_is_a_stranger(house):
    first = credentials.add(house.admin, "pi-3")
    second = credentials.rotate(house.admin, "pi-3")
    assert house.say(READINGS_RAW, "pi-3", first) == "_AUTHENTICATION"
    assert house.say(READINGS_RAW, "pi-3", second) == "delivered"
    credentials.revoke(house.admin, "pi-3")
    assert "pi-3" not in credentials.known(house.admin)
    assert house.say(READINGS_RAW, "pi-3", second) == "_AUTHENTICATION"
    with pytest.raises(Refused, match="has no credential"):
        credentials.revoke(house.admin, "pi-3")


def test_an_open_connection_of_a_revoked_device_may_write_nothing(house):
    password, said = credentials.add(house.admin, "pi-4"), []
    producer = Producer({
        "bootstrap.servers": house.door.address, "security.protocol": "SASL_SSL", "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "pi-4", "sasl.password": password, "ssl.ca.location": str(house.files.ca), "log_level": 0,
    })  # fmt: skip

    def write():
        producer.produce(READINGS_RAW, b"x", on_delivery=lambda e, _: said.append(e.name() if e else "delivered"))
        producer.flush(WITHIN_S)
        return said[-1]

    assert write() == "delivered"
    credentials.revoke(house.admin, "pi-4")
    await_true(lambda: write() != "delivered", what="a refusal", within_s=WITHIN_S)
    assert said[-1] == "TOPIC_AUTHORIZATION_FAILED"


def test_a_broker_without_a_door_says_how_to_get_one(kafka):
    with pytest.raises((Refused, KafkaException), match="tls init"):
        credentials.add(AdminClient(connection(kafka)), "pi-1")
