"""Simulated devices: the same every time, and the truth about every fault."""

from typing import cast

import numpy as np
import pytest

from producers.edge import Edge
from producers.simulator.devices import Outcome, SimulatedDevice
from producers.simulator.faults import Fault, parse_faults
from producers.simulator.playing import Player, Truth
from producers.spool import Rows
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


class Taker:
    """An edge that takes everything."""

    def __init__(self) -> None:
        self.times: list[int] = []

    def accept_rows(self, rows: list[Rows], *, waits: bool) -> None:
        self.times += [int(at) for each in rows for at in each.times]

    def hush(self, device_id: str, *, silent: bool) -> None: ...
    def publish(self, topic: str, key: str, value: bytes) -> None: ...


@pytest.mark.parametrize(
    ("faults", "repeated_min"),
    [("duplicate:0.1", 1_000), ("flood,clock_jump", 1), (",".join(Fault), 50)],
    ids=["duplicates alone", "a flood an hour early meets what was", "all"],
)
def test_a_time_that_was_sent_before_is_no_distinct_row(faults: str, repeated_min: int) -> None:
    taker = Taker()
    player = Player(cast(Edge, taker), [device(faults)], Truth(None))
    for _ in range(4 * 36):  # four hours
        player.step(100)
    (tally,) = player.tallies.values()
    assert tally.rows == len(taker.times)
    assert tally.distinct_rows == len(set(taker.times)) <= tally.rows - repeated_min


def test_a_late_row_comes_after_later_ones() -> None:
    times = np.array([at for at, _ in sent(played("out_of_order:0.05"))])
    assert (np.diff(times) < 0).any()
    assert len(set(times.tolist())) == len(times)


@pytest.mark.parametrize("text", ["spikes", "gap:much", "gap:2"])
def test_unknown_faults_and_chances_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_faults(text)
