"""Workers that come, go, are killed and frozen, and a broker that is killed, all under load: exact all the same."""

import random
import time
from collections.abc import Iterator

import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from fix_faultbook import Book
from fix_services import Service, Start, await_true, steadily
from fix_stage import START_US, US, Consumed, Wire, apply, calibrated, consumed, logged, make_device, make_frame
from own_servers import OwnBroker

from infra.client import connection, reader
from infra.offsets import committed
from infra.settle import STAGES, behind
from schemas.devices import Device
from schemas.errors import Unavailable
from schemas.limits import GrossRange, Limits
from schemas.topics import READINGS_RAW, STREAMS_GROUP, STREAMS_STATE
from streams.agents.devices import DeviceTable
from streams.agents.ownership import Ownership
from streams.agents.told import Told
from streams.agents.transaction import Transactions

pytestmark = [pytest.mark.integration, pytest.mark.fault]

DEVICES, CHANNELS, ROWS = 12, 3, 10
FRAMES_PER_S = 60


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBroker]:
    own = OwnBroker(tmp_path_factory.mktemp("own") / "kafka")
    own.start()
    yield own
    own.close()


@pytest.fixture(scope="module")
def kafka(own_broker: OwnBroker) -> str:
    """Instead of the session's."""
    return own_broker.address


@pytest.fixture
def device_partitions() -> int:
    return 6


def send_a_frame_each(wire: Wire, sent: dict[str, int]) -> None:
    """One frame more of each device, whose rows are one series without a hole; `sent` counts its frames."""
    for device, sequence in sent.items():
        wire.send_soon(make_frame(device, sequence, first=sequence * ROWS, rows=ROWS))
        sent[device] = sequence + 1


class Workers:
    """Those at work; one that ends is started again, as the supervisor does."""

    def __init__(self, start: Start, wire: Wire) -> None:
        self._start, self._wire = start, wire
        self.living: list[Service] = []
        self.ended = 0

    def join(self) -> Service:
        settings = {"TELLTALE_STREAMS_SESSION_TIMEOUT_S": "6", "TELLTALE_STREAMS_TRANSACTION_TIMEOUT_S": "8"}
        worker = self._start("streams", "run", TELLTALE_KAFKA=self._wire.kafka, **settings)
        self.living.append(worker)
        return worker

    def tend(self) -> bool:
        """Always true, for use while something else is awaited."""
        for worker in [each for each in self.living if not each.lives]:
            self.living.remove(worker)
            self.ended += 1
            self.join()
        return True


def always_good(device: Device) -> Device:
    """A series grows for as long as the machine takes."""
    wide = Limits(gross_range=GrossRange(fail=(0, 1e9), suspect=(0, 1e9)))
    sensors = tuple(sensor.model_copy(update={"limits": wide}) for sensor in device.sensors)
    return device.model_copy(update={"sensors": sensors})


def settled(wire: Wire) -> bool:
    try:
        return not behind(wire.kafka, STREAMS_GROUP, STAGES[STREAMS_GROUP])
    except Unavailable:  # offsets of a transaction that a killed worker left open are told when it has timed out
        return False


