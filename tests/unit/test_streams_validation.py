"""Each reason why a part of a frame is not taken; nothing is lost on the way."""

import time

import numpy as np
import pytest
from core_examples import APPENDED_US, START_US, US, advanced, in_log, instant, make_frame, make_plan, make_sensor

from schemas.frames import RawFrame
from schemas.rejection import Rejection
from streams.pipeline import Outcome
from streams.plan import CLOCKS_SET_US, Plan
from streams.state import State
from streams.validation import Arrival

PLAN = make_plan(make_sensor("a"), make_sensor("b"), future_limit_s=300, exists_from=instant(START_US))


def admitted(frame: RawFrame, plan: Plan = PLAN, *, appended_us: int = APPENDED_US) -> Outcome:
    return advanced(State("mast-7"), [in_log([frame], appended_us=appended_us)], plan)[1]


def taken(outcome: Outcome) -> list[list[float]]:
    return [row for frame in outcome.clean for row in frame.logged.tolist()]


def refused(outcome: Outcome) -> list[tuple[Rejection, list[list[float]]]]:
    return [(part.reason, part.arrival.frame.values.tolist()) for part in outcome.refused]


def test_a_sound_frame_is_taken_whole() -> None:
    outcome = admitted(make_frame([0, 1], [[1, 2], [3, 4]], channels=("a", "b")))
    assert (taken(outcome), refused(outcome)) == ([[1, 2], [3, 4]], [])


def test_an_unknown_channel_is_cut_off() -> None:
    outcome = admitted(make_frame([0, 1], [[1, 2, 3], [4, 5, 6]], channels=("x", "a", "y")))
    assert taken(outcome) == [[2], [5]]
    assert outcome.clean[0].channels == ("a",)
    assert refused(outcome) == [(Rejection.UNKNOWN_CHANNEL, [[1, 3], [4, 6]])]
    assert outcome.refused[0].arrival.frame.channels == ("x", "y")
    assert outcome.refused[0].detail == "not configured for mast-7: x, y"


def test_a_frame_of_unknown_channels_is_refused_whole() -> None:
    outcome = admitted(make_frame([0], [[1.0]], channels=("x",)))
    assert (taken(outcome), refused(outcome)) == ([], [(Rejection.UNKNOWN_CHANNEL, [[1.0]])])


def test_a_channel_that_stands_twice_is_refused_for_nobody_knows_which_is_meant() -> None:
    outcome = admitted(make_frame([0], [[1, 2, 3]], channels=("a", "b", "a")))
    assert (taken(outcome), refused(outcome)) == ([], [(Rejection.REPEATED_CHANNEL, [[1, 2, 3]])])
    assert outcome.refused[0].detail == "channels stand twice: a"


@pytest.mark.parametrize(("ahead_us", "good"), [(0, True), (300 * US, True), (300 * US + 1, False)])
def test_a_time_may_be_ahead_of_the_broker_by_the_limit(ahead_us: int, good: bool) -> None:
    frame = make_frame([0, (60 * US + ahead_us) / US], [1.0, 2.0])
    outcome = admitted(frame, appended_us=START_US + 60 * US)
    assert taken(outcome) == ([[1.0], [2.0]] if good else [[1.0]])
    assert refused(outcome) == ([] if good else [(Rejection.TIME_IN_FUTURE, [[2.0]])])


@pytest.mark.parametrize(("before_us", "good"), [(0, True), (1, False)])
def test_a_time_may_not_be_before_the_device(before_us: int, good: bool) -> None:
    outcome = admitted(make_frame([-before_us / US, 1], [1.0, 2.0]))
    assert taken(outcome) == ([[1.0], [2.0]] if good else [[2.0]])
    assert refused(outcome) == ([] if good else [(Rejection.TIME_BEFORE_DEVICE, [[1.0]])])


@pytest.mark.parametrize("time_us", [CLOCKS_SET_US - 1, 0, -1, np.iinfo(np.int64).min, -62_135_596_800_000_000])
def test_without_a_date_a_time_of_1970_is_that_of_a_clock_that_was_never_set(time_us: int) -> None:
    frame = make_frame([0, 1], [1.0, 2.0])
    frame.times[0] = time_us
    outcome = admitted(frame, make_plan())
    assert refused(outcome) == [(Rejection.TIME_BEFORE_DEVICE, [[1.0]])]
    assert taken(outcome) == [[2.0]]


