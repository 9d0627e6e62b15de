"""The live state: pure, with a clock of the test's own."""

import numpy as np
import pytest
from fix_stage import make_device

from dashboard.live.fleet import BEAT_US_MAX, SHARE_SLOT_US, SPARK, US, Fleet, State
from dashboard.live.monitor import judged
from schemas.frames import CleanFrame
from schemas.records import Heartbeat

NOW = 1_800_000_000 * US


def frame(
    values: list[list[float]], *, at: int = NOW, flags: list[list[int]] | None = None, device: str = "m"
) -> CleanFrame:
    """Rows of one second, the last at `at`."""
    rows, columns = len(values), len(values[0])
    quality = np.array(flags or [[1] * columns] * rows)
    times = at - US * np.arange(rows - 1, -1, -1)
    grid = np.array(values, float)
    return CleanFrame(device, 0, times, tuple(f"c{n}" for n in range(columns)), grid, grid, quality, quality * 0)


def fleet(**facts: float) -> Fleet:
    made = Fleet()
    made.configure(make_device("m", 2, **facts))
    return made


def states(there: Fleet, now: int) -> list[State]:
    there.look(now)
    return [State(each) for each in there.column("state")]


def test_what_was_never_heard_waits() -> None:
    assert states(fleet(silence_limit_s=60.0), NOW) == [State.WAITING] * 2


@pytest.mark.parametrize(
    ("age_s", "state"),
    [(0, State.ONLINE), (30, State.ONLINE), (30.1, State.LATE), (60, State.LATE), (60.1, State.SILENT)],
)
def test_half_of_the_limit_is_late_and_all_of_it_silent(age_s: float, state: State) -> None:
    there = fleet(silence_limit_s=60.0)
    there.take(frame([[1.0, 2.0]]), came_us=NOW)
    assert states(there, NOW + round(age_s * US)) == [state, state]
    assert State(there.device_state[0]) is state


def test_without_a_limit_it_is_ten_minutes_or_three_intervals() -> None:
    fast, slow = fleet(interval_s=1.0), fleet(interval_s=3600.0)
    for there in (fast, slow):
        there.take(frame([[1.0, 2.0]]), came_us=NOW)
    later = NOW + 3601 * US
    assert states(fast, later) == [State.SILENT] * 2
    assert states(slow, later) == [State.ONLINE] * 2


def test_a_sensor_that_only_says_missing_is_silent_while_its_device_is_not() -> None:
    there = fleet(silence_limit_s=60.0)
    there.take(frame([[1.0, 2.0]]), came_us=NOW)
    there.take(frame([[1.0, np.nan]], at=NOW + 90 * US, flags=[[1, 9]]), came_us=NOW + 90 * US)
    assert states(there, NOW + 90 * US) == [State.ONLINE, State.SILENT]
    assert there.column("flag").tolist() == [1, 9]


def test_a_heartbeat_keeps_the_device_and_not_the_sensor() -> None:
    there = fleet(silence_limit_s=60.0)
    there.take(frame([[1.0, 2.0]]), came_us=NOW)
    there.beat(beat(), came_us=NOW + 90 * US)
    assert states(there, NOW + 90 * US) == [State.SILENT] * 2
    assert State(there.device_state[0]) is State.ONLINE


def beat() -> Heartbeat:
    stamp = "2026-01-01T00:00:00Z"
    facts = dict.fromkeys(
        ("next_sequence", "depth", "depth_bytes", "accepted", "sent", "dropped", "refused", "free_disk_bytes"), 0
    )
    return Heartbeat.model_validate(
        {"device_id": "m", "spool_id": "s", "time": stamp, "started": stamp, "version": "1", **facts}
    )


def test_older_readings_do_not_replace_newer_ones() -> None:
    there = fleet()
    there.take(frame([[5.0, 6.0]], at=NOW), came_us=NOW)
    there.take(frame([[1.0, 2.0]], at=NOW - 3600 * US), came_us=NOW + US)
    assert there.column("value").tolist() == [5.0, 6.0]


def test_a_spark_is_the_newest_readings_in_order() -> None:
    there = fleet()
    there.take(frame([[float(n), 0.0] for n in range(50)]), came_us=NOW)
    there.take(frame([[float(n), 0.0] for n in range(50, 100)], at=NOW + 50 * US), came_us=NOW)
    assert there.spark(0).tolist() == [float(n) for n in range(100 - SPARK, 100)]


