"""Which frames have been received."""

from itertools import chain, repeat

import pytest
from core_examples import advanced, in_log, make_frame, make_plan, one_by_one

from schemas.codec import Codec
from schemas.frames import DeviceState
from streams.sequences import HOLES_MAX, RANGES_MAX, SPOOLS_MAX, Received
from streams.state import State, from_record, to_record


def added(*frames: tuple[str, int]) -> tuple[Received, list[bool]]:
    return Received().add(frames)


def test_a_frame_sent_again_is_recognised() -> None:
    assert added(("s", 0), ("s", 1), ("s", 0), ("s", 1), ("s", 2))[1] == [True, True, False, False, True]


def test_frames_in_order_are_one_range() -> None:
    assert added(*zip(repeat("s"), range(1000), strict=False))[0].spools == {"s": ((0, 999),)}


def test_live_and_backlog_interleaved_close_into_one_range() -> None:
    live, backlog = range(100, 200), range(100)
    received, fresh = added(*(("s", n) for n in chain.from_iterable(zip(live, backlog, strict=True))))
    assert all(fresh)
    assert received.spools == {"s": ((0, 199),)}


def test_a_dropped_frame_is_a_hole_until_it_comes() -> None:
    received, _ = added(("s", 0), ("s", 1), ("s", 3))
    assert received.holes() == 1
    received, fresh = received.add([("s", 2)])
    assert (received.holes(), fresh, received.spools) == (0, [True], {"s": ((0, 3),)})


def test_another_spool_is_not_taken_for_old_data() -> None:
    assert added(("old", 0), ("new", 0), ("old", 0))[1] == [True, True, False]


def test_ranges_are_bounded_and_the_lowest_is_forgotten() -> None:
    received, _ = added(*(("s", 2 * n) for n in range(RANGES_MAX + 1)))
    assert len(received.spools["s"]) == RANGES_MAX
    assert received.add([("s", 2), ("s", 0)])[1] == [False, True]
    assert [received.may_hold("s", n) for n in (0, 1, 2, 3)] == [True, True, True, False]  # 0 and 1: who knows


def test_what_may_have_been_received_is_told() -> None:
    received, _ = added(("s", 0), ("s", 1), ("s", 3))
    assert [received.may_hold("s", n) for n in range(5)] == [True, True, False, True, False]
    assert not received.may_hold("other", 0)


def test_the_spool_unused_for_longest_is_forgotten() -> None:
    received, _ = added(*((f"s{n}", 0) for n in range(SPOOLS_MAX)))
    received, fresh = received.add([("s0", 1), ("new", 0), ("s0", 0), ("s1", 0)])
    assert fresh == [True, True, False, True]
    assert len(received.spools) == SPOOLS_MAX


def test_adding_changes_nothing_in_what_was() -> None:
    before, _ = added(("s", 0))
    before.add([("s", 1), ("t", 0)])
    assert before == Received({"s": ((0, 0),)})


@pytest.mark.parametrize("together", [False, True])
def test_a_repeated_frame_is_counted_and_brings_about_nothing(*, together: bool) -> None:
    log = in_log([make_frame([0]), make_frame([0]), make_frame([0], spool="other"), make_frame([1], sequence=1)])
    _, outcome = advanced(State("mast-7"), [log] if together else one_by_one(log), make_plan())
    assert outcome.repeated == 1
    assert sum(len(frame.times) for frame in outcome.clean) == 3


def test_sequences_as_far_apart_as_they_can_be_leave_a_state_that_can_be_read_again() -> None:
    """One that cannot keeps the whole partition from being taken over."""
    ends = [0, HOLES_MAX, 0, HOLES_MAX]
    log = in_log([make_frame([60 * at], sequence=n, spool=f"s{at // 2}") for at, n in enumerate(ends)])
    state, _ = advanced(State("mast-7"), one_by_one(log), make_plan())
    assert state.received.holes() == state.alarms.frames_missing == HOLES_MAX
    codec = Codec()
    again = from_record(codec.decode_frame(DeviceState, codec.encode(to_record(state))))
    assert (again.received, again.alarms.frames_missing) == (state.received, HOLES_MAX)
