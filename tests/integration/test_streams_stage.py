"""The stage over the real wire: what only a broker and a whole worker can show."""

from datetime import UTC, datetime

import numpy as np
import pytest
from fix_services import Service, Start, await_true
from fix_stage import Wire, calibrated, logged, make_device, make_frame, readings_of

from infra.settle import behind
from schemas.records import Heartbeat
from schemas.topics import HEARTBEATS, READINGS_RAW, STREAMS_GROUP

pytestmark = pytest.mark.integration

SOURCES = (READINGS_RAW, HEARTBEATS)


@pytest.fixture
def device_partitions() -> int:
    return 3


def settled(wire: Wire) -> bool:
    return not behind(wire.kafka, STREAMS_GROUP, SOURCES)


def test_readings_come_out_calibrated_once_and_windowed(wire: Wire, start: Start) -> None:
    wire.configure(*(make_device(f"d{i}") for i in range(5)))
    for sequence in range(10):
        wire.send(*(make_frame(f"d{i}", sequence, first=sequence * 100, rows=100) for i in range(5)))
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: settled(wire), what="stage settled")

    found = readings_of(wire.clean())
    assert len(found) == len({reading[:3] for reading in found}) == 5 * 1000 * 3
    raw = logged(np.arange(1000), 3)
    for _, channel, time, value in found[:500]:
        row = (time - 1_700_000_400_000_000) // 1_000_000
        assert value == calibrated(raw[row, int(channel[1])])
    windows = wire.windows()
    starts = {(w.device_id, c, s) for w in windows for c, s in zip(w.channels, w.starts.tolist(), strict=True)}
    assert len(starts) == 5 * 3  # 1,000 s hold one whole window; the second is still open
    first = windows[0]
    expected = [calibrated(v) for v in raw[:600, int(first.channels[0][1])]]
    assert first.counts[0] == first.expected[0] == 600
    assert first.means[0] == pytest.approx(np.mean(expected), rel=1e-12)
    assert first.sds[0] == pytest.approx(np.std(expected, ddof=1), rel=1e-9)


def test_device_configured_just_before_its_first_frame_is_known(wire: Wire, start: Start) -> None:
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    for number in range(20):
        wire.configure(make_device(f"new{number}"))
        wire.send(make_frame(f"new{number}", 0, first=0, rows=1))
    await_true(lambda: settled(wire), what="stage settled")
    assert wire.rejected() == []
    assert wire.clean_readings() == 20 * 3


def test_what_cannot_be_taken_is_rejected_with_its_reason_and_the_rest_goes_on(wire: Wire, start: Start) -> None:
    wire.configure(make_device("d0"))
    good = make_frame("d0", 0, first=0, rows=10)
    strange = make_frame("d0", 1, first=10, rows=10, channels=4)
    future = make_frame("d0", 2, first=10**9, rows=10)
    wire.send(good, strange, future, make_frame("who", 0, first=0, rows=2))
    wire.send(b"\x00\x00\x00\x00\x01rubbish", b"not a frame", key="d0")
    wire.send(good, key="d1")
    wire.send(good, make_frame("d0", 3, first=20, rows=10))
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: settled(wire), what="stage settled")

    reasons = sorted(rejected.reason for rejected in wire.rejected())
    assert reasons[-1] == "wrong_key"
    assert set(reasons) >= {"unknown_channel", "unknown_device", "time_in_future", "unreadable_wrong_magic"}
    assert len(reasons) == 6
    assert wire.clean_readings() == (10 + 10 + 10) * 3
    whole = next(rejected for rejected in wire.rejected() if rejected.reason == "unknown_device")
    assert whole.payload == wire.codec.encode(make_frame("who", 0, first=0, rows=2))


def test_a_frame_sent_again_is_recognised(wire: Wire, start: Start) -> None:
    wire.configure(make_device("d0"))
    worker = start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    frames = [make_frame("d0", sequence, first=sequence * 5, rows=5) for sequence in range(10)]
    wire.send(*frames)
    await_true(lambda: settled(wire), what="stage settled")
    assert worker.stop() == 0
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    wire.send(*frames[3:], make_frame("d0", 10, first=50, rows=5))
    await_true(lambda: settled(wire), what="stage settled")
    assert wire.clean_readings() == 11 * 5 * 3


