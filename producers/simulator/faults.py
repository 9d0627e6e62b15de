"""The named faults: what each does to readings and how long. Pure: arrays and random numbers in, arrays out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.errors import Refused

CHANCE = 0.01  # of a fault to begin at a row, where none is said


class Fault(StrEnum):
    """In the order in which they are applied."""

    STUCK = "stuck"  # a sensor repeats its value
    SPIKE = "spike"  # one value far off
    DRIFT = "drift"  # a sensor departs slowly
    NONSENSE = "nonsense"  # a value that no sensor has
    JITTER = "jitter"  # times up to 0.4 intervals off
    CLOCK_JUMP = "clock_jump"  # times an hour off, for some rows
    GAP = "gap"  # rows that are never sent
    SILENCE = "silence"  # nothing at all from the device, heartbeats neither
    DUPLICATE = "duplicate"  # a row sent twice
    OUT_OF_ORDER = "out_of_order"  # a row sent after later ones
    FLOOD = "flood"  # a hundred rows in the time of one
    WRONG_DEVICE = "wrong_device"  # a frame under this device's key that names another one
    BAD_BYTES = "bad_bytes"  # a record that is no frame


ROWS: Mapping[Fault, int] = {
    Fault.STUCK: 30,
    Fault.DRIFT: 60,
    Fault.JITTER: 20,
    Fault.CLOCK_JUMP: 10,
    Fault.GAP: 10,
    Fault.SILENCE: 90,
}
"""How many rows a fault lasts; one where nothing is said."""

FLOOD_ROWS = 100
HOUR_US = 3_600_000_000
NONSENSE_VALUES = (1e30, -9999.0, -1e-300, 6999.0)


@dataclass(frozen=True, slots=True)
class Spell:
    """A fault that goes on: how many rows still, of which channel, and from what value or by what time."""

    rows: int
    channel: int
    value: float = 0.0
    done: int = 0


def parse_faults(text: str) -> dict[Fault, float]:
    """`spike,gap:0.02` as {fault: chance per row and device}. Raises `Refused`."""
    chances: dict[Fault, float] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, colon, chance = word.partition(":")
        try:
            fault = Fault(name.replace("-", "_"))
        except ValueError:
            raise Refused(f"no fault is called {name!r}; there are {', '.join(Fault)}") from None
        try:
            chances[fault] = float(chance) if colon else CHANCE
        except ValueError:
            raise Refused(f"fault {name}: its chance must be a number from 0 to 1, got {chance!r}") from None
        if not 0 <= chances[fault] <= 1:
            raise Refused(f"fault {name}: its chance must be from 0 to 1, got {chance}")
    return {fault: chances[fault] for fault in Fault if fault in chances}


def change_values(fault: Fault, values: Doubles, at: slice, spell: Spell, chance: np.random.Generator) -> None:
    """In place, on the rows `at` of one channel."""
    column = values[at, spell.channel]
    if fault is Fault.STUCK:
        column[:] = spell.value
    elif fault is Fault.SPIKE:
        column += chance.choice((-1.0, 1.0)) * 50.0
    elif fault is Fault.DRIFT:
        column += 0.2 * (spell.done + np.arange(len(column)))
    elif fault is Fault.NONSENSE:
        column[:] = chance.choice(NONSENSE_VALUES)


def change_times(
    fault: Fault, times: Longs, at: slice, *, spell: Spell, step_us: int, chance: np.random.Generator
) -> None:
    """In place. An hour is a microsecond longer, so that rows do not meet; those of a flood may, and then are one."""
    count = len(times[at])
    if fault is Fault.JITTER:
        times[at] += chance.integers(-(step_us * 2 // 5), step_us * 2 // 5 + 1, count)
    elif fault is Fault.CLOCK_JUMP:
        times[at] += int(spell.value) * (HOUR_US + 1)
