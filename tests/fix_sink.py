"""Real sink processes, and a stand-in for the stream stage: clean frames in Kafka transactions, some aborted."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from infra.offsets import ends, mark_of
from schemas.codec import Codec
from schemas.frames import CleanFrame
from schemas.keys import PARTITIONER
from schemas.topics import READINGS_CLEAN, SINK_GROUP
from sinks.timescale import schema

WAIT_S_MAX = 60
DEVICES = [f"mast-{number}" for number in range(6)]
"""Together they lie on every one of four partitions."""
START_US = 1_480_000_000_000_000  # 2016-11-24


def until(true: Callable[[], Any], *, what: str, timeout_s: float = WAIT_S_MAX) -> Any:
    """The first true answer of a probe."""
    deadline = time.monotonic() + timeout_s
    while not (answer := true()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s: {what}")
        time.sleep(0.05)
    return answer


def clean_frame(
    device: str, first: int, rows: int, *, channels: tuple[str, ...] = ("Spd80", "Dir78"), correction: float = 0.0
) -> CleanFrame:
    """Rows `first` to `first + rows` of a device's endless, reproducible series: each value follows from its place."""
    places = np.arange(first, first + rows)
    values = places[:, None] + np.arange(len(channels)) / 16 + correction
    flags = np.where((places % 7 == 0)[:, None], 4, 1) * np.ones(len(channels), np.int64)
    return CleanFrame(
        device_id=device,
        generation=0,
        times=START_US + places * 1_000_000,
        channels=channels,
        logged=values * 2,
        values=values,
        quality=flags,
        tests=(flags == 4).astype(np.int64),
    )


class CleanReadings:
    """Writes `readings.clean` as the stream stage does, and remembers what a reader must find."""

    def __init__(self, address: str) -> None:
        from confluent_kafka import Producer

        self.address, self._codec = address, Codec()
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "transactional.id": "tests-clean",
                "partitioner": PARTITIONER,
                "linger.ms": 1,
            }
        )
        self._producer.init_transactions(30)
        self.expected: dict[tuple[str, str, int], tuple[float, float, int, int]] = {}

    def send(self, *frames: CleanFrame, aborted: bool = False) -> None:
        """All frames in one transaction."""
        self._producer.begin_transaction()
        for frame in frames:
            self._producer.produce(READINGS_CLEAN, key=frame.device_id.encode(), value=self._codec.encode(frame))
        if aborted:
            self._producer.flush(10)
            self._producer.abort_transaction(10)
            return
        self._producer.commit_transaction(30)
        for frame in frames:
            for row, time_us in enumerate(frame.times.tolist()):
                for column, channel in enumerate(frame.channels):
                    self.expected[frame.device_id, channel, time_us] = (
                        frame.logged[row, column].item(),
                        frame.values[row, column].item(),
                        frame.quality[row, column].item(),
                        frame.tests[row, column].item(),
                    )


def reset_group(cluster: str, *, part: int, offset: int) -> None:
    """As an operator does it: without metadata."""
    from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
    from confluent_kafka.admin import AdminClient

    wanted = [ConsumerGroupTopicPartitions(SINK_GROUP, [TopicPartition(READINGS_CLEAN, part, offset)])]
    admin = AdminClient({"bootstrap.servers": cluster})

    def accepted() -> bool:
        try:
            answers = [future.result() for future in admin.alter_consumer_group_offsets(wanted).values()]
        except KafkaException:  # the group still has a member that was killed
            return False
        return all(each.error is None for answer in answers for each in answer.topic_partitions)

    until(accepted, what="the group takes the reset")


def settled(stored: "Database", clean: "CleanReadings") -> None:
    """All that was committed is there, each once, and nothing else is."""
    until(lambda: stored.one("SELECT count(*) FROM readings") >= len(clean.expected), what="all rows")
    assert stored.readings() == clean.expected
    until(lambda: positions_agree(stored, clean.address), what="database, Kafka and the end of the log agree")


