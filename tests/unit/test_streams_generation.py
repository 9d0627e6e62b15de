"""Replays: an operator resets an offset, the generation goes up, and everything is computed anew."""

import numpy as np
import pytest
from core_examples import START_US, US, advanced, in_log, make_device, make_frame, make_plan, one_by_one, windows_of

from schemas.codec import Codec
from schemas.frames import DeviceState
from streams.pipeline import Outcome, look
from streams.plan import plan_of
from streams.state import NEVER, NOT_YET, State, from_record, restarted, to_record
from streams.validation import Arrival

PLAN = make_plan()
CODEC = Codec()


def log_of(minutes: int = 30) -> list[Arrival]:
    """A frame a minute, a row each 10 s; offsets and sequences from 0."""
    return in_log([make_frame(60 * m + np.arange(0, 60, 10), sequence=m) for m in range(minutes)])


def starts(outcome: Outcome) -> list[int]:
    return [row[0] for row in windows_of(outcome)]


def test_a_restart_clears_what_data_made_and_keeps_the_rest() -> None:
    plan = plan_of(make_device(silence_limit_s=60))
    state, _ = advanced(State("mast-7", heartbeats_position=7, actions_position=8), [log_of()], plan)
    state, outcome = look(state, plan, expected_us=0, now_us=state.heard_us + 61 * US)
    assert outcome.alarms
    again = restarted(state, 1)
    assert (again.alarms.live, again.heard_us) == (state.alarms.live, state.heard_us)
    assert (again.heartbeats_position, again.actions_position) == (7, 8)
    assert (again.generation, again.readings_position, again.watermark_us) == (1, NOT_YET, NEVER)
    assert (again.open, again.received.spools) == ((), {})


def test_a_frame_at_or_below_the_position_is_skipped() -> None:
    log = log_of()
    state, _ = advanced(State("mast-7"), [log], PLAN)
    again, outcome = advanced(state, [log[:5], log[3:]], PLAN)
    assert outcome == Outcome()
    assert again == state


def test_after_a_replay_from_the_middle_the_partial_first_window_is_not_emitted() -> None:
    log = log_of()
    state, first = advanced(State("mast-7"), [log], PLAN)
    assert starts(first) == [0, 600]
    _, replayed = advanced(state, one_by_one(log[5:]), PLAN, generation=1)
    assert starts(replayed) == [600]
    assert {frame.generation for frame in replayed.clean + replayed.windows} == {1}


def test_after_a_replay_that_begins_with_a_window_it_is_emitted() -> None:
    log = log_of()
    state, _ = advanced(State("mast-7"), [log], PLAN)
    assert starts(advanced(state, [log[10:]], PLAN, generation=1)[1]) == [600]


def test_after_a_replay_from_the_first_frame_every_window_is_emitted() -> None:
    log = in_log([make_frame([30 + 60 * m], sequence=m) for m in range(30)])  # the first window never was whole
    state, first = advanced(State("mast-7"), [log], PLAN)
    _, replayed = advanced(state, [log], PLAN, generation=1)
    assert starts(replayed) == starts(first) == [0, 600]


def test_a_partial_window_stays_partial_over_a_restart_of_the_worker() -> None:
    log = log_of()
    state, _ = advanced(State("mast-7", generation=1), [log[5:7]], PLAN, generation=1)
    state = from_record(CODEC.decode_frame(DeviceState, CODEC.encode(to_record(state))))
    assert starts(advanced(state, [log[7:]], PLAN, generation=1)[1]) == [600]


def test_a_device_that_begins_after_a_replay_has_its_first_window() -> None:
    assert starts(advanced(State("new", generation=3), [log_of()], PLAN, generation=3)[1]) == [0, 600]


def test_a_replay_computes_with_todays_configuration() -> None:
    log = log_of()
    state, _ = advanced(State("mast-7"), [log], PLAN)
    hourly = plan_of(make_device(PLAN.device.sensors[0].model_copy(update={"windows_s": (300,)})))
    assert {row[1] for row in windows_of(advanced(state, [log], hourly, generation=1)[1])} == {300}


@pytest.mark.parametrize("batch", [1, 7, 30])
def test_replaying_twice_changes_nothing(batch: int) -> None:
    log = log_of()
    batches = [log[at : at + batch] for at in range(0, len(log), batch)]
    state, first = advanced(State("mast-7"), [log], PLAN)
    for generation in (1, 2):
        state, again = advanced(state, batches, PLAN, generation=generation)
        assert windows_of(again) == windows_of(first)
        logged = np.concatenate([frame.values for frame in again.clean])
        assert logged.tobytes() == np.concatenate([frame.values for frame in first.clean]).tobytes()
    assert state.watermark_us == START_US + (29 * 60 + 50) * US
