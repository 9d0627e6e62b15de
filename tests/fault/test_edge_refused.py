"""The edge and a broker that refuses who it says it is: told, kept, tried now and then, sent once it is right."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from fix_edge import some_rows
from fix_proxy import Proxy
from fix_services import await_true
from fix_stack import _start

from infra import ports
from infra.kafka import broker
from infra.provision import provision
from producers import Edge, EdgeSettings
from producers.spool.look import look
from schemas.codec import Codec
from schemas.frames import RawFrame
from schemas.topics import READINGS_RAW

pytestmark = pytest.mark.fault

LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
QUIET_S = 6.0  # of being refused, over which tries are counted
TRIES_MAX = 40  # in it: librdkafka's back-off gives some fifteen, a spinning client thousands


class WithLogin(broker.Broker):
    """Has a second listener that asks who comes, and advertises it at a proxy."""

    def __init__(self, folder: Path, port: int, controller_port: int, login_port: int, advertised: str) -> None:
        super().__init__(folder, port, controller_port)
        object.__setattr__(self, "login", (login_port, advertised))

    def properties(self) -> dict[str, str]:
        known, about = super().properties(), self
        login_port, advertised = about.login  # type: ignore[attr-defined]  # set above, past a frozen dataclass
        return {
            **known,
            "listeners": f"{known['listeners']},LOGIN://127.0.0.1:{login_port}",
            "advertised.listeners": f"{known['advertised.listeners']},LOGIN://{advertised}",
            "listener.security.protocol.map": f"{known['listener.security.protocol.map']},LOGIN:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.login.plain.sasl.jaas.config": f'{LOGIN} user_edge="right";',
        }


class Counting(Proxy):
    """Knows how many connections were made through it."""

    made = 0

    def _pump(self, one: Any, other: Any, up: bool) -> None:
        self.made += up
        super()._pump(one, other, up)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Counting]]:
    """(address that asks nobody, the way to the one that does)."""
    taken: set[int] = set()
    for _ in range(3):
        taken.add(ports.free(taken=frozenset(taken)))
    port, controller, login = taken
    proxy = Counting(login)
    one = WithLogin(tmp_path_factory.mktemp("kafka"), port, controller, login, proxy.address)
    class_path = broker.prepared_class_path()
    one.prepare(class_path=class_path)
    process = _start(one.command(class_path=class_path), log=one.folder / "kafka.log", cwd=one.folder)
    try:
        await_true(lambda: broker.answers(one.address), what="broker", within_s=60)
        provision(one.address, partitions=1)
        yield one.address, proxy
    finally:
        process.kill()
        process.wait()
        proxy.close()


def settings(folder: Path, **about: Any) -> EdgeSettings:
    security = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "edge"}
    return EdgeSettings(device_id="mast-7", spool=folder, **{**security, **about})


def times_at(address: str) -> list[int]:
    """Seconds of every row in the topic."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "look", "enable.auto.commit": False})
    found: list[int] = []
    try:
        at, end = consumer.get_watermark_offsets(TopicPartition(READINGS_RAW, 0), timeout=20)
        consumer.assign([TopicPartition(READINGS_RAW, 0, at)])
        while at < end:
            message = consumer.poll(10)
            assert message is not None and message.error() is None  # noqa: PT018 - one look
            found += [int(t) // 1_000_000 for t in Codec().decode_frame(RawFrame, message.value()).times]
            at = message.offset() + 1
    finally:
        consumer.close()
    return found


def test_a_refused_login_is_told_and_keeps_what_was_accepted(tmp_path: Path, guarded: tuple[str, Counting]) -> None:
    address, proxy = guarded
    with Edge(settings(tmp_path, sasl_password="wrong"), address=proxy.address) as edge:
        for number in range(10):
            edge.accept_rows([some_rows(1, first=number)])
        await_true(lambda: edge.progress.link.link == "not_allowed", what="refusal", within_s=20)
        assert "check its credential" in edge.progress.link.detail
        before, cpu = proxy.made, time.process_time()
        until = time.monotonic() + QUIET_S
        await_true(lambda: time.monotonic() > until, what="some seconds of being refused", within_s=2 * QUIET_S)
        assert 0 < proxy.made - before < TRIES_MAX
        assert time.process_time() - cpu < QUIET_S / 4
        edge.accept_rows([some_rows(1, first=10)])
        assert edge.progress.link.link == "not_allowed"
        (seen,) = look(tmp_path)
        assert (seen.waiting, seen.counts.accepted, seen.counts.sent) == (22, 22, 0)
        assert seen.link == "not_allowed"
    with Edge(settings(tmp_path, sasl_password="right"), address=proxy.address) as edge:
        await_true(lambda: edge.drained, what="drained", within_s=30)
    assert times_at(address) == list(range(11))


def test_a_broker_that_knows_no_login_is_told_too(tmp_path: Path, guarded: tuple[str, Counting]) -> None:
    address, _ = guarded
    with Edge(settings(tmp_path, sasl_password="right"), address=address) as edge:
        edge.accept_rows([some_rows(1)])
        await_true(lambda: edge.progress.link.link in ("not_allowed", "failed"), what="refusal", within_s=20)
        assert not edge.drained


def test_the_state_of_the_link_is_in_what_edge_spool_says(tmp_path: Path, guarded: tuple[str, Counting]) -> None:
    from click.testing import CliRunner

    from producers.cli import edge as command

    _, proxy = guarded
    with Edge(settings(tmp_path, sasl_password="wrong"), address=proxy.address) as edge:
        edge.accept_rows([some_rows(1)])
        await_true(lambda: look(tmp_path)[0].link == "not_allowed", what="refusal", within_s=20)
        said = CliRunner().invoke(command, ["spool", "--spool", str(tmp_path), "--json"])
        (one,) = json.loads(said.stdout)
        assert one["link"] == "not_allowed"
        assert "credential" in one["link_detail"]
