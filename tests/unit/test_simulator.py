"""Simulated devices: the same every time, and the truth about every fault."""

import numpy as np
import pytest

from producers.simulator.devices import Outcome, SimulatedDevice
from producers.simulator.faults import Fault, parse_faults
from schemas.errors import Refused

STEP_US = 1_000_000


def device(faults: str, *, seed: int = 1, sensors: int = 3) -> SimulatedDevice:
    return SimulatedDevice(
        "sim-1", sensors=sensors, rate=1, faults=parse_faults(faults), seed=(seed,), start_us=1_700_000_000_000_000
    )


def played(faults: str, rows: int = 400, *, step: int = 50, seed: int = 1) -> list[Outcome]:
    one = device(faults, seed=seed)
    return [one.step(step) for _ in range(rows // step)]


def sent(outcomes: list[Outcome]) -> list[tuple[int, tuple[float, ...]]]:
    """(time, values) of every row in the order of sending."""
    return [
        (int(at), tuple(row))
        for outcome in outcomes
        for rows in outcome.rows
        for at, row in zip(rows.times, rows.values.tolist(), strict=True)
    ]


def told(outcomes: list[Outcome], fault: str) -> list[dict]:  # type: ignore[type-arg]  # as in the truth
    return [record for outcome in outcomes for record in outcome.truth if record["fault"] == fault]


ALL = ",".join(f"{fault}:0.02" for fault in Fault)


def test_the_same_seed_gives_the_same_readings_and_faults() -> None:
    first, second, other = played(ALL), played(ALL), played(ALL, seed=2)
    assert sent(first) == sent(second) != sent(other)
    assert [o.truth for o in first] == [o.truth for o in second]


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_happens_and_is_told(fault: Fault) -> None:
    outcomes = played(f"{fault}:0.05")
    assert told(outcomes, fault)
    assert {record["fault"] for outcome in outcomes for record in outcome.truth} == {fault}


def test_without_faults_every_row_comes_once_in_order() -> None:
    times = [at for at, _ in sent(played(""))]
    assert times == list(range(times[0], times[0] + 400 * STEP_US, STEP_US))


@pytest.mark.parametrize("fault", ["spike", "nonsense", "drift", "stuck"])
def test_a_changed_value_is_told_with_what_it_was(fault: str) -> None:
    clean, outcomes = dict(sent(played(""))), played(f"{fault}:0.02")
    (channels,) = {tuple(outcome.rows[0].channels) for outcome in outcomes}
    faulty = dict(sent(outcomes))
    for record in told(outcomes, fault):
        at = channels.index(record["channels"][0])
        for time, value in zip(record["times"], record["sent"], strict=True):
            assert faulty[time][at] == value or len(told(outcomes, fault)) > 1
    assert faulty.keys() == clean.keys()


def test_rows_of_a_gap_are_missing_and_no_others() -> None:
    outcomes = played("gap:0.02")
    missing = {time for record in told(outcomes, "gap") for time in record["times"]}
    assert missing
    assert {at for at, _ in sent(outcomes)} == {at for at, _ in sent(played(""))} - missing


def test_a_spell_goes_on_in_the_next_step() -> None:
    outcomes = played("gap:1", rows=40, step=1)
    assert not sent(outcomes)
    assert len(told(outcomes, "gap")) == 40


def test_duplicates_are_counted_and_equal() -> None:
    outcomes = played("duplicate:0.1")
    rows = sent(outcomes)
    assert len(rows) - len(set(rows)) == sum(outcome.repeated for outcome in outcomes) > 0


def test_a_late_row_comes_after_later_ones() -> None:
    times = np.array([at for at, _ in sent(played("out_of_order:0.05"))])
    assert (np.diff(times) < 0).any()
    assert len(set(times.tolist())) == len(times)


@pytest.mark.parametrize("text", ["spikes", "gap:much", "gap:2"])
def test_unknown_faults_and_chances_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_faults(text)