def test_silence_is_raised_for_heard_and_never_heard_devices_and_cleared(wire: Wire, start: Start) -> None:
    wire.configure(
        make_device("spoke", silence_limit_s=2), make_device("never", silence_limit_s=2), make_device("unlimited")
    )
    wire.send(make_frame("spoke", 0, first=0, rows=1))
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: len(wire.alarms()) == 2, what="two alarms")
    raised = wire.alarms()
    assert {event.data.device_id for event in raised} == {"spoke", "never"}
    assert {event.data.state for event in raised} == {"raised"}

    wire.send(make_frame("spoke", 1, first=1, rows=1))
    now = datetime.now(UTC)
    facts = dict.fromkeys(("next_sequence", "depth", "depth_bytes", "accepted", "sent", "dropped", "refused"), 0)
    wire.beat(
        Heartbeat(device_id="never", spool_id="x", time=now, started=now, version="1", free_disk_bytes=1, **facts)
    )
    await_true(lambda: len(wire.alarms()) == 4, what="both cleared")
    by_device = {}
    for event in wire.alarms():
        by_device.setdefault(event.data.device_id, []).append((event.data.state.value, event.data.alarm_id))
    for states in by_device.values():
        assert [state for state, _ in states[:2]] == ["raised", "cleared"]
        assert states[0][1] == states[1][1]


def test_operators_reset_replays_with_a_new_generation_and_pages_nobody(wire: Wire, start: Start) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient

    wire.configure(make_device("d0"), make_device("d1"))
    for i in range(2):
        wire.send(*(make_frame(f"d{i}", sequence, first=sequence * 100, rows=100) for sequence in range(20)))
    worker = start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: settled(wire), what="stage settled")
    first = readings_of(wire.clean())
    first_windows = window_rows(wire)
    assert worker.stop() == 0

    admin = AdminClient({"bootstrap.servers": wire.kafka})
    to_beginning = [TopicPartition(READINGS_RAW, number, 0) for number in range(3)]
    for future in admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(STREAMS_GROUP, to_beginning)]
    ).values():
        future.result()
    start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready()
    await_true(lambda: settled(wire), what="replay settled")

    again = wire.clean()
    assert {frame.generation for frame in again} == {0, 1}
    assert sorted(readings_of([f for f in again if f.generation == 1])) == sorted(first)
    assert sorted(window_rows(wire, generation=1)) == sorted(first_windows)
    assert wire.alarms() == []


def window_rows(wire: Wire, generation: int = 0) -> list[tuple[object, ...]]:
    return [
        (w.device_id, *row)
        for w in wire.windows()
        if w.generation == generation
        for row in zip(w.channels, w.starts.tolist(), w.counts.tolist(), w.means.tolist(), w.sds.tolist(), strict=True)
    ]


def has_a_share(worker: Service) -> bool:
    """As the last assignment in its log says."""
    shares = [line for line in worker.log.read_text().splitlines() if "worker.assigned" in line]
    return not shares[-1].endswith("partitions=[]")


@pytest.mark.parametrize("device_partitions", [1])
def test_a_worker_more_than_partitions_stands_by_and_takes_over(wire: Wire, start: Start) -> None:
    wire.configure(make_device("d0"))
    workers = [start("streams", "run", TELLTALE_KAFKA=wire.kafka).await_ready() for _ in range(2)]
    wire.send(make_frame("d0", 0, first=0, rows=10))
    await_true(lambda: settled(wire), what="stage settled")
    idle, working = sorted(workers, key=has_a_share)
    assert not has_a_share(idle)
    working.stop()
    wire.send(make_frame("d0", 1, first=10, rows=10))
    await_true(lambda: wire.clean_readings() == 20 * 3, what="the other goes on")
