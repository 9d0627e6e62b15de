"""A broker that goes down may leave a transaction without its marker in some partitions.

`streams/agents/unfinished.py` says why. Which ones is chance there; here they are cut out of the log of a broker that
is down: what it finds is the same.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from fix_stage import Consumed, Wire, apply, consumed, make_device, make_frame
from own_servers import OwnBroker

from infra.client import connection
from infra.provision import provision
from schemas.keys import partition_of
from schemas.topics import READINGS_CLEAN, STREAMS_STATE
from streams.agents.devices import DeviceTable
from streams.agents.ownership import Ownership
from streams.agents.told import Told
from streams.agents.unfinished import Fate, Seen, fate_of

pytestmark = [pytest.mark.integration, pytest.mark.fault]

PARTITIONS = 4
ROWS = 5
DEVICES = [next(f"d{n}" for n in range(99) if partition_of(f"d{n}", PARTITIONS) == part) for part in range(PARTITIONS)]
CUT = [(STREAMS_STATE,), (STREAMS_STATE, READINGS_CLEAN), (READINGS_CLEAN,), (STREAMS_STATE, READINGS_CLEAN)]
"""By partition: where the second transaction has lost its marker. In the last one nothing else tells of it, for it had
no offsets."""
BARE = 3


@pytest.mark.parametrize(
    ("seen", "fate"),
    [
        (Seen(states_pending=True), Fate.ABORT),
        (Seen(states_pending=True, state_ms=5, clean_ms=4), Fate.ABORT),  # clean frames of the one before
        (Seen(states_pending=True, state_ms=5, clean_ms=9), Fate.COMMIT),
        (Seen(states_pending=True, clean_ms=9), Fate.COMMIT),  # the first of all
        (Seen(states_pending=True, state_ms=5, clean_ms=4, offsets_moved=True), Fate.COMMIT),
        (Seen(states_pending=False, state_ms=5, clean_ms=4), Fate.COMMIT),
        (Seen(states_pending=False, states_aborted=True, state_ms=5, clean_ms=4), Fate.ABORT),
    ],
)
def test_a_transaction_ends_as_it_did_where_it_did_end(seen: Seen, fate: Fate) -> None:
    assert fate_of(seen) is fate


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[OwnBroker]:
    made = OwnBroker(tmp_path / "kafka")
    made.start()
    provision(made.address, partitions=PARTITIONS)
    yield made
    made.close()


@contextmanager
def owners(wire: Wire) -> Iterator[list[Ownership]]:
    """Of all partitions, opened one after the other."""
    failures: list[BaseException] = []
    table = DeviceTable(wire.kafka, AdminClient(connection(wire.kafka)), wire.codec, failed=failures.append)
    told = Told(wire.kafka, failed=failures.append)
    table.start()
    told.start()
    made = []
    for number in range(PARTITIONS):
        made.append(Ownership(number, PARTITIONS, kafka=wire.kafka, codec=wire.codec, devices=table, told=told))
        made[-1].open(transaction_timeout_s=30)
    yield made
    told.stop()
    table.stop()
    assert failures == []


def frame(device: str, number: int) -> Consumed:
    return consumed(number, make_frame(device, number, first=ROWS * number, rows=ROWS), at_s=10 + number)


def without_last_batch(log: Path) -> None:
    """Cuts the marker that ends a log, as if it had never been written."""
    data, at, last = log.read_bytes(), 0, 0
    while at < len(data):
        last, (size,) = at, struct.unpack_from(">i", data, at + 8)
        at += 12 + size
    (attributes,) = struct.unpack_from(">h", data, last + 21)
    assert attributes & 0x20, "the last batch is a marker"
    log.write_bytes(data[:last])
    for index in log.parent.iterdir():  # made anew from the log
        if index.suffix in {".index", ".timeindex", ".txnindex", ".snapshot"}:
            index.unlink()


def test_what_a_broker_left_without_an_end_is_once_in_clean_and_counted_once(broker: OwnBroker) -> None:
    wire = Wire(broker.address)
    wire.configure(*map(make_device, DEVICES))
    with owners(wire) as former:
        for owned, device in zip(former, DEVICES, strict=True):
            wire.put(owned.number, *(frame(device, number) for number in range(4)))
            apply(owned, [frame(device, 0)])
            if owned.number == BARE:
                owned._delivered.next.clear()
                owned._transact(owned._work.out({"readings.raw": [frame(device, 1)]}).outputs, [])
            else:
                apply(owned, [frame(device, 1)])
    broker.end()
    data = broker.folder / "data"
    for number, topics in enumerate(CUT):
        for topic in topics:
            without_last_batch(data / f"{topic}-{number}" / f"{0:020}.log")
    (data / ".kafka_cleanshutdown").unlink()
    broker.start()
    with owners(wire) as later:
        for owned, device in zip(later, DEVICES, strict=True):
            apply(owned, [frame(device, number) for number in range(owned._delivered.next["readings.raw"], 4)])
        found = [(each.device_id, at) for each in wire.clean() for at in each.times.tolist()]
        assert len(found) == len(set(found)) == PARTITIONS * 4 * ROWS
        for owned, device in zip(later, DEVICES, strict=True):
            state = owned._work.states[device]
            assert state.received.spools == {"sp": ((0, 3),)}
            (windows,) = state.open
            assert windows.counts.tolist() == [[4 * ROWS] * 3]
