"""Three brokers of which one freezes, then dies, under load: what was accepted is stored once, and people are told."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from fix_faultbook import Book
from fix_services import await_true, steadily
from fix_stage import START_US, US, Wire, logged, make_device

from infra import stack
from infra.client import connection
from infra.settle import STAGES, behind
from producers.edge import Edge
from producers.settings import EdgeSettings
from schemas.topics import ALARMS, READINGS_RAW

# Three brokers start three times on two cores: a busy machine takes minutes.
pytestmark = [pytest.mark.integration, pytest.mark.fault, pytest.mark.timeout(900)]

DEVICES, CHANNELS, ROWS, PARTITIONS = 4, 3, 10, 4
ALL = [1, 2, 3]
WITHIN_S = 120


class Stack:
    """`telltale up --brokers 3` with stage, sink and watchdog, beside a database of the test's."""

    def __init__(self, folder: Path, database: str) -> None:
        self.folder, self.database = folder, database
        self._env = os.environ | {
            "TELLTALE_DIR": str(folder),
            "TELLTALE_DATABASE": database,
            "TELLTALE_PARTITIONS": str(PARTITIONS),
            "TELLTALE_STREAMS_SESSION_TIMEOUT_S": "6",
            "TELLTALE_STREAMS_TRANSACTION_TIMEOUT_S": "12",
            "TELLTALE_SINK_SESSION_TIMEOUT_MS": "6000",
            "TELLTALE_WATCHDOG_EVERY_S": "1",
            "TELLTALE_WATCHDOG_UNREACHABLE_S": "2",
        }
        self._env.pop("TELLTALE_KAFKA", None)

    def telltale(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "infra.command", *words]
        return subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=240, check=False)

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.telltale("up", "--detach", "--only", "kafka,topics,streams,sink,watchdog", *words)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.telltale("status", "--json").stdout))

    def recorded(self) -> stack.Stack:
        """As `status` reads it."""
        found = stack.recorded(self.folder)
        assert found is not None
        return found

    def node(self, number: int) -> stack.Service:
        return next(each for each in self.recorded().services if each.name == f"kafka-{number}")

    def send(self, number: int, what: signal.Signals) -> None:
        """To a node."""
        process = self.node(number).process
        assert process is not None
        process.send(what)

    def controller(self) -> int:
        """The node whose controller is the active one."""
        said = self.telltale("kafka", "metadata-quorum", "describe", "--status").stdout
        found = re.search(r"LeaderId:\s+(\d+)", said)
        assert found, said
        return int(found[1])

    def rows(self) -> int:
        with psycopg.connect(self.database) as connection:
            return int(connection.execute("select count(*) from readings").fetchone()[0])


@pytest.fixture
def three(database: str) -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="telltale-three-"))
    one = Stack(folder, database)
    yield one
    if found := stack.recorded(folder):
        for service in found.services:  # where the test ended while one was frozen
            if service.process is not None:
                service.process.send(signal.SIGCONT)
    one.telltale("down", "--remove")
    shutil.rmtree(folder, ignore_errors=True)


def accept_a_frame_each(edge: Edge, rows: dict[str, int]) -> None:
    """One frame more of each device; `rows` counts what has been accepted of it."""
    for device, first in rows.items():
        number = np.arange(first, first + ROWS)
        channels = [f"c{c}" for c in range(CHANNELS)]
        edge.accept_frame(START_US + number * US, channels, logged(number, CHANNELS), device_id=device)
        rows[device] = first + ROWS


def partitions(kafka: str) -> list[Any]:
    topics = AdminClient(connection(kafka)).list_topics(timeout=30).topics.values()
    return [one for topic in topics for one in topic.partitions.values()]


def ends_known(admin: AdminClient, places: list[TopicPartition]) -> bool:
    """Whether the ends of logs can be asked for, also by a client that still thinks of leaders that were."""
    answers = admin.list_offsets(dict.fromkeys(places, OffsetSpec.latest()), request_timeout=5)
    return all(answer.exception() is None for answer in answers.values())


