"""Simulated devices, row after row. Pure: the same seed, start and steps give the same readings and faults.

Values are a daily and an hourly wave with noise, other for each sensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from producers.simulator.faults import FLOOD_ROWS, HOUR_US, ROWS, Fault, Spell, change_times, change_values
from producers.spool import Rows
from schemas.columnar import Doubles, Longs

VALUE_FAULTS = frozenset({Fault.STUCK, Fault.SPIKE, Fault.DRIFT, Fault.NONSENSE})
TIME_FAULTS = frozenset({Fault.JITTER, Fault.CLOCK_JUMP})
SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Strange:
    """A record that goes to the topic as it is, beside the spool."""

    fault: Fault
    device_id: str  # its key
    rows: Rows | None  # None: `data` is no frame
    data: bytes = b""


@dataclass(slots=True)
class Outcome:
    """What one device does in one step."""

    rows: list[Rows] = field(default_factory=list)  # in the order of sending
    strange: list[Strange] = field(default_factory=list)
    silent: bool = False
    truth: list[dict[str, Any]] = field(default_factory=list)  # one record per fault


def channel_names(count: int) -> tuple[str, ...]:
    return tuple(f"s{number:02}" for number in range(1, count + 1))


class SimulatedDevice:
    """One device. `rate` is rows a second; a step is any number of rows."""

    def __init__(
        self,
        device_id: str,
        *,
        sensors: int,
        rate: float,
        faults: Mapping[Fault, float],
        seed: tuple[int, ...],
        start_us: int,
    ) -> None:
        self.device_id = device_id
        self.channels = channel_names(sensors)
        self._step_us = max(1, round(SECOND_US / rate))
        self._faults = dict(faults)
        self._chance = np.random.default_rng(seed)
        self._start_us = start_us
        self._phase = self._chance.random(sensors)
        self._level = self._chance.uniform(5, 20, sensors)
        self._spells: dict[Fault, Spell] = {}
        self._last = self._level.copy()
        self._late: list[Rows] = []
        self._done = 0

    @property
    def rows_within_reach(self) -> int:
        """How many of the rows last sent may have the time of one that is still to come; twice that, to be sure."""
        hours_us = 2 * HOUR_US if Fault.CLOCK_JUMP in self._faults else 0
        rows = hours_us // self._step_us + 10 * ROWS[Fault.SILENCE]
        return round(2 * rows * (1 + FLOOD_ROWS * self._faults.get(Fault.FLOOD, 0.0)))

    def step(self, count: int) -> Outcome:
        """The next `count` rows."""
        times, values = self._readings(count)
        out = Outcome()
        keep = np.ones(count, bool)
        begins = self._chance.random((len(self._faults), count))
        beyond: list[tuple[Fault, int]] = []
        for index, (fault, probability) in enumerate(self._faults.items()):
            for at, spell in self._spans(fault, np.flatnonzero(begins[index] < probability), count, values):
                if fault in VALUE_FAULTS:
                    was = values[at, spell.channel].copy()
                    change_values(fault, values, at, spell, self._chance)
                    self._tell(out, fault, times[at], spell.channel, was=was, sent=values[at, spell.channel])
                elif fault in TIME_FAULTS:
                    was_times = times[at].copy()
                    change_times(fault, times, at, spell=spell, step_us=self._step_us, chance=self._chance)
                    self._tell(out, fault, times[at], None, was=was_times)
                elif fault in (Fault.GAP, Fault.SILENCE):
                    keep[at] = False
                    out.silent |= fault is Fault.SILENCE
                    self._tell(out, fault, times[at], None)
                else:
                    beyond.append((fault, at.start))
        self._last = values[-1].copy()
        self._dispatch(out, times, values, keep, beyond)
        self._done += count
        return out

    def _readings(self, count: int) -> tuple[Longs, Doubles]:
        number = self._done + np.arange(count)
        times = self._start_us + number * self._step_us
        hours = (times / (3600 * SECOND_US))[:, None]
        waves = np.sin(2 * np.pi * (hours / 24 + self._phase)) + 0.3 * np.sin(2 * np.pi * (hours + self._phase))
        values = self._level * (1 + 0.2 * waves) + self._chance.normal(0, 0.1, (count, len(self.channels)))
        return times.astype(np.int64), np.round(values, 3)

    def _spans(self, fault: Fault, begins: Any, count: int, values: Doubles) -> list[tuple[slice, Spell]]:
        """Rows of this step under a fault: the rest of a spell from before, and those that begin here."""
        spans: list[tuple[slice, Spell]] = []
        free = 0
        if (spell := self._spells.pop(fault, None)) is not None:
            free = self._span(fault, 0, spell, count, spans)
        for start in begins.tolist():
            if start >= free:
                channel = int(self._chance.integers(len(self.channels)))
                value = float(self._chance.choice((-1, 1)))
                if fault is Fault.STUCK:
                    value = float(values[start - 1, channel] if start else self._last[channel])
                free = self._span(fault, start, Spell(ROWS.get(fault, 1), channel, value), count, spans)
        return spans

    def _span(self, fault: Fault, start: int, spell: Spell, count: int, spans: list[tuple[slice, Spell]]) -> int:
        stop = min(count, start + spell.rows)
        spans.append((slice(start, stop), spell))
        used = stop - start
        if used < spell.rows:
            self._spells[fault] = replace(spell, rows=spell.rows - used, done=spell.done + used)
        return stop

    def _dispatch(
        self, out: Outcome, times: Longs, values: Doubles, keep: Any, beyond: list[tuple[Fault, int]]
    ) -> None:
        """What is sent, and in which order."""
        late, self._late = self._late, []
        extra: list[Rows] = []
        for fault, at in beyond:
            if not keep[at]:
                continue
            row = Rows(self.device_id, times[at : at + 1], self.channels, values[at : at + 1])
            if fault is Fault.OUT_OF_ORDER:
                keep[at] = False
                self._late.append(row)
            elif fault is Fault.DUPLICATE:
                extra.append(row)
            elif fault is Fault.FLOOD:
                flood = times[at] + 1 + np.arange(FLOOD_ROWS) * max(1, self._step_us // (2 * FLOOD_ROWS))
                extra.append(Rows(self.device_id, flood, self.channels, np.repeat(row.values, FLOOD_ROWS, axis=0)))
            elif fault is Fault.WRONG_DEVICE:
                stranger = Rows(f"not-{self.device_id}", row.times, self.channels, row.values)
                out.strange.append(Strange(fault, self.device_id, stranger))
            else:
                data = self._chance.bytes(int(self._chance.integers(1, 200)))
                out.strange.append(Strange(fault, self.device_id, None, data))
            self._tell(out, fault, row.times, None)
        if keep.any():
            out.rows.append(Rows(self.device_id, times[keep], self.channels, values[keep]))
        out.rows += extra
        if keep.any() or not out.silent:
            out.rows += late
        else:
            self._late += late

    def _tell(self, out: Outcome, fault: Fault, times: Longs, channel: int | None, **what: Any) -> None:
        where = self.channels if channel is None else (self.channels[channel],)
        numbers = {name: value.tolist() for name, value in what.items()}
        record = {"fault": str(fault), "device": self.device_id, "channels": where, "times": times.tolist(), **numbers}
        out.truth.append(record)
