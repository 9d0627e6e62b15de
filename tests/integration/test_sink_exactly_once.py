"""The sink against a real broker and database: each committed reading is one row, whatever dies."""

import signal

import pytest
from fix_sink import DEVICES, clean_frame, reset_group, settled, until

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


def test_reset_by_an_operator_is_replayed_and_recorded_once(clean, cluster, stored, start_sink):
    produce(clean, rounds=5)
    sink = start_sink().working()
    settled(stored, clean)
    sink.send(signal.SIGTERM)
    sink.wait()
    part, stood_at = stored.rows("SELECT part, next_offset FROM sink_offsets WHERE topic = %s", READINGS_CLEAN)[0]
    with_rows = stored.rows("SELECT part FROM sink_offsets WHERE topic = %s AND next_offset > 0", READINGS_CLEAN)
    part = with_rows[0][0]
    stood_at = stored.one("SELECT next_offset FROM sink_offsets WHERE topic = %s AND part = %s", READINGS_CLEAN, part)
    reset_group(cluster, part=part, offset=0)
    for _ in range(2):
        sink = start_sink().working()
        until(
            lambda: (
                stored.one("SELECT next_offset FROM sink_offsets WHERE topic = %s AND part = %s", READINGS_CLEAN, part)
                == stood_at
            ),
            what="the replay has caught up",
        )
        sink.send(signal.SIGTERM)
        assert sink.wait() == 0
    replays = stored.rows("SELECT part, generation, stood_at, moved_to, reason FROM replays")
    assert replays == [(part, 1, stood_at, 0, "operator")]
    assert stored.readings() == clean.expected


def test_later_record_of_a_reading_replaces_the_former(clean, stored, start_sink):
    start_sink().working()
    clean.send(clean_frame("mast-0", 0, 600))
    settled(stored, clean)
    clean.send(clean_frame("mast-0", 100, 600, correction=0.5), clean_frame("mast-0", 300, 50, correction=0.25))
    until(lambda: stored.readings() == clean.expected, what="the corrections")
