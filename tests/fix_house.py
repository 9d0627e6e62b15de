"""A broker that asks who comes: doors for devices by password and by certificate, its own services by passwords."""

import datetime as dt
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from fix_services import await_true
from fix_stack import _start, _stop, wait_until

from infra import ports, processes, stack
from infra.client import OPERATOR, Access, connection, operator, password_file, read_password
from infra.kafka import broker
from infra.provision import provision
from infra.security import certificates, principals
from schemas.topics import READINGS_RAW

WITHIN_S = 60
NOW = dt.datetime.now(dt.UTC)


class House:
    """A broker with doors, in a stack's folder."""

    def __init__(self, folder):
        certificates.init(folder / "tls", ["localhost"], now=NOW)
        self.folder, self.files = folder, certificates.Files(folder / "tls")
        taken = []
        while len(taken) < 4:
            taken.append(ports.free(taken=frozenset(taken)))
        own, controller, door, other = taken
        self.door = broker.Door(ports.LOOPBACK, door, "localhost", self.files.server)
        self.by_certificate = broker.Door(ports.LOOPBACK, other, "localhost", self.files.server, self.files.ca)
        principals.passwords(folder)
        self.operator = operator(folder)
        doors = (self.door, self.by_certificate)
        self.broker = broker.Broker(folder / "kafka", own, controller, doors=doors, operator=self.operator.password)
        self.log = folder / "kafka.log"
        self.kafka = self.broker.address
        self.admin = AdminClient(connection(self.kafka, self.operator))

    def service(self, part):
        """Who a part of the stack is."""
        name = principals.name_of(part)
        return Access("SASL_PLAINTEXT", username=name, password=read_password(password_file(self.folder, name)))

    def environment(self, part):
        """What a service is told, as its supervisor tells it."""
        return {
            "TELLTALE_KAFKA": self.kafka,
            "TELLTALE_DIR": str(self.folder),
            **principals.environment(self.folder, part),
        }

    def by_password(self, user, password, **changes):
        words = {
            "bootstrap.servers": self.door.address, "security.protocol": "SASL_SSL", "log_level": 0,
            "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user, "sasl.password": password,
            "ssl.ca.location": str(self.files.ca), "enable.idempotence": True,
        }  # fmt: skip
        return words | changes

    def with_certificate(self, file, **changes):
        words = {
            "bootstrap.servers": self.by_certificate.address, "security.protocol": "SSL", "log_level": 0,
            "ssl.ca.location": str(self.files.ca), "ssl.certificate.location": str(file), "ssl.key.location": str(file),
            "enable.idempotence": True,
        }  # fmt: skip
        return words | changes


def written(words, topic=READINGS_RAW, *, value=b"x", key=b"key", headers=None):
    """What becomes of one record: "delivered", or the first word of the broker's or of the connection's."""
    heard, said = threading.Event(), []

    def note(word):
        said.append(word)
        heard.set()

    producer = Producer(words | {"error_cb": lambda error: note(error.name())})
    producer.produce(
        topic, value, key=key, headers=headers, on_delivery=lambda e, _: note(e.name() if e else "delivered")
    )
    await_true(lambda: producer.poll(0.1) >= 0 and heard.is_set(), what=f"an answer about {topic}", within_s=WITHIN_S)
    producer.purge()
    producer.flush(5)
    return said[0]


@pytest.fixture(scope="session")
def house():
    """Shared by the session's tests: each makes devices of its own."""
    folder = Path(tempfile.mkdtemp(prefix="telltale-house-"))
    one = House(folder)
    class_path = broker.prepared_class_path()
    one.broker.prepare(class_path=class_path)
    running = _start(one.broker.command(class_path=class_path), log=one.log, cwd=one.broker.folder)
    try:
        answers = lambda: broker.answers(one.kafka, who=one.operator)  # noqa: E731
        wait_until(answers, what="Kafka", alive=lambda: running.poll() is None, log=one.log)
        principals.ensure(one.admin, folder)
        stack.Stack(folder, processes.myself(), kafka=one.kafka, devices=one.door.address, asks_who=True).write()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in one.environment("topics").items():
                patch.setenv(name, value)
            provision(one.kafka, partitions=2)
        yield one
    finally:
        _stop(running, signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


__all__ = ["NOW", "OPERATOR", "WITHIN_S", "House", "house", "written"]