def test_the_share_of_good_readings_forgets_after_an_hour() -> None:
    there = fleet()
    there.take(frame([[1.0, 1.0]] * 4, flags=[[1, 4], [1, 4], [2, 1], [3, 1]]), came_us=NOW)
    there.look(NOW)
    assert there.column("share").tolist() == [0.75, 0.5]
    there.look(NOW + 7 * SHARE_SLOT_US)
    assert np.isnan(there.column("share")).all()


def test_how_devices_stand_is_told_of_many_at_once() -> None:
    there = fleet(silence_limit_s=60.0)
    there.configure(make_device("n", 3))
    there.take(frame([[1.0, 2.0]], device="n"), came_us=NOW)
    there.look(NOW)
    n, unknown, m = there.standing(["n", "unknown", "m"])
    assert n == {"state": State.ONLINE, "heard": NOW, "beat": 0, "online": 2, "sensors": 3}
    assert unknown == dict.fromkeys(n, 0)
    assert m == dict.fromkeys(n, 0) | {"sensors": 2}
    assert there.devices == ["m", "n"], "asking makes none"


def test_a_channel_that_is_configured_no_more_is_not_watched_until_it_is_again() -> None:
    there = fleet()
    there.configure(make_device("n", 2))
    there.configure(make_device("m", 1))
    assert there.column("active").tolist() == [True, False, True, True]
    there.configure(make_device("m", 2))
    assert there.column("active").all()


def test_only_what_changed_is_told() -> None:
    there = fleet(silence_limit_s=60.0)
    there.take(frame([[1.0, 2.0]]), came_us=NOW)
    there.look(NOW)
    assert there.changes().tolist() == [0, 1]
    there.look(NOW + US)
    assert there.changes().tolist() == []
    there.look(NOW + 40 * US)
    assert there.changes().tolist() == [0, 1], "their state has changed"


def test_sensors_without_a_heartbeat_are_counted_where_their_device_ever_sent_one() -> None:
    there = fleet()
    there.configure(make_device("quiet", 3))
    there.beat(beat(), came_us=NOW)
    there.look(NOW)
    assert there.tally(NOW)["beating"] == 2
    assert there.tally(NOW + BEAT_US_MAX)["without_beat"] == 0
    assert there.tally(NOW + BEAT_US_MAX + 1)["without_beat"] == 2


def test_what_is_no_longer_configured_is_not_counted() -> None:
    there = fleet()
    there.take(frame([[1.0, 2.0]]), came_us=NOW)
    there.configure(make_device("m", 1))
    there.look(NOW)
    assert sum(there.tally(NOW)["sensors"]) == 1
    there.remove("m")
    assert sum(there.tally(NOW)["sensors"]) == 0


def test_thousands_of_sensors_find_room() -> None:
    there = Fleet()
    for number in range(300):
        there.configure(make_device(f"d{number}", 10))
    there.take(frame([[float(n) for n in range(10)]], device="d299"), came_us=NOW)
    assert len(there) == 3000
    assert there.column("value")[2990:].tolist() == [float(n) for n in range(10)]
    assert np.isnan(there.column("value")[:2990]).all()


@pytest.mark.parametrize(
    ("now", "before", "state"),
    [
        ({}, None, "working"),
        ({("t", 0): (5, 9)}, None, "behind"),
        ({("t", 0): (5, 9)}, {("t", 0): (3, 9)}, "behind"),
        ({("t", 0): (5, 9)}, {("t", 0): (5, 7)}, "standing"),
        ({("t", 0): (7, 9)}, {("t", 0): (5, 7)}, "working"),
        ({("t", 0): (7, 9)}, {}, "working"),
        ({("t", 0): (7, 9), ("t", 1): (2, 9)}, {("t", 1): (1, 3)}, "behind"),
        ({}, {("t", 0): (5, 9)}, "working"),
    ],
)
def test_a_stage_that_does_not_move_although_records_wait_stands_still(
    now: dict[tuple[str, int], tuple[int, int]], before: dict[tuple[str, int], tuple[int, int]] | None, state: str
) -> None:
    assert judged(now, before).state == state
