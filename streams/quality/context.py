"""What the tests remember of one device from frame to frame. Pure: small arrays, replaced and never changed.

Per channel its last row (which may still wait for the verdict of the spike test) and the value before; per track
(`tracks`) the records of the flat line test. Nothing grows with the length of a window unless the readings drift
slowly and never repeat, and then it is bounded by the window.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs
from streams.quality.flat_line import Records, no_records
from streams.quality.found import Bools, Index
from streams.quality.tracks import Key

NEVER = np.iinfo(np.int64).min
Bytes = npt.NDArray[np.uint8]

# Kept with the flag of a last row.
FLAG = 0x0F  # the flag itself
SETTLED = 0x40  # the row is not to be corrected
WAITS = 0x80  # a test is still to say something of the row: it is among the settled readings when the next row comes


@dataclass(frozen=True, slots=True)
class Layout:
    """Which channels and tracks a memory is about; by the device's configuration."""

    channels: tuple[str, ...]
    tracks: tuple[Key, ...]


NO_LAYOUT = Layout((), ())


@dataclass(frozen=True, slots=True)
class Context:
    """The memory. Arrays (c,) are parallel to the layout's channels, those of `records` to its tracks."""

    layout: Layout
    times: Longs  # of the last row, µs UTC; NEVER: no row yet
    values: Doubles  # of the last row, calibrated
    logged: Doubles
    previous: Doubles  # the value before the last row's
    flags: Bytes  # of the last row as it was sent, with SETTLED and WAITS
    tests: Longs
    first: Bools  # the last row is the first of the series
    records: Records
    waiting: bool = False  # some last row may have WAITS


@dataclass(frozen=True, slots=True)
class ContextColumns:
    """The memory as flat arrays, for storage. Arrays of one group (row, track, record) are parallel."""

    row_channels: tuple[str, ...]
    row_times: Longs
    row_values: Doubles
    row_logged: Doubles
    row_previous: Doubles
    row_flags: Longs
    row_tests: Longs
    row_first: Longs
    track_channels: tuple[str, ...]
    track_kinds: Longs
    track_depths: Longs
    track_records: Longs  # how many of the records are the track's
    record_ages: Longs
    record_values: Doubles


def nothing(layout: Layout) -> Context:
    """Before the first row."""
    c = len(layout.channels)
    unknown = np.full(c, np.nan)
    return Context(
        layout,
        np.full(c, NEVER),
        unknown,
        unknown,
        unknown,
        np.full(c, SETTLED, np.uint8),
        np.zeros(c, np.int64),
        np.zeros(c, bool),
        no_records(len(layout.tracks)),
    )


def fitted(context: Context, layout: Layout) -> Context:
    """The memory of a device whose configuration has changed: what is still asked for, by name; the rest is new."""
    if context.layout is layout or context.layout == layout:
        return context
    new = nothing(layout)
    at, of = _common(layout.channels, context.layout.channels)
    fields = {name: getattr(new, name).copy() for name in _PER_CHANNEL}
    for name, array in fields.items():
        array[at] = getattr(context, name)[of]
    at, of = _common(layout.tracks, context.layout.tracks)
    records = put(new.records, at, context.records.of(of))
    return Context(layout=layout, records=records, waiting=context.waiting, **fields)


_PER_CHANNEL = ("times", "values", "logged", "previous", "flags", "tests", "first")


def _common(new: tuple[object, ...], old: tuple[object, ...]) -> tuple[Index, Index]:
    places = {name: at for at, name in enumerate(old)}
    found = [(at, places[name]) for at, name in enumerate(new) if name in places]
    return np.array([at for at, _ in found], np.intp), np.array([of for _, of in found], np.intp)


def put(records: Records, at: Index, some: Records) -> Records:
    """`records` with those of the tracks `at` replaced."""
    count = max(len(records.values), len(some.values))
    depth, shape = records.depth.copy(), (count, len(records.depth))
    ages, values = np.zeros(shape, np.int64), np.full(shape, np.nan)
    ages[: len(records.ages)], values[: len(records.values)] = records.ages, records.values
    values[:, at] = np.nan
    depth[at] = some.depth
    ages[: len(some.ages), at], values[: len(some.values), at] = some.ages, some.values
    held = np.flatnonzero((~np.isnan(values)).any(axis=1))  # rows without a reading may stand between
    used = int(held[-1]) + 1 if len(held) else 1
    return Records(depth, ages[:used], values[:used])


def to_columns(context: Context) -> ContextColumns:
    """As it is stored: channels without a row and tracks without a record are left out."""
    heard = np.flatnonzero(context.times != NEVER)
    records = context.records
    kept = ~np.isnan(records.values)
    counts = kept.sum(axis=0)
    known = np.flatnonzero(records.depth > 0)
    kept = kept[:, known].T
    layout = context.layout
    every = len(heard) == len(layout.channels)
    return ContextColumns(
        row_channels=layout.channels if every else tuple(layout.channels[at] for at in heard.tolist()),
        row_times=context.times[heard],
        row_values=context.values[heard],
        row_logged=context.logged[heard],
        row_previous=context.previous[heard],
        row_flags=context.flags[heard].astype(np.int64),
        row_tests=context.tests[heard],
        row_first=context.first[heard].astype(np.int64),
        track_channels=tuple(layout.tracks[at][0] for at in known.tolist()),
        track_kinds=np.array([layout.tracks[at][1] for at in known.tolist()], np.int64),
        track_depths=records.depth[known],
        track_records=counts[known].astype(np.int64),
        record_ages=records.ages[:, known].T[kept],
        record_values=records.values[:, known].T[kept],
    )


def from_columns(stored: ContextColumns) -> Context:
    """As the tests work with it; `fitted` brings it to a layout."""
    tracks = tuple(zip(stored.track_channels, stored.track_kinds.tolist(), strict=True))
    counts = stored.track_records
    values = np.full((max(int(counts.max(initial=0)), 1), len(tracks)), np.nan)
    ages = np.zeros(values.shape, np.int64)
    track = np.repeat(np.arange(len(tracks)), counts)
    place = np.arange(len(track)) - np.repeat(np.cumsum(counts) - counts, counts)
    ages[place, track], values[place, track] = stored.record_ages, stored.record_values
    return Context(
        Layout(stored.row_channels, tracks),
        stored.row_times,
        stored.row_values,
        stored.row_logged,
        stored.row_previous,
        stored.row_flags.astype(np.uint8),
        stored.row_tests,
        stored.row_first.astype(bool),
        Records(stored.track_depths, ages, values),
        bool((stored.row_flags & WAITS).any()),
    )
