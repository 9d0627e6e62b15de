"""From the edge to the row under kills and freezes: accepted == stored, each once, values right."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from fix_faultbook import Book
from fix_services import Service, Start, await_true
from fix_stage import START_US, US, Wire, calibrated, logged, make_device, readings_of

from infra.offsets import committed
from infra.settle import STAGES, behind
from producers.edge import Edge
from producers.settings import EdgeSettings
from schemas.topics import READINGS_CLEAN, SINK_GROUP

pytestmark = [pytest.mark.integration, pytest.mark.fault]

DEVICES, CHANNELS, READINGS = 16, 5, 200_000
ROWS = READINGS // (DEVICES * CHANNELS)
SESSION = {"TELLTALE_STREAMS_SESSION_TIMEOUT_S": "6", "TELLTALE_SINK_SESSION_TIMEOUT_MS": "6000"}


@pytest.fixture
def device_partitions() -> int:
    return 4


class Spine:
    """Worker and sink, each started again when it is killed, as the supervisor does."""

    def __init__(self, start: Start, wire: Wire, database: str) -> None:
        self._start = start
        self.wire, self.database = wire, database
        self._env = {"TELLTALE_KAFKA": wire.kafka, "TELLTALE_DATABASE": database, **SESSION}
        self.running = {name: self.fresh(name) for name in ("streams", "sink")}

    def fresh(self, name: str) -> Service:
        return self._start(name, "run", **self._env)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name] = self.fresh(name)

    def progress(self, name: str) -> int:
        """What the service has brought about so far."""
        return len(self.wire.read(READINGS_CLEAN)) if name == "streams" else stored(self.database)

    def moves_on(self, name: str, since: int, what: str) -> None:
        await_true(lambda: self.progress(name) > since, what=what)

    def freeze_past_the_session(self, name: str, load: Callable[[], None]) -> None:
        """Frozen under load, missed, succeeded by another; then woken among the living."""
        frozen = self.running[name].await_ready()
        frozen.freeze()
        before = self.progress(name)
        self.running[name] = self.fresh(name)
        load()
        self.moves_on(name, before, what=f"a successor of the frozen {name}")
        frozen.wake()


def frames_of_edge(dice: random.Random) -> Iterator[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """(device, times, values) of mixed size; together each row of each device once."""
    left = dict.fromkeys((f"d{i}" for i in range(DEVICES)), 0)
    while left:
        device = dice.choice(sorted(left))
        first = left[device]
        rows = min(dice.choice((1, 1, 7, 60, 200)), ROWS - first)
        number = np.arange(first, first + rows)
        yield device, START_US + number * US, logged(number, CHANNELS)
        left[device] += rows
        if left[device] >= ROWS:
            del left[device]


def stored(database: str) -> int:
    with psycopg.connect(database) as connection:
        try:
            return connection.execute("select count(*) from readings").fetchone()[0]
        except psycopg.errors.UndefinedTable:
            return 0


def test_kills_and_freezes_lose_nothing_and_double_nothing(
    wire: Wire, database: str, start: Start, tmp_path: Path, book: Book
) -> None:
    seed, kills = 20_161_220, max(2, book.kills // 2) if book.is_long else 2  # kills of each
    dice = random.Random(seed)
    wire.configure(*(make_device(f"d{i}", CHANNELS) for i in range(DEVICES)))
    spine = Spine(start, wire, database)
    faults = ["kill streams", "kill sink"] * kills + ["freeze streams", "freeze sink"]
    dice.shuffle(faults)
    frames = list(frames_of_edge(dice))
    per_fault = len(frames) // (len(faults) + 1)

    with Edge(EdgeSettings(kafka=wire.kafka, spool=tmp_path / "spool", heartbeat_s=2)) as edge:

        def accept(some: list[Any]) -> None:
            for device, times, values in some:
                edge.accept_frame(times, [f"c{c}" for c in range(CHANNELS)], values, device_id=device)

        for number, fault in enumerate(faults):
            some = frames[number * per_fault : (number + 1) * per_fault]
            book.say(f"{number + 1} of {len(faults)}: {fault}")
            what, name = fault.split()
            if what == "kill":
                before = spine.progress(name)
                accept(some)
                spine.moves_on(name, before, what=f"progress before {fault}")
                spine.kill(name)
            else:
                spine.freeze_past_the_session(name, lambda some=some: accept(some))
        accept(frames[len(faults) * per_fault :])
        await_true(lambda: edge.drained, what="edge drained")

    for group, topics in STAGES.items():
        await_true(lambda g=group, t=topics: not behind(wire.kafka, g, t), what=f"{group} settled", within_s=90)
    assert_clean_is_exact(wire)
    assert_rows_are_exact(database)
    assert_windows_are_exact(wire)
    assert_offsets_agree(wire, database)
    book.tell(
        "worker and sink killed, and frozen past their sessions",
        f"kill -9 of each {kills} times at random points under load, each frozen once and woken among the living; "
        "windows and offsets exact too",
        accepted=READINGS,
        seed=seed,
    )


def truth() -> np.ndarray[Any, Any]:
    """(row, channel): what must be stored."""
    return np.vectorize(calibrated)(logged(np.arange(ROWS), CHANNELS))


def assert_clean_is_exact(wire: Wire) -> None:
    assert wire.rejected() == []
    found = readings_of(wire.clean())
    assert len(found) == len({reading[:3] for reading in found}) == READINGS


def assert_rows_are_exact(database: str) -> None:
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "select device_id, channel, extract(epoch from time)::bigint, value, logged, quality"
            " from readings join sensors using (sensor_id)"
        ).fetchall()
    assert len(rows) == READINGS
    right, raw = truth(), logged(np.arange(ROWS), CHANNELS)
    for _, channel, second, value, was_logged, quality in rows:
        at = second - START_US // US, int(channel[1:])
        assert (value, was_logged, quality) == (right[at], raw[at], 1)


def assert_windows_are_exact(wire: Wire) -> None:
    right = truth()
    seen = set()
    for frame in wire.windows():
        for i, channel in enumerate(frame.channels):
            key = frame.device_id, channel, int(frame.starts[i])
            assert key not in seen
            seen.add(key)
            first = (key[2] - START_US) // US
            values = right[first : first + 600, int(channel[1:])]
            assert frame.counts[i] == 600
            assert frame.means[i] == pytest.approx(values.mean(), rel=1e-12)
            assert frame.sds[i] == pytest.approx(values.std(ddof=1), rel=1e-9)
            assert (frame.minima[i], frame.maxima[i]) == (values.min(), values.max())
    assert len(seen) == DEVICES * CHANNELS * ((ROWS - 1) // 600)


def assert_offsets_agree(wire: Wire, database: str) -> None:
    """The database's position is the one that Kafka's tools show."""
    from confluent_kafka import Consumer, TopicPartition

    with psycopg.connect(database) as connection:
        positions = connection.execute("select topic, part, next_offset from sink_offsets").fetchall()
    consumer = Consumer({"bootstrap.servers": wire.kafka, "group.id": SINK_GROUP})
    try:
        found = committed(consumer, [TopicPartition(topic, part) for topic, part, _ in positions])
    finally:
        consumer.close()
    shown = {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}
    assert shown == {(topic, part): at for topic, part, at in positions if (topic, part) in shown}
    assert {topic for topic, _ in shown} >= {READINGS_CLEAN}
