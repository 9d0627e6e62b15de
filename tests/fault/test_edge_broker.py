"""The edge and a broker that is killed, frozen, away, behind a bad line, or says no: nothing lost, nothing twice."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition
from fix_edge import accept_for_ever, some_rows
from fix_faultbook import Book
from fix_proxy import Proxy
from fix_services import await_true
from own_servers import Listener, OwnBroker

from infra import ports
from infra.offsets import span
from infra.provision import provision
from producers import Edge, EdgeSettings
from producers.spool import Spool
from schemas.codec import Codec
from schemas.frames import RawFrame
from schemas.topics import READINGS_RAW

pytestmark = pytest.mark.fault

CODEC = Codec()
QUICK = {"retry_first_s": 0.1, "retry_s_max": 0.5, "linger_s": 0.02}
TIMEOUT_MS = 3_000  # of a request to a broker that is frozen, instead of 30 s


class Line(OwnBroker):
    """A broker of this module's own, and the proxy by which one comes to it."""

    def __init__(self, folder: Path) -> None:
        port = ports.free()
        self.proxy = Proxy(port)
        self.frames_before: dict[int, int] = {}
        super().__init__(folder, Listener("EDGE", port, self.proxy.address))

    @property
    def address(self) -> str:
        return self.proxy.address


@pytest.fixture(scope="module")
def running_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    line = Line(tmp_path_factory.mktemp("own") / "kafka")
    line.start()
    provision(line.address, partitions=1)
    yield line
    line.close()
    line.proxy.close()


@pytest.fixture
def line(running_line: Line) -> Iterator[Line]:
    """Healthy at the beginning; its frames are those that come from now on."""
    running_line.frames_before = {0: end_of(running_line.address)}
    yield running_line
    running_line.proxy.heal()


def end_of(address: str) -> int:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "look"})
    try:
        return span(consumer, READINGS_RAW, 0, within_s=60)[1]
    finally:
        consumer.close()


def frames(line: Line) -> list[RawFrame]:
    """As they lie in the topic, those sent twice twice."""
    at, end, found = line.frames_before[0], end_of(line.address), []
    consumer = Consumer({"bootstrap.servers": line.address, "group.id": "look", "enable.auto.commit": False})
    consumer.assign([TopicPartition(READINGS_RAW, 0, at)])
    try:
        while at < end:
            message = consumer.poll(10)
            assert message is not None and message.error() is None  # noqa: PT018 - one look
            found.append(CODEC.decode_frame(RawFrame, message.value()))
            at = message.offset() + 1
    finally:
        consumer.close()
    return found


