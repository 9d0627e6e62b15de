"""States of many devices, made ready to be stored field by field: `to_record` for all of them at once. Pure.

Devices whose states have the same shape (channels, windows under way, nothing unusual about their alarms) are put side
by side; what has another shape is left to `to_record`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.columnar import Column, Longs, Ragged
from schemas.frames import DeviceState
from streams.alarms.memory import AlarmStates
from streams.quality.context import NEVER, Context
from streams.recent import Recent
from streams.state import State, to_record
from streams.windows import DOUBLES, LONGS, Open

Shape = tuple[object, ...]

FEW = 4  # of one shape below which one by one is as fast


def side_by_side(states: Sequence[State]) -> tuple[list[tuple[list[int], dict[str, Column]]], list[int]]:
    """Which of the states are stored together, with the columns of their records; and which are left."""
    shapes: dict[Shape, list[int]] = {}
    left: list[int] = []
    for at, state in enumerate(states):
        shape = _shape(state)
        if shape is None:
            left.append(at)
        else:
            shapes.setdefault(shape, []).append(at)
    found = []
    for some in shapes.values():
        if len(some) >= FEW:
            whole = _whole([states[at] for at in some])
            left += [at for at, is_whole in zip(some, whole, strict=True) if not is_whole]
            some = [at for at, is_whole in zip(some, whole, strict=True) if is_whole]  # noqa: PLW2901
        if len(some) < FEW:
            left += some
        else:
            found.append((some, _columns([states[at] for at in some])))
    return found, sorted(left)


def _shape(state: State) -> Shape | None:
    """What states must have in common to be put side by side; None: something is unusual."""
    alarms, quality, spools = state.alarms, state.quality, state.received.spools
    if state.holes or alarms.live.entries or alarms.sensors_heard or alarms.reread.entries or alarms.reread.channels:
        return None
    if len(alarms.speakers) > 1:
        return None
    if len(spools) != 1 or len(next(iter(spools.values()))) != 1 or len(state.recent.times) > 1:
        return None
    heard = quality is not None and len(quality.times) > 0 and int(quality.times[0]) != NEVER
    return (
        tuple([(group.length_s, len(group.starts), group.channels) for group in state.open]),
        (quality.layout.channels, quality.layout.tracks) if heard and quality is not None else None,
        alarms.live.channels,
        next(iter(state.recent.times), None),
    )


def _whole(states: list[State]) -> list[bool]:
    """Which of them have a row of each channel or of none, records of each track, and a reading in each window."""
    whole = np.ones(len(states), bool)
    qualities = [state.quality for state in states if state.quality is not None and len(state.quality.times)]
    if len(qualities) == len(states):
        heard = np.array([quality.times for quality in qualities]) != NEVER
        whole &= heard.all(axis=1) | ~heard.any(axis=1)
        whole &= (np.array([quality.records.depth for quality in qualities]) > 0).all(axis=1) | ~heard.any(axis=1)
    for number, group in enumerate(states[0].open):
        if len(group.starts):
            seen = np.array([state.open[number].seen() for state in states])
            whole &= (seen > 0).all(axis=(1, 2))
    found: list[bool] = whole.tolist()
    return found


def _columns(states: list[State]) -> dict[str, Column]:
    """Of states of one shape."""
    first = states[0]
    ranges = [next(iter(state.received.spools.items())) for state in states]
    columns: dict[str, Column] = {
        **_SAME,
        "device_id": [state.device_id for state in states],
        "generation": _longs(state.generation for state in states),
        "readings_position": _longs(state.readings_position for state in states),
        "heartbeats_position": _longs(state.heartbeats_position for state in states),
        "actions_position": _longs(state.actions_position for state in states),
        "heard": _longs(state.heard_us for state in states),
        "watermark": _longs(state.watermark_us for state in states),
        "partial_until": _longs(state.partial_until_us for state in states),
        "spool_ids": [(spool,) for spool, _ in ranges],
        "spool_firsts": _grid([spans[0][:1] for _, spans in ranges]),
        "spool_lasts": _grid([spans[0][1:] for _, spans in ranges]),
        **_alarms([state.alarms for state in states]),
    }
    if any(len(group.starts) for group in first.open):
        columns |= _windows([state.open for state in states])
    qualities = [state.quality for state in states if state.quality is not None]
    if len(qualities) == len(states) and len(first.quality.times) and first.quality.times[0] != NEVER:  # type: ignore[union-attr]
        columns |= _quality(qualities)
    if first.recent.times:
        columns |= _recent([state.recent for state in states])
    return columns


def _longs(numbers: Any) -> Longs:
    return np.fromiter(numbers, np.int64)


def _grid(rows: Any) -> Ragged:
    """(d, k) as arrays of k items each."""
    grid = np.array(rows)
    return Ragged(grid.reshape(-1), [grid[0].size] * len(grid))


def _windows(opened: list[tuple[Open, ...]]) -> dict[str, Column]:
    groups = opened[0]
    names = [name for group in groups for name in group.channels * len(group.starts)]
    lengths = np.repeat([g.length_s for g in groups], [len(g.starts) * len(g.channels) for g in groups])
    columns: dict[str, Column] = {"window_channels": tuple(names), "window_lengths_s": _grid([lengths] * len(opened))}
    longs = [np.array([some[at].longs for some in opened]) for at in range(len(groups))]
    doubles = [np.array([some[at].doubles for some in opened]) for at in range(len(groups))]
    for names_of, numbers in ((LONGS, longs), (DOUBLES, doubles)):
        for place, name in enumerate(names_of):
            columns[f"window_{name}" if name != "told" else name] = _grid(_joined([each[:, place] for each in numbers]))
    starts = [
        np.repeat(np.array([some[at].starts for some in opened]), len(group.channels), axis=1)
        for at, group in enumerate(groups)
    ]
    columns["window_starts"] = _grid(_joined(starts))
    return columns


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """(d, ...) arrays as one (d, k)."""
    flat = [part.reshape(len(part), -1) for part in parts]
    return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)


def _quality(contexts: list[Context]) -> dict[str, Column]:
    layout = contexts[0].layout
    columns: dict[str, Column] = {"row_channels": layout.channels}
    for name in ("times", "values", "logged", "previous", "flags", "tests", "first"):
        grid = np.array([getattr(context, name) for context in contexts])
        columns[f"row_{name}"] = _grid(grid.astype(np.int64) if name in ("flags", "first") else grid)
    if layout.tracks:
        deep = max(len(context.records.values) for context in contexts)
        shape = (len(contexts), deep, len(layout.tracks))
        values, ages = np.full(shape, np.nan), np.zeros(shape, np.int64)
        for at, context in enumerate(contexts):
            values[at, : len(context.records.values)] = context.records.values
            ages[at, : len(context.records.ages)] = context.records.ages
        values, ages = values.transpose(0, 2, 1), ages.transpose(0, 2, 1)  # track by track
        kept = ~np.isnan(values)
        sizes = kept.sum(axis=(1, 2)).tolist()
        columns |= {
            "track_channels": tuple(channel for channel, _ in layout.tracks),
            "track_kinds": _grid([[kind for _, kind in layout.tracks]] * len(contexts)),
            "track_depths": _grid([context.records.depth for context in contexts]),
            "track_records": _grid(kept.sum(axis=2)),
            "record_ages": Ragged(ages[kept], sizes),
            "record_values": Ragged(values[kept], sizes),
        }
    return columns


def _recent(all_recent: list[Recent]) -> dict[str, Column]:
    """Times as a first one and runs of equal steps."""
    channels = next(iter(all_recent[0].times))
    lists = [recent.times[channels] for recent in all_recent]
    count = len(lists)
    sizes = np.array([len(times) for times in lists])
    times = np.concatenate(lists)
    lasts = np.cumsum(sizes) - 1
    steps = np.diff(times, append=0)  # the last of each list is none
    is_step = np.ones(len(times), bool)
    is_step[lasts] = False
    begins = is_step.copy()
    begins[1:] &= (steps[1:] != steps[:-1]) | ~is_step[:-1]
    at = np.flatnonzero(begins)
    of = np.repeat(np.arange(count), sizes)[at]
    runs = np.bincount(of, minlength=count)
    # A run ends where the next begins, or with its list.
    ends = np.append(at[1:], len(times))
    ends = np.minimum(ends, lasts[of])
    return {
        "recent_channels": channels,
        "recent_sizes": _grid([[len(channels)]] * count),
        "recent_firsts": _grid(times[lasts - sizes + 1][:, None]),
        "recent_runs": _grid(runs[:, None]),
        "run_steps": Ragged(steps[at], runs.tolist()),
        "run_lengths": Ragged(ends - at, runs.tolist()),
    }


def _alarms(states: list[AlarmStates]) -> dict[str, Column]:
    channels = states[0].live.channels
    columns: dict[str, Column] = {
        "reread_until": _longs(each.reread_until_us for each in states),
        "frames_missing": _longs(each.frames_missing for each in states),
        "frames_given_up": _longs(each.frames_given_up for each in states),
        "lost_spool": [each.speaker[0] for each in states],
        "lost_readings": _longs(each.speaker[1].lost_readings for each in states),
        "tally_from": _longs(each.tally.from_us for each in states),
        "tally_readings": _longs(each.tally.readings for each in states),
        "tally_rejected": _longs(each.tally.rejected for each in states),
    }
    if channels:
        columns |= {
            "judged_channels": channels,
            "judged_times": _grid([each.live.times for each in states]),
            "judged_values": _grid([each.live.values for each in states]),
            "judged_reread": _grid([[0] * len(channels)] * len(states)),
        }
    return columns


_EMPTY = to_record(State(""))
_SAME: dict[str, Column] = {name: getattr(_EMPTY, name) for name in DeviceState.__slots__}
"""Of a device of which nothing is known."""
