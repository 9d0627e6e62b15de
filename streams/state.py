"""What the stage remembers of one device, and how it is stored. Pure: no clock, no client.

State is replaced, never changed: a step that throws has changed nothing.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from schemas.alarms import AlarmState
from schemas.frames import DeviceState
from streams.alarms import Active, Rule
from streams.sequences import Received
from streams.windows import Open, empty

NEVER = np.iinfo(np.int64).min
NOT_YET = -1


@dataclass(frozen=True, slots=True)
class State:
    """One device's memory. Positions are the last offsets applied, per source topic; times in µs UTC."""

    device_id: str
    generation: int = 0
    readings_position: int = NOT_YET
    heartbeats_position: int = NOT_YET
    actions_position: int = NOT_YET
    heard_us: int = 0
    watermark_us: int = NEVER
    partial_until_us: int = NEVER
    received: Received = field(default_factory=Received)
    open: tuple[Open, ...] = ()
    alarms: tuple[Active, ...] = ()


def restarted(state: State, generation: int) -> State:
    """For a new generation: what data has made begins anew; alarms and when the device was heard stay."""
    return replace(
        state,
        generation=generation,
        readings_position=NOT_YET,
        watermark_us=NEVER,
        partial_until_us=NEVER,
        received=Received(),
        open=(),
    )


def to_record(state: State) -> DeviceState:
    """As it is stored in `streams.state`: windows without a reading are left out."""
    runs = [(spool, first, last) for spool, ranges in state.received.spools.items() for first, last in ranges]
    spools, firsts, lasts = zip(*runs, strict=True) if runs else ((), (), ())
    cells = [(windows, windows.seen() > 0) for windows in state.open if len(windows.starts)]

    def flat(name: str, kind: type) -> Any:
        parts = [getattr(windows, name)[seen] for windows, seen in cells]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, kind)

    channels: list[str] = []
    starts, lengths = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for windows, seen in cells:
        rows, columns = np.nonzero(seen)
        whole = seen.all()
        channels += windows.channels * len(seen) if whole else [windows.channels[at] for at in columns.tolist()]
        starts.append(windows.starts[rows])
        lengths.append(np.full(len(rows), windows.length_s, np.int64))
    return DeviceState(
        device_id=state.device_id,
        generation=state.generation,
        readings_position=state.readings_position,
        heartbeats_position=state.heartbeats_position,
        actions_position=state.actions_position,
        heard=state.heard_us,
        watermark=state.watermark_us,
        partial_until=state.partial_until_us,
        spool_ids=spools,
        spool_firsts=np.array(firsts, np.int64),
        spool_lasts=np.array(lasts, np.int64),
        window_channels=tuple(channels),
        window_starts=np.concatenate(starts),
        window_lengths_s=np.concatenate(lengths),
        window_counts=flat("counts", np.int64),
        window_suspect=flat("suspect", np.int64),
        window_failed=flat("failed", np.int64),
        window_missing=flat("missing", np.int64),
        window_means=flat("means", np.float64),
        window_m2s=flat("m2s", np.float64),
        window_minima=flat("minima", np.float64),
        window_maxima=flat("maxima", np.float64),
        alarm_rules=tuple(alarm.rule for alarm in state.alarms),
        alarm_sources=tuple(alarm.source for alarm in state.alarms),
        alarm_states=tuple(alarm.state for alarm in state.alarms),
        alarm_ids=tuple(alarm.alarm_id for alarm in state.alarms),
        alarm_onsets=np.array([alarm.onset_us for alarm in state.alarms], np.int64),
    )


def from_record(record: DeviceState) -> State:
    """As the core works with it."""
    spools: dict[str, tuple[tuple[int, int], ...]] = {}
    for spool, first, last in zip(
        record.spool_ids, record.spool_firsts.tolist(), record.spool_lasts.tolist(), strict=True
    ):
        spools[spool] = (*spools.get(spool, ()), (first, last))
    lengths = sorted(set(record.window_lengths_s.tolist()))
    return State(
        device_id=record.device_id,
        generation=record.generation,
        readings_position=record.readings_position,
        heartbeats_position=record.heartbeats_position,
        actions_position=record.actions_position,
        heard_us=record.heard,
        watermark_us=record.watermark,
        partial_until_us=record.partial_until,
        received=Received(spools),
        open=tuple(_windows(record, length) for length in lengths),
        alarms=tuple(
            Active(Rule(rule), source, AlarmState(state), name, onset)
            for rule, source, state, name, onset in zip(
                record.alarm_rules,
                record.alarm_sources,
                record.alarm_states,
                record.alarm_ids,
                record.alarm_onsets.tolist(),
                strict=True,
            )
        ),
    )


def _windows(record: DeviceState, length_s: int) -> Open:
    """The open windows of one length."""
    of = np.flatnonzero(record.window_lengths_s == length_s)
    names = [record.window_channels[at] for at in of.tolist()]
    channels = tuple(dict.fromkeys(names))
    column = {name: at for at, name in enumerate(channels)}
    starts, rows = np.unique(record.window_starts[of], return_inverse=True)
    columns = np.array([column[name] for name in names], np.intp)
    out = empty(length_s, channels, starts)
    for name in Open.__slots__[3:]:
        getattr(out, name)[rows, columns] = getattr(record, f"window_{name}")[of]
    return out
