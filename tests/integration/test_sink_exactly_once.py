"""The sink against a real broker and database: each committed reading is one row, whatever dies."""

import signal
import time

import pytest
from confluent_kafka import KafkaException
from fix_sink import DEVICES, clean_frame, reset_group, settled, until

from infra.offsets import listed
from schemas.topics import READINGS_CLEAN

pytestmark = pytest.mark.integration


@pytest.fixture
def device_partitions():
    return 4


def produce(clean, *, rounds, rows=20, first=0):
    for round_ in range(first, first + rounds):
        frames = [clean_frame(device, round_ * rows, rows) for device in DEVICES]
        clean.send(*frames)
        if round_ % 5 == 0:
            clean.send(*(clean_frame(device, 10_000_000 + round_, 3) for device in DEVICES), aborted=True)


def test_committed_readings_are_rows_and_aborted_ones_are_not(clean, stored, start_sink):
    produce(clean, rounds=10)
    sink = start_sink().working()
    settled(stored, clean)
    sink.send(signal.SIGTERM)
    assert sink.wait() == 0
    assert "Traceback" not in sink.said()


def test_two_sinks_share_and_take_over(clean, stored, start_sink):
    first = start_sink().working()
    produce(clean, rounds=5)
    second = start_sink().working()
    until(lambda: len(stored.rows("SELECT DISTINCT owner FROM sink_offsets")) == 2, what="both own partitions")
    produce(clean, rounds=5, first=5)
    settled(stored, clean)
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    produce(clean, rounds=5, first=10)
    settled(stored, clean)
    assert not second.ended


def offset_at(cluster, part, wanted):
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": cluster})  # lives until the answer is there
    return listed(admin, {TopicPartition(READINGS_CLEAN, part): wanted})[READINGS_CLEAN, part].offset


def test_resets_by_an_operator_are_honoured_and_recorded_once(clean, cluster, stored, start_sink):
    from confluent_kafka.admin import OffsetSpec

    def run_to_the_end():
        sink, end = start_sink().working(), offset_at(cluster, part, OffsetSpec.latest())
        until(lambda: stands(part) == end, what="the end of the log")
        sink.send(signal.SIGTERM)
        assert sink.wait() == 0
        return end

    def stands(part):
        return stored.one("SELECT next_offset FROM sink_offsets WHERE topic = %s AND part = %s", READINGS_CLEAN, part)

    def read_again():
        return {key for key, row in stored.readings().items() if row[1] != -1}

    produce(clean, rounds=3)
    time.sleep(0.002)  # so that a time in milliseconds parts the two
    between = set(clean.expected), time.time_ns() // 1_000_000
    produce(clean, rounds=2, first=3)
    part = next(n for n in range(4) if offset_at(cluster, n, OffsetSpec.latest()) > 0)
    end = run_to_the_end()
    assert stored.readings() == clean.expected
    moved = [0, offset_at(cluster, part, OffsetSpec.for_timestamp(between[1]))]
    found = []
    for to in moved:
        stored.rows("UPDATE readings SET value = -1 RETURNING 1")
        reset_group(cluster, part=part, offset=to)
        run_to_the_end()
        found.append(read_again())
    devices = {device for device, _, _ in found[0]}
    assert found[0] == {key for key in clean.expected if key[0] in devices} < set(clean.expected)
    assert found[1] == found[0] - between[0]
    clean.send(*(clean_frame(device, 900_000, 3) for device in DEVICES))
    moved.append(offset_at(cluster, part, OffsetSpec.latest()))
    reset_group(cluster, part=part, offset=moved[-1])
    run_to_the_end()
    start_sink().working()  # finds its own mark
    skipped = {key for key in clean.expected if key[0] in devices and key not in found[0]}
    until(lambda: set(stored.readings()) == set(clean.expected) - skipped, what="all but what the operator left out")
    replays = stored.rows("SELECT part, generation, stood_at, moved_to, reason FROM replays ORDER BY replay_id")
    assert replays == [(part, generation, end, to, "operator") for generation, to in enumerate(moved, 1)]


def test_topic_made_again_under_a_running_sink_is_read_from_its_beginning(clean, cluster, stored, start_sink):
    from confluent_kafka.admin import AdminClient, NewTopic

    produce(clean, rounds=3)
    sink = start_sink().working()
    settled(stored, clean)
    admin = AdminClient({"bootstrap.servers": cluster})
    admin.delete_topics([READINGS_CLEAN])[READINGS_CLEAN].result()

    def made():
        try:
            return admin.create_topics([NewTopic(READINGS_CLEAN, 4, 1)])[READINGS_CLEAN].result() is None
        except KafkaException:  # the controller is still deleting
            return False

    until(made, what="the new topic")
    produce(clean, rounds=6, first=3)  # at once longer than the old log was
    settled(stored, clean)
    assert {row[0] for row in stored.rows("SELECT reason FROM replays")} == {"topic_created_again"}
    assert not sink.ended


def test_later_record_of_a_reading_replaces_the_former(clean, stored, start_sink):
    start_sink().working()
    clean.send(clean_frame("mast-0", 0, 600))
    settled(stored, clean)
    clean.send(clean_frame("mast-0", 100, 600, correction=0.5), clean_frame("mast-0", 300, 50, correction=0.25))
    until(lambda: stored.readings() == clean.expected, what="the corrections")
