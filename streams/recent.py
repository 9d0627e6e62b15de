"""Which rows are in windows that may still change, so that a row sent again in another frame counts once. Pure.

A row is known by its channel and time. Only rows that are not newer than all before them need to be looked up.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.columnar import Longs

Bools = npt.NDArray[np.bool_]

ROWS_MAX = 16_384
"""Times remembered per channel list: 4 hours of seconds, 128 kB. Beyond it the oldest are forgotten, and a row sent
again in their place counts twice. Stored as runs of equal steps, a regular series takes a few bytes."""

LISTS_MAX = 64
"""Channel lists with rows in open windows; beyond it the first is forgotten. A device has a few."""


@dataclass(frozen=True, slots=True)
class Recent:
    """Times of rows, ascending, µs UTC, per channel list."""

    times: dict[tuple[str, ...], Longs] = field(default_factory=dict)

    def repeated(self, channels: tuple[str, ...], times: Longs) -> Bools | None:
        """Which readings (n, c) are there already, or stand earlier among these rows; None: none is."""
        _, first = np.unique(times, return_index=True)
        again = np.ones(len(times), bool)
        again[first] = False
        found = np.repeat(again[:, None], len(channels), axis=1)
        for known, there in self.times.items():
            shared = [at for at, name in enumerate(channels) if name in known]
            if shared:
                found[:, shared] |= np.isin(times, there)[:, None]
        return found if found.any() else None

    def add(self, channels: tuple[str, ...], times: Longs, *, newest: bool) -> "Recent":
        """With rows of these channels; `newest`: each is newer than all before it."""
        before = self.times.get(channels)
        if before is None:
            now = times.copy() if newest else np.unique(times)  # a pile's array is not to be held by its rows
        else:
            now = np.concatenate((before, times)) if newest else np.union1d(before, times)
        known = {**self.times, channels: now}
        while len(known) > LISTS_MAX:
            del known[next(iter(known))]
        return Recent(known)

    def keep(self, wanted: "list[tuple[int, int]]") -> "Recent":
        """Only the newest of the times in any of the spans [from, to)."""
        kept = {}
        for channels, times in self.times.items():
            if len(wanted) == 1 and wanted[0][1] > times[-1]:
                inside = times[np.searchsorted(times, wanted[0][0]) :]
            else:
                which = np.zeros(len(times), bool)
                for begin, end in wanted:
                    which |= (times >= begin) & (times < end)
                inside = times[which]
            if len(inside):
                kept[channels] = inside[-ROWS_MAX:]
        return Recent(kept)


@dataclass(frozen=True, slots=True)
class RecentColumns:
    """As flat arrays, for storage: per channel list its times as a first one and runs of equal steps."""

    recent_channels: tuple[str, ...]  # of all lists, one behind the other
    recent_sizes: Longs  # channels of each list
    recent_firsts: Longs  # of each list
    recent_runs: Longs  # of each list
    run_steps: Longs  # µs
    run_lengths: Longs


def to_columns(recent: Recent) -> RecentColumns:
    """As it is stored."""
    none = np.empty(0, np.int64)
    steps, lengths, runs = [none], [none], []
    for times in recent.times.values():
        step = times[1:] - times[:-1]
        begins = np.flatnonzero(step[1:] != step[:-1]) + 1
        if not len(begins):  # a regular series, or a single row
            steps.append(step[:1])
            lengths.append(np.array([len(step)] if len(step) else [], np.int64))
            runs.append(min(len(step), 1))
            continue
        begins = np.concatenate(([0], begins))
        steps.append(step[begins])
        lengths.append(np.diff(begins, append=len(step)))
        runs.append(len(begins))
    lists = list(recent.times)
    return RecentColumns(
        lists[0] if len(lists) == 1 else tuple(name for names in lists for name in names),
        np.array([len(names) for names in lists], np.int64),
        np.array([times[0] for times in recent.times.values()], np.int64),
        np.array(runs, np.int64),
        np.concatenate(steps),
        np.concatenate(lengths),
    )


def from_columns(stored: RecentColumns) -> Recent:
    """As it is worked with."""
    times: dict[tuple[str, ...], Longs] = {}
    name = run = 0
    for size, first, runs in zip(
        stored.recent_sizes.tolist(), stored.recent_firsts.tolist(), stored.recent_runs.tolist(), strict=True
    ):
        part = slice(run, run + runs)
        steps = np.repeat(stored.run_steps[part], stored.run_lengths[part])
        times[stored.recent_channels[name : name + size]] = first + np.concatenate(([0], np.cumsum(steps)))
        name, run = name + size, run + runs
    return Recent(times)
