"""What the stage remembers of one device, and how it is stored. Pure: no clock, no client.

State is replaced, never changed: a step that throws has changed nothing.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from schemas.frames import DeviceState
from streams.alarms import memory
from streams.alarms.lifecycle import Phase
from streams.alarms.memory import AlarmStates, Entry, Judging, Speaker, Tally
from streams.alarms.readings import restarted as judged_again
from streams.holes import Hole, Holes
from streams.quality.context import NO_LAYOUT, Context, ContextColumns, from_columns, nothing, to_columns
from streams.recent import Recent, RecentColumns
from streams.recent import from_columns as recent_of
from streams.recent import to_columns as recent_columns
from streams.sequences import Received
from streams.windows import DOUBLES, LONGS, Open, empty

NEVER = memory.NEVER
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
    recent: Recent = field(default_factory=Recent)  # rows in windows that may change
    holes: Holes = ()
    quality: Context | None = None  # None: no row yet
    alarms: AlarmStates = field(default_factory=AlarmStates)


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
        recent=Recent(),
        holes=(),
        quality=None,
        alarms=judged_again(state.alarms, state.watermark_us),
    )


def to_record(state: State) -> DeviceState:
    """As it is stored in `streams.state`: windows without a reading are left out."""
    runs = [(spool, first, last) for spool, ranges in state.received.spools.items() for first, last in ranges]
    spools, firsts, lasts = zip(*runs, strict=True) if runs else ((), (), ())
    seen_in = [(windows, windows.seen() > 0) for windows in state.open if len(windows.starts)]
    cells = [(windows, None if seen.all() else seen) for windows, seen in seen_in]  # None: all

    def flat(name: str, kind: type) -> Any:
        parts = [getattr(w, name).reshape(-1) if seen is None else getattr(w, name)[seen] for w, seen in cells]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, kind)

    channels: list[str] = []
    starts, lengths = [_NO_LONGS], [_NO_LONGS]
    for windows, seen in cells:
        if seen is None:
            channels += windows.channels * len(windows.starts)
            starts.append(np.repeat(windows.starts, len(windows.channels)))
        else:
            rows, columns = np.nonzero(seen)
            channels += [windows.channels[at] for at in columns.tolist()]
            starts.append(windows.starts[rows])
        lengths.append(np.full(len(starts[-1]), windows.length_s, np.int64))
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
        told=flat("told", np.int64),
        **_hole_columns(state.holes),
        **_recent_columns(state.recent),
        **_alarm_columns(state.alarms),
        **_quality_columns(state.quality),
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
        recent=recent_of(RecentColumns(**{name: getattr(record, name) for name in _RECENT})),
        holes=tuple(
            Hole(spool, *numbers)
            for spool, *numbers in zip(
                record.hole_spools,
                record.hole_firsts.tolist(),
                record.hole_lasts.tolist(),
                record.hole_lows.tolist(),
                record.hole_highs.tolist(),
                record.hole_touched.tolist(),
                strict=True,
            )
        ),
        quality=from_columns(ContextColumns(**{name: getattr(record, name) for name in _QUALITY})),
        alarms=_alarms(record),
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
    for name in (*LONGS[:-1], *DOUBLES):
        getattr(out, name)[rows, columns] = getattr(record, f"window_{name}")[of]
    if len(record.told):  # a record of version 1 has none
        out.told[rows, columns] = record.told[of]
    return out


_RECENT = RecentColumns.__slots__


def _recent_columns(recent: Recent) -> dict[str, Any]:
    columns = recent_columns(recent) if recent.times else _NO_RECENT
    return {name: getattr(columns, name) for name in _RECENT}


_NO_RECENT = recent_columns(Recent())


def _hole_columns(holes: Holes) -> dict[str, Any]:
    if not holes:
        return _NO_HOLES

    def longs(name: str) -> Any:
        return np.array([getattr(hole, name) for hole in holes], np.int64)

    return {
        "hole_spools": tuple(hole.spool_id for hole in holes),
        "hole_firsts": longs("first"),
        "hole_lasts": longs("last"),
        "hole_lows": longs("low_us"),
        "hole_highs": longs("high_us"),
        "hole_touched": longs("touched_us"),
    }


_QUALITY = ContextColumns.__slots__


def _quality_columns(context: Context | None) -> dict[str, Any]:
    columns = _NO_QUALITY if context is None else to_columns(context)
    return {name: getattr(columns, name) for name in _QUALITY}


_NO_QUALITY = to_columns(nothing(NO_LAYOUT))


def _speaker_columns(states: AlarmStates) -> dict[str, Any]:
    """The last one is in fields of its own; the others are rare."""
    spool, last = states.speaker
    several = states.speakers if len(states.speakers) > 1 else {}  # one alone has not come back
    return {
        "lost_spool": spool,
        "lost_readings": last.lost_readings,
        "beat_spools": tuple(several),
        "beat_lost": np.array([each.lost_readings for each in several.values()], np.int64),
        "beat_back": np.array([each.back_us for each in several.values()], np.int64),
    }


def _speakers(record: DeviceState) -> dict[str, Speaker]:
    if not record.beat_spools:
        return {record.lost_spool: Speaker(record.lost_readings)} if record.lost_spool else {}
    numbers = zip(record.beat_lost.tolist(), record.beat_back.tolist(), strict=True)
    return {spool: Speaker(*both) for spool, both in zip(record.beat_spools, numbers, strict=True)}


def _alarm_columns(states: AlarmStates) -> dict[str, Any]:
    """Entries of both judgings, live ones first."""
    numbers = {
        "reread_until": states.reread_until_us,
        "frames_missing": states.frames_missing,
        "frames_given_up": states.frames_given_up,
        **_speaker_columns(states),
        "tally_from": states.tally.from_us,
        "tally_readings": states.tally.readings,
        "tally_rejected": states.tally.rejected,
    }
    both = (states.live, states.reread)
    if not (states.sensors_heard or any(part.entries or part.channels for part in both)):
        return _NO_ALARMS | numbers
    entries = [(entry, again) for again, part in enumerate(both) for _, entry in sorted(part.entries.items())]
    channels = sum(len(part.channels) for part in both)

    def longs(name: str) -> Any:
        return np.array([getattr(entry, name) for entry, _ in entries], np.int64) if entries else _NO_LONGS

    def words(name: str) -> tuple[str, ...]:
        return tuple(getattr(entry, name) for entry, _ in entries)

    return {
        "alarm_rules": words("rule"),
        "alarm_sources": words("source"),
        "alarm_states": words("phase"),
        "alarm_ids": words("alarm_id"),
        "alarm_onsets": longs("onset_us"),
        "alarm_below": words("below"),
        "alarm_conditions": longs("condition"),
        "alarm_since": longs("since_us"),
        "alarm_values": np.array([entry.value for entry, _ in entries], np.float64) if entries else _NO_DOUBLES,
        "alarm_steps": longs("step"),
        "alarm_until": longs("until_us"),
        "alarm_raises": longs("raises"),
        "alarm_raises_since": longs("raises_since_us"),
        "alarm_reread": np.array([again for _, again in entries], np.int64) if entries else _NO_LONGS,
        "judged_channels": states.live.channels + states.reread.channels,
        "judged_times": np.concatenate([part.times for part in both]) if channels else _NO_LONGS,
        "judged_values": np.concatenate([part.values for part in both]) if channels else _NO_DOUBLES,
        "judged_reread": np.repeat([0, 1], [len(part.channels) for part in both]) if channels else _NO_LONGS,
        "sensor_channels": tuple(states.sensors_heard),
        "sensor_heard": np.array(list(states.sensors_heard.values()), np.int64) if states.sensors_heard else _NO_LONGS,
        **numbers,
    }


_NO_LONGS, _NO_DOUBLES = np.empty(0, np.int64), np.empty(0, np.float64)
_NO_HOLES: dict[str, Any] = {
    "hole_spools": (),
    **{f"hole_{name}": _NO_LONGS for name in ("firsts", "lasts", "lows", "highs", "touched")},
}
_NO_ALARMS: dict[str, Any] = {
    **{f"alarm_{name}": () for name in ("rules", "sources", "states", "ids", "below")},
    **{
        f"alarm_{name}": _NO_LONGS
        for name in ("onsets", "conditions", "since", "steps", "until", "raises", "raises_since", "reread")
    },
    "alarm_values": _NO_DOUBLES,
    "judged_channels": (),
    "judged_times": _NO_LONGS,
    "judged_values": _NO_DOUBLES,
    "judged_reread": _NO_LONGS,
    "sensor_channels": (),
    "sensor_heard": _NO_LONGS,
}


def _alarms(record: DeviceState) -> AlarmStates:
    live, reread = (_judging(record, again) for again in (0, 1))
    return AlarmStates(
        live=live,
        reread=reread,
        reread_until_us=record.reread_until,
        sensors_heard=dict(zip(record.sensor_channels, record.sensor_heard.tolist(), strict=True)),
        frames_missing=record.frames_missing,
        frames_given_up=record.frames_given_up,
        speakers=_speakers(record),
        tally=Tally(record.tally_from, record.tally_readings, record.tally_rejected),
    )


def _judging(record: DeviceState, again: int) -> Judging:
    entries = [
        Entry(rule, source, Phase(phase), Phase(below), bool(condition), since, name, onset, value, *rest)
        for rule, source, phase, below, condition, since, name, onset, value, *rest, of in zip(
            record.alarm_rules,
            record.alarm_sources,
            record.alarm_states,
            record.alarm_below,
            record.alarm_conditions.tolist(),
            record.alarm_since.tolist(),
            record.alarm_ids,
            record.alarm_onsets.tolist(),
            record.alarm_values.tolist(),
            record.alarm_steps.tolist(),
            record.alarm_until.tolist(),
            record.alarm_raises.tolist(),
            record.alarm_raises_since.tolist(),
            record.alarm_reread.tolist(),
            strict=True,
        )
        if of == again
    ]
    which = record.judged_reread == again
    channels = tuple(name for name, is_one in zip(record.judged_channels, which.tolist(), strict=True) if is_one)
    return Judging(
        {entry.key: entry for entry in entries}, channels, record.judged_times[which], record.judged_values[which]
    )