def arrived(line: Line) -> list[int]:
    """Seconds of all rows, each identity once, in the order in which identities came first."""
    seen: dict[tuple[str, int], RawFrame] = {}
    for frame in frames(line):
        before = seen.setdefault((frame.spool_id, frame.sequence), frame)
        assert (before.times == frame.times).all()
        assert np.array_equal(before.values, frame.values, equal_nan=True)
    return [int(at) // 1_000_000 for frame in seen.values() for at in frame.times]


@pytest.fixture
def edge(tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    from producers.delivery import client

    options = client.options

    def impatient(address: str, settings: EdgeSettings) -> dict[str, Any]:
        about = options(address, settings)
        return {**about, "request.timeout.ms": TIMEOUT_MS, "reconnect.backoff.max.ms": 500, "retry.backoff.max.ms": 500}

    monkeypatch.setattr(client, "options", impatient)
    one = Edge(EdgeSettings(device_id="mast-7", spool=tmp_path / "spool", **QUICK), address=line.address)
    yield one
    one.close()


def accept(edge: Edge, first: int, count: int, *, every_s: float = 0.0) -> None:
    for number in range(first, first + count):
        edge.accept_rows([some_rows(1, first=number)])
        time.sleep(every_s)


def await_drained(edge: Edge, within_s: float = 60) -> None:
    await_true(lambda: edge.drained, what="drained", within_s=within_s)


def test_kills_while_accepting_and_sending(tmp_path: Path, line: Line, book: Book) -> None:
    kills = max(20, book.kills) if book.is_long else 20
    chance = random.Random(11)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["fix_edge", "producers.delivery.sender"])
    spool, said = tmp_path / "spool", tmp_path / "said"
    said.touch()
    for kill in range(kills):
        if kill == 10:
            line.kill()
        if kill == 12:
            line.start()
        if kill == 15:
            line.process.send_signal(signal.SIGSTOP)
        if kill == 17:
            line.process.send_signal(signal.SIGCONT)
        lines = said.stat().st_size
        process = context.Process(target=accept_for_ever, args=(str(spool), line.address, str(said)))
        process.start()
        await_true(lambda before=lines: said.stat().st_size > before, what="accepting")
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        process.join()
    told = [int(number) for number in said.read_text().split("\n")[:-1]]
    settings = EdgeSettings(device_id="mast-7", spool=spool, **QUICK)
    with Edge(settings, address=line.address) as edge:
        await_drained(edge)
        counts = edge.counts()
    there = arrived(line)
    assert set(told) <= set(there)
    assert there == sorted(set(there))  # each once, in order
    assert counts.accepted == counts.sent == 2 * len(there)
    assert counts.dropped == counts.refused == 0
    book.tell(
        "edge crashes",
        f"kill -9 at {kills} random points while it accepts and sends; the broker killed and frozen in between; to the "
        "topic only, in order",
        accepted=counts.accepted,
        seed=11,
    )


def test_a_broker_killed_and_restarted_gets_everything_once_in_order(edge: Edge, line: Line) -> None:
    accept(edge, 0, 50)
    line.kill()
    accept(edge, 50, 50)
    line.start()
    accept(edge, 100, 50)
    await_drained(edge)
    assert arrived(line) == list(range(150))


def test_a_broker_frozen_for_longer_than_every_timeout(edge: Edge, line: Line) -> None:
    accept(edge, 0, 20)
    await_drained(edge)
    line.process.send_signal(signal.SIGSTOP)
    accept(edge, 20, 50)
    time.sleep(2.5 * TIMEOUT_MS / 1000)
    accept(edge, 70, 20)
    line.process.send_signal(signal.SIGCONT)
    await_drained(edge)
    assert sorted(arrived(line)) == list(range(90))


def test_a_producer_that_is_never_answered_is_made_anew(
    edge: Edge, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    from producers.delivery import sender

    limits_s = {name: getattr(sender, name) for name in ("UNHEARD_S_MAX", "AWAY_S_MAX")}
    for name in limits_s:
        monkeypatch.setattr(sender, name, 0.5)
    accept(edge, 0, 20)
    await_drained(edge)
    first = edge._sender._generation
    line.process.send_signal(signal.SIGSTOP)
    accept(edge, 20, 20)
    await_true(lambda: edge._sender._generation > first, what="another producer")
    accept(edge, 40, 20)
    for name, limit_s in limits_s.items():
        monkeypatch.setattr(sender, name, limit_s)
    line.process.send_signal(signal.SIGCONT)
    await_drained(edge)
    assert sorted(arrived(line)) == list(range(60))


def test_a_line_that_is_cut_again_and_again(edge: Edge, line: Line) -> None:
    for first in range(0, 200, 20):
        accept(edge, first, 20)
        line.proxy.cut()
    line.proxy.refuses = True
    line.proxy.cut()
    await_true(lambda: edge.progress.link.link == "away", what="away")
    accept(edge, 200, 20)
    line.proxy.refuses = False
    await_drained(edge)
    assert arrived(line) == list(range(220))


def test_a_slow_line_with_delay_and_losses(edge: Edge, line: Line) -> None:
    line.proxy.delay_s, line.proxy.bytes_per_s, line.proxy.cut_chance = 0.05, 8_000, 0.05
    for first in range(0, 400, 40):
        edge.accept_rows([some_rows(40, first=first)])
        time.sleep(0.2)
    await_true(lambda: edge.counts().sent >= 400, what="half of it")
    line.proxy.cut_chance = 0.0
    await_drained(edge)
    assert sorted(arrived(line)) == list(range(400))


def test_new_readings_overtake_a_backlog_on_a_slow_line(tmp_path: Path, line: Line) -> None:
    settings = EdgeSettings(device_id="mast-7", spool=tmp_path / "spool", **QUICK, live_within_s=1.0)
    with Spool(settings.spool_folder("x"), clock_us=lambda: 0) as spool:
        noise = np.random.default_rng(1)
        for first in range(0, 12_000, 100):
            rows = some_rows(100, first=first)
            rows.values[:] = noise.random(rows.values.shape)  # as hard to compress as can be
            spool.accept([rows])
    line.proxy.bytes_per_s = 8_000  # 64 kbit/s: 300 kB take most of a minute
    with Edge(settings, address=line.address) as edge:
        await_true(lambda: edge.spool.prefers_new, what="overtaking")
        for number in range(3):
            edge.accept_rows([some_rows(1, device="live", first=number)])
            await_true(lambda sent=2 * (number + 1): edge.counts("live").sent >= sent, what="live")
        assert edge.counts().groups > 0  # of the backlog
        line.proxy.heal()
        await_drained(edge)
    backlog = [f.sequence for f in frames(line) if f.device_id == "mast-7"]
    assert backlog == sorted(backlog)


def test_a_frame_that_the_broker_finds_too_large_is_split(edge: Edge, line: Line) -> None:
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    admin = AdminClient({"bootstrap.servers": line.address})

    def limit(size: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, READINGS_RAW, incremental_configs=[entry])
        admin.incremental_alter_configs([resource])[resource].result(20)

    limit(3_000)
    try:
        rows = some_rows(2_000)
        rows.values[:] = np.random.default_rng(1).random(rows.values.shape)
        edge.accept_rows([rows])
        await_drained(edge)
    finally:
        limit(4 << 20)
    found = frames(line)
    assert len(found) > 10
    assert sorted(arrived(line)) == list(range(2_000))


def test_a_power_cut_keeps_what_was_accepted(tmp_path: Path) -> None:
    """The disk as the last fsync left it, with rubbish where the next commit was being written."""
    folder, copies = tmp_path / "spool", []
    with Spool(folder, clock_us=lambda: 0) as spool:
        for number in range(10):
            spool.accept([some_rows(1, first=number)])
            copy = tmp_path / f"copy-{number}"
            copy.mkdir()
            for name in ("spool.db", "spool.db-wal"):  # the index of the log is memory, and lost
                (copy / name).write_bytes((folder / name).read_bytes())
            torn = copy / "spool.db-wal"
            torn.write_bytes(torn.read_bytes() + os.urandom(6_000))  # of the next commit, only rubbish came to disk
            copies.append(copy)
    for number, copy in enumerate(copies):
        with Spool(copy, clock_us=lambda: 0) as spool:
            cuts = spool.turn(room_bytes=1 << 20, frame_bytes_max=1 << 18)
            times = [int(at) for each in cuts for at in spool.read(each.key).times]
            assert spool.recovered is None
        assert times == [each * 1_000_000 for each in range(number + 1)]


def test_a_second_edge_on_one_spool_is_refused(edge: Edge, line: Line, tmp_path: Path) -> None:
    (tmp_path / "edge.toml").write_text(
        f'device = "mast-7"\nspool = "{tmp_path / "spool"}"\n[[source]]\nkind = "simulate"\n'
    )
    command = [sys.executable, "-m", "infra.command", "edge", "run", "-c", "edge.toml", "--kafka", line.address]
    second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 2
    assert "in use by another process" in second.stderr
    assert second.stderr.count("\n") == 1
