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
from own_servers import Listener, OwnBroker

from infra import ports
from infra.kafka.broker import PLAIN_LOGIN
from infra.offsets import span
from infra.provision import provision
from producers import Edge, EdgeSettings
from producers.spool.look import look
from schemas.codec import Codec
from schemas.frames import RawFrame
from schemas.topics import READINGS_RAW

pytestmark = pytest.mark.fault

LOGIN = {
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.login.plain.sasl.jaas.config": f'{PLAIN_LOGIN} required user_edge="right";',
}
QUIET_S = 6.0  # of being refused, over which tries are counted
TRIES_MAX = 40  # in it: librdkafka's back-off gives some fifteen, a spinning client thousands


class Counting(Proxy):
    """Knows how many connections were made through it."""

    made = 0

    def _pump(self, one: Any, other: Any, up: bool) -> None:
        self.made += up
        super()._pump(one, other, up)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Counting]]:
    """(address that asks nobody, the way to the one that does)."""
    port = ports.free()
    proxy = Counting(port)
    login = Listener("LOGIN", port, proxy.address, protocol="SASL_PLAINTEXT", settings=LOGIN)
    own = OwnBroker(tmp_path_factory.mktemp("own") / "kafka", login)
    try:
        own.start()
        provision(own.address, partitions=1)
        yield own.address, proxy
    finally:
        own.close()
        proxy.close()


def settings(folder: Path, **about: Any) -> EdgeSettings:
    security = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_username": "edge"}
    return EdgeSettings(device_id="mast-7", spool=folder, **{**security, **about})


def times_at(address: str) -> list[int]:
    """Seconds of every row in the topic."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "look", "enable.auto.commit": False})
    found: list[int] = []
    try:
        at, end = span(consumer, READINGS_RAW, 0, within_s=60)
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
        await_true(lambda: edge.progress.link.link == "not_allowed", what="refusal")
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
        await_true(lambda: edge.drained, what="drained")
    assert times_at(address) == list(range(11))


def test_a_broker_that_knows_no_login_is_told_too(tmp_path: Path, guarded: tuple[str, Counting]) -> None:
    address, _ = guarded
    with Edge(settings(tmp_path, sasl_password="right"), address=address) as edge:
        edge.accept_rows([some_rows(1)])
        await_true(lambda: edge.progress.link.link in ("not_allowed", "failed"), what="refusal")
        assert not edge.drained


def test_the_state_of_the_link_is_in_what_edge_spool_says(tmp_path: Path, guarded: tuple[str, Counting]) -> None:
    from click.testing import CliRunner

    from producers.cli import edge as command

    _, proxy = guarded
    with Edge(settings(tmp_path, sasl_password="wrong"), address=proxy.address) as edge:
        edge.accept_rows([some_rows(1)])
        await_true(lambda: look(tmp_path)[0].link == "not_allowed", what="refusal")
        said = CliRunner().invoke(command, ["spool", "--spool", str(tmp_path), "--json"])
        (one,) = json.loads(said.stdout)
        assert one["link"] == "not_allowed"
        assert "credential" in one["link_detail"]