def positions_agree(stored: "Database", cluster: str) -> bool:
    """Each partition of `readings.clean` stands at its end, in the database and, with our mark, in Kafka."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient

    statement = "SELECT part, next_offset FROM sink_offsets WHERE topic = %s"
    stands = dict(stored.rows(statement, READINGS_CLEAN))
    admin = AdminClient({"bootstrap.servers": cluster})
    parts = [TopicPartition(READINGS_CLEAN, part) for part in stands]
    stops = {part: end for (_, part), end in ends(admin, parts).items()}
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(SINK_GROUP, parts)])
    told = next(iter(asked.values())).result().topic_partitions
    marked = {tp.partition: tp.offset for tp in told if mark_of(tp.metadata)}
    return bool(stands) and stands == stops == marked


def alarms_are_over(stored: "Database") -> bool:
    """At least one alarm was raised, and each has been cleared, in the history and in the table of now."""
    history = stored.rows("SELECT alarm_id, array_agg(state ORDER BY time) FROM alarm_events GROUP BY 1")
    now = {state for (state,) in stored.rows("SELECT state FROM alarms")}
    return bool(history) and all(states == ["raised", "cleared"] for _, states in history) and now == {"cleared"}


TOLD = """
SELECT a.rule, min(e.time) FILTER (WHERE e.state = 'raised'), max(e.time) FILTER (WHERE e.state = 'cleared')
FROM alarms a JOIN alarm_events e USING (alarm_id) WHERE e.time >= %s GROUP BY a.alarm_id, a.rule ORDER BY 2"""


def alarms_heard(stored: "Database", *, fault: datetime, mended: datetime) -> str:
    """Each alarm since the fault, as the fault book has it: seconds from the fault, and from the mending."""
    return "; ".join(
        f"{rule} {(raised - fault).total_seconds():.1f} s"
        + (f", cleared {(cleared - mended).total_seconds():.1f} s" if cleared else "")
        for rule, raised, cleared in stored.rows(TOLD, fault)
        if raised
    )


def now() -> datetime:
    return datetime.now(UTC)


STORED = """
SELECT device_id, channel, (extract(epoch FROM time) * 1000000)::int8, logged, value, quality, tests
FROM readings JOIN sensors USING (sensor_id)"""


class Database:
    """What the sink has written."""

    def __init__(self, dsn: str, *, migrate: bool = True) -> None:
        self.dsn = dsn
        if migrate:
            schema.migrate(dsn)

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None) as connection:
            return connection.execute(statement.encode(), arguments or None).fetchall()

    def call(self, statement: str) -> None:
        """A statement that answers nothing."""
        with psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None) as connection:
            connection.execute(statement.encode())

    def one(self, statement: str, *arguments: Any) -> Any:
        """The only column of the only row."""
        return self.rows(statement, *arguments)[0][0]

    def readings(self) -> dict[tuple[str, str, int], tuple[float, float, int, int]]:
        return {(device, channel, time): tuple(rest) for device, channel, time, *rest in self.rows(STORED)}


class SinkProcess:
    """One `telltale sink run`."""

    def __init__(self, *, kafka: str, dsn: str, folder: Path, **settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self.ready, self.log = folder / "ready", folder / "log"
        self.ready.unlink(missing_ok=True)
        environment = os.environ | {"TELLTALE_READY_FILE": str(self.ready), "TELLTALE_SINK_SESSION_TIMEOUT_MS": "6000"}
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "infra.command",
                    "sink",
                    "run",
                    "--kafka",
                    kafka,
                    "--database",
                    dsn,
                    "--verbose",
                ],
                env=environment | settings,
                stdout=out,
                stderr=out,
            )

    def working(self) -> "SinkProcess":
        until(lambda: self.ready.exists() or self.ended, what="the sink works")
        assert not self.ended, self.said()
        return self

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def said(self) -> str:
        return self.log.read_text()

    def send(self, signal_number: int) -> None:
        self._process.send_signal(signal_number)

    def wait(self, timeout: float = 30) -> int:
        return self._process.wait(timeout)

    def kill(self) -> None:
        if not self.ended:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def stored(database: str) -> Database:
    """A database with the schema in it."""
    return Database(database)


@pytest.fixture
def clean(cluster: str) -> CleanReadings:
    """The stream stage's output topic."""
    return CleanReadings(cluster)


@pytest.fixture
def start_sink(cluster: str, stored: Database, tmp_path: Path) -> Iterator[Callable[..., SinkProcess]]:
    """Starts a sink; all end with the test. `dsn` names another way to the same database."""
    started: list[SinkProcess] = []

    def start(*, dsn: str = stored.dsn, **settings: str) -> SinkProcess:
        folder = tmp_path / f"sink{len(started)}"
        started.append(SinkProcess(kafka=cluster, dsn=dsn, folder=folder, **settings))
        return started[-1]

    yield start
    for process in started:
        process.kill()


Moment = Callable[[bool, bytes], bytes | None]
"""Is given each piece on its way (up: to the database) before it is passed on; what it answers is passed on instead,
and None breaks the connection. It may take its time."""


class Line:
    """A line to the database on which a test lies in wait for a moment of the protocol."""

    def __init__(self, dsn: str) -> None:
        self._head, _, rest = dsn.rpartition("@")
        address, _, self._database = rest.partition("/")
        host, _, port = address.partition(":")
        self._to = host, int(port)
        self.moment: Moment = lambda _, piece: piece
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def dsn(self) -> str:
        return f"{self._head}@127.0.0.1:{self._listener.getsockname()[1]}/{self._database}"

    def lead_to(self, dsn: str) -> None:
        """New connections go to another server."""
        host, _, port = dsn.rpartition("@")[2].partition("/")[0].partition(":")
        self._to = host, int(port)

    def close(self) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._to, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._open += [client, server]
            for up, one, other in ((True, client, server), (False, server, client)):
                threading.Thread(target=self._pass_on, args=(up, one, other), daemon=True).start()

    def _pass_on(self, up: bool, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while piece := one.recv(65_536):
                passed = self.moment(up, piece)
                if passed is None:
                    break
                other.sendall(passed)
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(stored: Database) -> Iterator[Line]:
    """A line to the test's own database."""
    made = Line(stored.dsn)
    yield made
    made.close()
