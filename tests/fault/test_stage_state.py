"""The stage's memory lost or damaged: rebuilt by an operator's word or refused loudly, never silently empty."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from fix_services import await_true
from fix_stage import START_US, US, Consumed, Wire, apply, consumed, make_device, make_frame, readings_of

from infra import replay
from infra.client import connection
from infra.provision import provision
from schemas.codec import Codec
from schemas.errors import Refused
from schemas.keys import partition_of
from schemas.records import Heartbeat
from schemas.topics import HEARTBEATS, READINGS_RAW, STREAMS_STATE
from streams.agents.app import count_partitions
from streams.agents.devices import DeviceTable
from streams.agents.ownership import Ownership
from streams.agents.same_log import shrunk
from streams.agents.told import Told

pytestmark = [pytest.mark.integration, pytest.mark.fault]

PARTITIONS = 2
DEVICES = [f"d{i}" for i in range(6)]


@pytest.fixture
def device_partitions() -> int:
    return PARTITIONS


Open = Callable[[], Ownership]


@pytest.fixture
def opened(wire: Wire) -> Iterator[Open]:
    """Opens the partition of d0, as a worker that starts does."""
    failures: list[BaseException] = []
    table = DeviceTable(wire.kafka, AdminClient(connection(wire.kafka)), wire.codec, failed=failures.append)
    told = Told(wire.kafka, failed=failures.append)
    wire.configure(*map(make_device, DEVICES))
    table.start()
    told.start()

    def open_it() -> Ownership:
        number = partition_of("d0", PARTITIONS)
        owned = Ownership(number, PARTITIONS, kafka=wire.kafka, codec=wire.codec, devices=table, told=told)
        owned.open(transaction_timeout_s=20)
        return owned

    yield open_it
    told.stop()
    table.stop()
    assert failures == []


def mine() -> list[str]:
    number = partition_of("d0", PARTITIONS)
    return [name for name in DEVICES if partition_of(name, PARTITIONS) == number]


def frames(sequence: int) -> list[Consumed]:
    at = sequence * len(mine())
    return [
        consumed(at + number, make_frame(name, sequence, first=sequence * 300, rows=300), at_s=1000 * (sequence + 1))
        for number, name in enumerate(mine())
    ]


def test_a_deleted_state_topic_is_refused_until_an_operator_has_it_computed_again(wire: Wire, opened: Open) -> None:
    wire.send(*(make_frame(name, at, first=at * 300, rows=300) for at in range(3) for name in mine()))
    owned = opened()
    for sequence in range(3):
        apply(owned, frames(sequence))
    wire.put(owned.number, wrong_clock())
    apply(owned, [wrong_clock()])
    assert [str(event.data.state) for event in wire.alarms()] == ["raised"]
    first, first_windows = readings_of(wire.clean()), len(wire.windows())

    admin = AdminClient(connection(wire.kafka))
    admin.delete_topics([STREAMS_STATE], operation_timeout=30)[STREAMS_STATE].result()
    gone = lambda: STREAMS_STATE not in admin.list_topics(timeout=10).topics  # noqa: E731
    await_true(gone, what="the topic to be gone")
    with pytest.raises(Refused, match=r"lacks the topics streams.state; make them with: telltale topics provision"):
        count_partitions(admin, wire.kafka)
    provision(wire.kafka, partitions=PARTITIONS)  # as it says; what was in it is not made by that
    said = rf"expected the states of {len(mine())} devices, got 0: .*`telltale replay --from-beginning`"
    for _ in range(2):  # the first refusal has changed nothing
        with pytest.raises(Refused, match=said):
            opened()

    replay.reset(wire.kafka, replay.plan(wire.kafka, since=None, device_id=None), between=lambda: None)
    owned = opened()
    for sequence in range(3):
        apply(owned, frames(sequence))
    assert sorted(readings_of([frame for frame in wire.clean() if frame.generation == 1])) == sorted(first)
    assert len(wire.windows()) == 2 * first_windows
    look(owned, from_s=3000, to_s=3020)  # a heartbeat is not read again: nobody knows of its alarm any more
    over = wire.alarms()[-1].data
    assert (over.rule, over.state, over.reason, over.step) == ("clock_skew", "cleared", "state_lost", 1)
    assert len(wire.alarms()) == 2
    assert opened().generation == 1


def wrong_clock() -> Consumed:
    """An edge says so."""
    now = datetime.fromtimestamp(START_US // US, UTC)
    counts = dict.fromkeys(("next_sequence", "depth", "depth_bytes", "accepted", "sent", "dropped", "refused"), 0)
    said = Heartbeat(
        device_id="d0",
        spool_id="sp",
        time=now,
        started=now,
        version="1",
        free_disk_bytes=1,
        clock_offset_s=3600.0,
        **counts,
    )
    return Consumed(0, b"d0", Codec().encode(said), START_US // 1000, HEARTBEATS)


def look(owned: Ownership, *, from_s: int, to_s: int) -> None:
    for second in range(from_s, to_s):
        owned.look_for_silence({}, now_us=START_US + second * US, look_every_us=US)


def test_a_worker_that_refuses_says_so_in_one_line_and_ends_with_2() -> None:
    script = "import streams.agents.app as a; a.end_process(a.Refused('streams.state, partition 0: ...'))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (2, "error: streams.state, partition 0: ...\n")


@pytest.mark.parametrize("damage", [lambda value: b"rubbish", lambda value: value[:-7]], ids=["rubbish", "cut short"])
def test_a_state_that_cannot_be_read_is_refused_with_its_device_and_computed_again(
    wire: Wire, opened: Open, damage: Callable[[bytes], bytes]
) -> None:
    wire.send(*(make_frame(name, at, first=at * 300, rows=300) for at in range(4) for name in mine()))
    owned = opened()
    for sequence in range(3):
        apply(owned, frames(sequence))
    first, first_windows = readings_of(wire.clean()), len(wire.windows())

    value = next(m.value() for m in wire.read(STREAMS_STATE) if m.key() == b"d0")
    producer = Producer(connection(wire.kafka))
    producer.produce(STREAMS_STATE, key=b"d0", value=damage(value), partition=owned.number)
    assert producer.flush(10) == 0
    for _ in range(2):  # the first refusal has changed nothing
        with pytest.raises(Refused, match=r"states of 1 device cannot be read \(d0: .*telltale replay"):
            opened()

    moves = replay.plan(wire.kafka, since=None, device_id=None)
    replay.reset(wire.kafka, moves, between=lambda: None)
    owned = opened()
    assert owned.generation == 1
    owned = opened()  # what was damaged is forgotten, also by one who ends before anything is computed
    for sequence in range(4):
        apply(owned, frames(sequence))
    again = [frame for frame in wire.clean() if frame.generation == 1]
    assert sorted(readings_of(again)[: len(first)]) == sorted(first)
    assert len(wire.windows()) == 2 * first_windows
    assert opened().generation == 1


def test_an_older_state_topic_than_the_offsets_is_noticed(wire: Wire, opened: Open) -> None:
    """As after a topic was made again from a copy: some states are there, not all."""
    owned = opened()
    apply(owned, frames(0))
    producer = Producer(connection(wire.kafka))
    producer.produce(STREAMS_STATE, key=b"d0", value=None, partition=owned.number)
    assert producer.flush(10) == 0
    count = len(mine())
    with pytest.raises(Refused, match=f"expected the states of {count} devices, got {count - 1}"):
        opened()


@pytest.mark.parametrize("frames_since", [1, 5], ids=["shorter", "longer"])
def test_frames_of_a_log_that_was_made_anew_are_not_taken_for_those_that_stood_there_before(
    wire: Wire, opened: Open, frames_since: int
) -> None:
    """The states stay, whose positions are of the former log."""
    number = partition_of("d0", PARTITIONS)
    wire.put(number, *(each for sequence in range(3) for each in frames(sequence)))
    owned = opened()
    for sequence in range(3):
        apply(owned, frames(sequence))
    apply(owned, [wrong_clock()])  # of a log of heartbeats that is gone, too
    assert opened().generation == 0
    admin = AdminClient(connection(wire.kafka))
    admin.delete_topics([READINGS_RAW], operation_timeout=30)[READINGS_RAW].result()
    await_true(lambda: READINGS_RAW not in admin.list_topics(timeout=10).topics, what="it to be gone", within_s=30)
    provision(wire.kafka, partitions=PARTITIONS)
    since = [each for sequence in range(3, 3 + frames_since) for each in frames(sequence)]
    since = [replace(each, offset=at) for at, each in enumerate(since)]
    wire.put(number, *since)

    owned = opened()
    assert (owned.generation, owned.next[READINGS_RAW], owned.next[HEARTBEATS]) == (1, 0, 0)
    apply(owned, since)
    clean = readings_of(wire.clean())
    assert len(clean) == len(set(clean)) == (3 + frames_since) * len(mine()) * 300 * 3
    assert opened().generation == 1


def test_a_log_whose_end_was_lost_goes_on_where_it_ends_now(wire: Wire, opened: Open) -> None:
    number = partition_of("d0", PARTITIONS)
    wire.put(number, *(each for sequence in range(2) for each in frames(sequence)))
    owned = opened()
    for sequence in range(2):
        apply(owned, frames(sequence))
    apply(owned, frames(2)[:-1])  # of these the broker knows nothing any more
    owned = opened()
    end = 2 * len(mine())
    assert (owned.generation, owned.next[READINGS_RAW]) == (1, end)
    since = [replace(each, offset=end + at) for at, each in enumerate(frames(3))]
    wire.put(number, *since)
    apply(owned, since)
    clean = readings_of(wire.clean())
    assert len(clean) == len(set(clean)) == (4 * len(mine()) - 1) * 300 * 3
    assert opened().generation == 1


def test_a_log_that_ends_before_what_was_read_of_it_is_noticed() -> None:
    ends = {(READINGS_RAW, 0): 5, (READINGS_RAW, 1): 7, (HEARTBEATS, 0): 0}
    assert shrunk(ends, {(READINGS_RAW, 0): 5, (READINGS_RAW, 1): 8}) == [(READINGS_RAW, 1)]