def test_the_largest_time_is_in_the_future() -> None:
    frame = make_frame([0, 1], [1.0, 2.0])
    frame.times[1] = np.iinfo(np.int64).max
    assert refused(admitted(frame)) == [(Rejection.TIME_IN_FUTURE, [[2.0]])]


def test_of_rows_with_one_time_the_last_is_taken() -> None:
    outcome = admitted(make_frame([1, 0, 1, 1], [1.0, 2.0, 3.0, 4.0]))
    assert taken(outcome) == [[2.0], [4.0]]
    assert refused(outcome) == [(Rejection.REPEATED_TIME, [[1.0], [3.0]])]


def test_rows_need_not_be_in_order_of_time() -> None:
    outcome = admitted(make_frame([2, 0, 1], [1.0, 2.0, 3.0]))
    assert (taken(outcome), refused(outcome)) == ([[1.0], [2.0], [3.0]], [])


def test_one_frame_may_be_refused_for_every_reason() -> None:
    frame = make_frame([0, -5, 0, 1e9], np.arange(8.0), channels=("a", "x"))
    outcome = admitted(frame)
    assert taken(outcome) == [[4.0]]
    assert [reason for reason, _ in refused(outcome)] == [
        Rejection.UNKNOWN_CHANNEL,
        Rejection.TIME_IN_FUTURE,
        Rejection.TIME_BEFORE_DEVICE,
        Rejection.REPEATED_TIME,
    ]


def test_status_words_go_with_their_rows() -> None:
    frame = make_frame([0, -5, 1], [1.0, 2.0, 3.0])
    frame.status = np.array([7, 8, 9])
    part = admitted(frame).refused[0].arrival.frame
    assert part.status is not None
    assert part.status.tolist() == [8]


def test_a_refused_part_keeps_the_identity_and_the_place_of_its_frame() -> None:
    arrival = Arrival(make_frame([-5], sequence=41, spool="sd"), 1234, APPENDED_US)
    _, outcome = advanced(State("mast-7"), [[arrival]], PLAN)
    part = outcome.refused[0].arrival
    assert (part.frame.spool_id, part.frame.sequence, part.offset, part.appended_us) == ("sd", 41, 1234, APPENDED_US)


@pytest.mark.parametrize("channels", [("a",), (), ("x",), ("a", "a")])
def test_a_frame_without_rows_is_received_and_says_nothing(channels: tuple[str, ...]) -> None:
    log = in_log([make_frame([], channels=channels), make_frame([0], channels=channels, sequence=1)])
    state, outcome = advanced(State("mast-7"), [log[:1]], PLAN)
    assert (outcome.clean, outcome.refused) == ([], [])
    assert state.received.spools == {"spool": ((0, 0),)}
    together = advanced(State("mast-7"), [log], PLAN)[1]
    assert len(together.refused) == len(advanced(state, [log[1:]], PLAN)[1].refused)


@pytest.mark.parametrize("limit_s", [1e300, 1.7e308])
def test_limits_beyond_all_numbers_mean_never(limit_s: float) -> None:
    plan = make_plan(make_sensor(), lateness_s=limit_s, future_limit_s=limit_s, silence_limit_s=limit_s)
    outcome = admitted(make_frame([0, 6000], [1.0, 2.0]), plan)
    assert (taken(outcome), outcome.windows, outcome.late) == ([[1.0], [2.0]], [], 0)


@pytest.mark.parametrize("names", [("x", "y"), ("a", "x")])
def test_a_hostile_number_of_channels_costs_little_and_is_told_briefly(names: tuple[str, str]) -> None:
    channels = tuple(f"{name}{n % 20_000}" for name in names for n in range(25_000))
    began = time.process_time()
    outcome = admitted(make_frame([0], channels=channels))
    assert time.process_time() - began < 2
    assert len(outcome.refused[0].detail) < 1_000
    assert sum(part.arrival.frame.values.size for part in outcome.refused) == 50_000