def await_soon(happened: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
    """Each look costs the two cores something, which three brokers need."""
    await_true(happened, what=what, within_s=within_s, every_s=0.5)


def seconds_until(happened: Callable[[], bool], what: str) -> float:
    """As `await_soon`; how long it took."""
    began = time.monotonic()
    await_soon(happened, what)
    return time.monotonic() - began


def assert_rows_are(accepted: dict[str, int], database: str) -> None:
    """Every row that each device has had accepted, once, as it was logged."""
    wanted = {
        (device, f"c{channel}", START_US // US + row): value[channel]
        for device, rows in accepted.items()
        for row, value in enumerate(logged(np.arange(rows), CHANNELS))
        for channel in range(CHANNELS)
    }
    with psycopg.connect(database) as connected:
        found = connected.execute(
            "select device_id, channel, extract(epoch from time)::bigint, logged from readings join sensors "
            "using (sensor_id)"
        ).fetchall()
    assert len(found) == len(wanted)
    assert {(device, channel, second): value for device, channel, second, value in found} == wanted


def test_a_lost_broker_stops_nothing_and_loses_nothing(three: Stack, tmp_path: Path, book: Book) -> None:
    up = three.up("--brokers", "3")
    assert up.returncode == 0, up.stderr
    status = three.status()
    kafka = status["kafka"]
    assert [each["name"] for each in status["services"]][:3] == ["kafka-1", "kafka-2", "kafka-3"]
    assert len(kafka.split(",")) == 3
    wire = Wire(kafka)
    wire.configure(*(make_device(f"d{i}", CHANNELS) for i in range(DEVICES)))
    controller = three.controller()

    def told() -> list[str]:
        events = [json.loads(message.value())["data"] for message in wire.read(ALARMS)]
        return [each["state"] for each in events if each["rule"] == "under_replicated"]

    def whole() -> bool:
        return all(sorted(one.isrs) == ALL and one.leader in ALL for one in partitions(kafka))

    def moves_on(what: str) -> None:
        before = three.rows()
        await_soon(lambda: three.rows() > before, what=f"rows {what}")

    def is_back(number: int) -> None:
        await_soon(lambda: three.node(number).restarts == 1, what=f"node {number} started again")
        await_soon(lambda: three.recorded().is_up, what="everything up")
        await_soon(whole, what=f"all copies after node {number} was lost")

    accepted = dict.fromkeys((f"d{i}" for i in range(DEVICES)), 0)
    with Edge(EdgeSettings(kafka=kafka, spool=tmp_path / "spool", heartbeat_s=2)) as edge:
        with steadily(lambda: accept_a_frame_each(edge, accepted), every_s=0.2):
            await_soon(whole, what="all copies")
            moves_on("before")

            places = [TopicPartition(READINGS_RAW, number) for number in range(PARTITIONS)]
            leads = {one.leader for one in partitions(kafka)} - {controller}
            assert leads, "every node leads something"
            lost = min(leads)
            asks = AdminClient(connection(kafka))
            assert ends_known(asks, places)  # and from whom: the lost one leads some
            three.send(lost, signal.SIGSTOP)  # dead, it would be started again before anybody missed it
            raised_s = seconds_until(lambda: "raised" in told(), what="the watchdog's alarm")
            await_soon(lambda: ends_known(asks, places), "an answer about the ends of logs")
            moves_on("while it is away")
            three.send(lost, signal.SIGKILL)
            cleared_s = seconds_until(lambda: "cleared" in told(), what="the end of the alarm")
            is_back(lost)

            three.send(controller, signal.SIGKILL)
            moves_on("after the active controller was killed")
            is_back(controller)
        await_soon(lambda: edge.drained, what="edge drained")

    for group, topics in STAGES.items():
        await_soon(lambda g=group, t=topics: not behind(kafka, g, t), what=f"{group} settled")
    assert wire.rejected() == []
    assert_rows_are(accepted, three.database)
    assert {len(one.replicas) for one in partitions(kafka)} == {3}
    book.tell(
        "one of three brokers lost",
        "a leader of partitions SIGSTOP until the alarm, then kill -9; its supervisor starts it again; then kill -9 of "
        "the active controller; rows went on meanwhile",
        accepted=sum(accepted.values()) * CHANNELS,
        alarm=f"under_replicated {raised_s:.1f} s, cleared {cleared_s:.1f} s",
    )

    assert three.telltale("down").returncode == 0
    refused = three.up("--brokers", "1")
    assert refused.returncode == 2, refused.stderr
    assert "was made with 3 brokers, asked for 1" in refused.stderr