def assert_exact(wire: Wire, sent: dict[str, int]) -> None:
    """Every reading once, each device's in order, calibrated right; every window that has ended once, and right."""
    assert wire.rejected() == []
    times: dict[str, list[int]] = {device: [] for device in sent}
    right = np.vectorize(calibrated)(logged(np.arange(max(sent.values()) * ROWS), CHANNELS))
    for frame in wire.clean():
        rows = (frame.times - START_US) // US
        times[frame.device_id] += rows.tolist()
        assert np.array_equal(frame.values, right[rows])
    assert times == {device: list(range(count * ROWS)) for device, count in sent.items()}
    windows: dict[tuple[str, str], list[int]] = {}
    for window in wire.windows():
        for at, channel in enumerate(window.channels):
            first = int(window.starts[at] - START_US) // US
            windows.setdefault((window.device_id, channel), []).append(first)
            values = right[first : first + 600, int(channel[1:])]
            assert (window.counts[at], window.minima[at], window.maxima[at]) == (600, values.min(), values.max())
            assert window.means[at] == pytest.approx(values.mean(), rel=1e-12)
    assert windows == {
        (device, f"c{channel}"): [600 * number for number in range((count * ROWS - 1) // 600)]
        for device, count in sent.items()
        for channel in range(CHANNELS)
    }


def test_a_storm_of_joins_leaves_kills_and_a_freeze_and_then_a_killed_broker_are_exact(
    wire: Wire, start: Start, own_broker: OwnBroker, book: Book
) -> None:
    seed = 5
    dice = random.Random(seed)
    wire.configure(*(always_good(make_device(f"d{i}", CHANNELS)) for i in range(DEVICES)))
    workers = Workers(start, wire)
    workers.join().await_ready()
    frozen: Service | None = None
    faults = ["leave"] * 14 + ["kill"] * 4 + ["freeze", "wake"]
    dice.shuffle(faults)
    sent = {f"d{i}": 0 for i in range(DEVICES)}
    with steadily(lambda: send_a_frame_each(wire, sent), every_s=DEVICES / FRAMES_PER_S):
        for fault in faults:
            joined = workers.join()
            # It joins while the others are still at the last rebalance; one that is stuck is not waited for.
            until = time.monotonic() + 1
            while "worker.assigned" not in joined.log.read_text() and time.monotonic() < until:
                time.sleep(0.05)
            if fault == "wake" and frozen is not None:
                frozen.wake()
                continue
            victim = workers.living.pop(dice.randrange(len(workers.living) - 1))
            if fault == "kill":
                victim.kill()
            elif fault == "leave":
                victim.ask_to_end()
            elif frozen is None:
                frozen = victim
                frozen.freeze()
        await_progress(wire, workers)
        if frozen is not None:
            frozen.wake()  # if it was not: long past its session
        own_broker.kill()
        own_broker.start()
        await_progress(wire, workers)
    wire.flush()
    await_true(lambda: workers.tend() and settled(wire), what="settled", within_s=120)
    assert_exact(wire, sent)
    book.tell(
        "rebalance storm",
        f"20 workers join a second apart, 14 leave, 4 are killed, one is frozen past its session and woken; then the "
        f"broker is killed; to readings.clean only, windows exact too; {workers.ended} workers ended and were replaced",
        accepted=sum(sent.values()) * ROWS * CHANNELS,
        seed=seed,
    )


def await_progress(wire: Wire, workers: Workers) -> None:
    before = len(wire.clean())
    await_true(lambda: workers.tend() and len(wire.clean()) > before + 20, what="work goes on", within_s=120)


def frame(number: int) -> Consumed:
    """Of d0, five rows each; at an offset in partition 0."""
    return consumed(number, make_frame("d0", number, first=5 * number, rows=5), at_s=10 + number)


@pytest.fixture
def owners(wire: Wire) -> Iterator[tuple[Ownership, Ownership]]:
    """Two of one partition; the first has it, and has applied a frame of five rows."""
    failures: list[BaseException] = []
    table = DeviceTable(wire.kafka, AdminClient(connection(wire.kafka)), wire.codec, failed=failures.append)
    told = Told(wire.kafka, failed=failures.append)
    wire.configure(make_device("d0"))
    table.start()
    told.start()
    former, later = (Ownership(0, 6, kafka=wire.kafka, codec=wire.codec, devices=table, told=told) for _ in range(2))
    former.open(transaction_timeout_s=20)
    wire.put(0, *(frame(number) for number in range(3)))
    apply(former, [frame(0)])
    yield former, later
    told.stop()
    table.stop()
    assert failures == []


def test_of_two_with_one_id_the_later_fences_the_former(wire: Wire, owners: tuple[Ownership, Ownership]) -> None:
    former, later = owners
    later.open(transaction_timeout_s=20)
    with pytest.raises(KafkaException, match=r"FENCED|fenced"):
        apply(former, [frame(1)])
    apply(later, [frame(1)])
    assert [len(frame.times) for frame in wire.clean()] == [5, 5]
    former.open(transaction_timeout_s=20)  # as its supervisor starts it again
    with pytest.raises(KafkaException, match=r"FENCED|fenced"):
        apply(later, [frame(2)])


def test_who_is_fenced_between_two_records_says_so(wire: Wire) -> None:
    former, _ = (Transactions(wire.kafka, wire.codec, 0, timeout_s=20) for _ in range(2))

    def records() -> Iterator[tuple[str, bytes, bytes]]:
        while True:
            yield STREAMS_STATE, b"d0", b""
            time.sleep(0.02)  # the broker is asked meanwhile

    with pytest.raises(KafkaException, match=r"FENCED|fenced"):
        former.end(records(), commit=True)


def test_offsets_that_stay_pending_do_not_keep_a_partition_closed(
    wire: Wire, owners: tuple[Ownership, Ownership]
) -> None:
    """As after a broker that was killed while it ended a transaction: here somebody else's stays open."""
    _, later = owners
    hanging = Producer({**connection(wire.kafka), "transactional.id": "hanging", "transaction.timeout.ms": 60_000})
    hanging.init_transactions(20)
    hanging.begin_transaction()
    member = Consumer(reader(wire.kafka, group=STREAMS_GROUP))
    hanging.send_offsets_to_transaction([TopicPartition(READINGS_RAW, 0, 7)], member.consumer_group_metadata(), 20)
    later.open(transaction_timeout_s=20)
    apply(later, [frame(1)])
    assert [len(frame.times) for frame in wire.clean()] == [5, 5]
    hanging.abort_transaction(20)
    [found] = committed(member, [TopicPartition(READINGS_RAW, 0)])
    assert found.offset == 2
    member.close()
