"""Signed frames through a whole stage: what a stolen credential can write, and what becomes of it."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer
from fix_faultbook import Book
from fix_services import Start, await_true
from fix_stage import Wire, make_device, make_frame

from dashboard import rejected as store
from infra.client import connection
from infra.security import keys
from infra.security.strangers import CALM, Strangers
from infra.settle import behind
from infra.watchdog import probes
from infra.watchdog.findings import Rule
from infra.watchdog.rejected import RejectedRecords
from producers.delivery.signing import Signatures
from producers.edge import Edge
from producers.settings import EdgeSettings
from schemas.errors import Refused
from schemas.keys import PARTITIONER
from schemas.topics import HEARTBEATS, READINGS_RAW, STREAMS_GROUP

pytestmark = pytest.mark.integration

NOW = datetime.now(UTC)
NO_DATABASE = "postgresql://127.0.0.1:1/none"
"""Where nobody can say what was rejected before: all of it is told."""


@pytest.fixture
def device_partitions() -> int:
    return 2


def settled(wire: Wire) -> bool:
    return not behind(wire.kafka, STREAMS_GROUP, (READINGS_RAW, HEARTBEATS))


class Thief:
    """Writes what it likes, with a key if it has one."""

    def __init__(self, wire: Wire, key: str | None = None, device: str = "pi-1") -> None:
        self._wire = wire
        self._producer = Producer({**connection(wire.kafka), "partitioner": PARTITIONER})
        self._signatures = Signatures(EdgeSettings(device_id=device, frame_key=key), server=Path("/nowhere"))
        self._device = device

    def write(self, sequence: int, *, of: str, key: str | None = None, topic: str = READINGS_RAW) -> None:
        value = self._wire.codec.encode(make_frame(of, sequence, first=sequence * 5, rows=5))
        headers = self._signatures.headers(topic, self._device, value)
        self._producer.produce(topic, value, key=key or of, headers=headers)
        assert self._producer.flush(30) == 0


def test_a_stolen_credential_writes_as_nobody_else(wire: Wire, start: Start, tmp_path: Path, book: Book) -> None:
    place = tmp_path / "security"
    key = keys.issue(place, "pi-1", now=NOW - timedelta(minutes=5), grace=timedelta(0))
    keys.issue(place, "pi-2", now=NOW - timedelta(minutes=5), grace=timedelta(0))
    wire.configure(*(make_device(name) for name in ("pi-1", "pi-2", "demo")))
    start("streams", "run", TELLTALE_KAFKA=wire.kafka, TELLTALE_SECURITY=str(place)).await_ready()

    settings = EdgeSettings(device_id="pi-1", frame_key=key, spool=tmp_path / "spool", heartbeat_s=0.2)
    with Edge(settings, address=wire.kafka) as edge:  # a real edge, with the key of its edge.toml
        edge.accept_row(make_frame("pi-1", 0, first=0, rows=1).times[0], {"c0": 1.0, "c1": 2.0, "c2": 3.0})
        await_true(lambda: edge.drained, what="the edge's reading delivered")
    wire.send(make_frame("demo", 0, first=0, rows=5))  # no key, as files at the shell of a machine without any
    began, thief = time.monotonic(), Thief(wire, key)
    thief.write(1, of="pi-2")  # as another device
    thief.write(2, of="pi-2", key="pi-1")  # the same, under one's own key
    thief.write(3, of="pi-1", topic=HEARTBEATS)  # signed, but for heartbeats: of no use as a frame, nor as a heartbeat
    Thief(wire).write(4, of="pi-2")  # unsigned
    Thief(wire).write(5, of="pi-1", topic=HEARTBEATS)
    keys.end(place, "pi-1", now=datetime.now(UTC) - timedelta(milliseconds=1))
    thief.write(6, of="pi-1")  # revoked
    await_true(lambda: settled(wire), what="stage settled")

    assert sorted((each.device_id, each.reason) for each in wire.rejected()) == [
        ("pi-1", "ended_key"),
        ("pi-1", "unsigned"),
        ("pi-1", "wrong_key"),
        ("pi-2", "unsigned"),
        ("pi-2", "wrong_signature"),
    ]
    assert {frame.device_id for frame in wire.clean()} == {"pi-1", "demo"}
    assert wire.clean_readings() == 3 + 5 * 3

    now, known, records = datetime.now(UTC), Strangers(), RejectedRecords(wire.kafka, NO_DATABASE)
    found = {}

    def looked():
        told = list(records.tries(now))
        assert {rule for rule, _ in told} <= {Rule.STRANGER}
        found.update({each.source: each for each in probes.strangers((one for _, one in told), known, now)})
        return len(found) == 2

    await_true(looked, what="the watchdog's look")
    assert set(found) == {"device/pi-1", "device/pi-2"}
    assert found["device/pi-2"].bad
    assert 'in the name of "pi-2"' in found["device/pi-2"].said
    after_s = time.monotonic() - began
    assert [each.bad for each in probes.strangers((), known, now + CALM)] == [False, False]
    book.tell(
        "unauthorised device: another's id",
        "a stolen credential writes as another device, unsigned, and with a revoked key: 5 records refused with their "
        "reason, 18 readings of others stored",
        accepted=18,
        alarm=f"unauthorised_device {after_s:.1f} s, cleared {CALM.total_seconds():g} s after the last (clock moved)",
    )

    # An operator sends it again: only knowingly, and then it counts.
    chosen = [
        each for each in store.rejected(wire.kafka, wire.codec, device="pi-2") if each.record.reason == "unsigned"
    ]
    with pytest.raises(Refused, match="--vouch"):
        store.retry(wire.kafka, wire.codec, chosen, keys=place)
    store.retry(wire.kafka, wire.codec, chosen, vouched=True, keys=place)
    await_true(lambda: settled(wire), what="stage settled")
    assert {frame.device_id for frame in wire.clean()} == {"pi-1", "pi-2", "demo"}


def test_where_all_must_sign_old_edges_are_refused_and_a_server_without_keys_takes_new_ones(
    wire: Wire, start: Start, tmp_path: Path
) -> None:
    place = tmp_path / "security"
    key = keys.issue(place, "pi-1", now=NOW, grace=timedelta(0))
    wire.configure(make_device("pi-1"), make_device("old"))
    # A server that has no keys, as one before them: a signature is a header that nobody asks for.
    before = start("streams", "run", TELLTALE_KAFKA=wire.kafka, TELLTALE_SECURITY=str(tmp_path / "none")).await_ready()
    Thief(wire, key).write(0, of="pi-1")
    wire.send(make_frame("old", 0, first=0, rows=5))
    await_true(lambda: settled(wire), what="stage settled")
    assert wire.clean_readings() == 2 * 5 * 3
    before.stop()

    start(
        "streams", "run", TELLTALE_KAFKA=wire.kafka, TELLTALE_SECURITY=str(place), TELLTALE_STREAMS_UNSIGNED="refuse"
    ).await_ready()
    Thief(wire, key).write(1, of="pi-1")
    wire.send(make_frame("old", 1, first=5, rows=5))  # an edge from before signatures
    await_true(lambda: settled(wire), what="stage settled")
    assert [(each.device_id, each.reason) for each in wire.rejected()] == [("old", "unsigned")]
    assert wire.clean_readings() == 3 * 5 * 3
