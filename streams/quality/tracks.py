"""Tracks of a device: which channels are watched for standing still, with what. Pure: limits in, arrays out.

Three tests ask how long something stood still: flat line, icing (while it is cold) and stalled at offset (where what
stands still is "at its offset"). Each is a track per channel, a direction's two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.devices import Sensor
from schemas.quality import Flag, Test
from streams.calibration import wrap
from streams.quality.dated import Dated, dated
from streams.quality.flat_line import (
    Records,
    block_of,
    flat,
    no_records,
    perhaps_flat,
    perhaps_flat_inside,
    remember,
    sample,
)
from streams.quality.found import Bools, Columns, Index, columns, limits
from streams.quality.icing import Cold, cold
from streams.quality.stalled import APART, AT_OFFSET, at_offset

ROWS_MAX = 1 << 40
"""Longer windows mean "never", and a number of rows must fit into 64 bits."""


class Kind(IntEnum):
    """What a track is. A number keeps its meaning: memories are stored with it."""

    FLAT = 0
    FLAT_FROM_SOUTH = 1
    ICING = 2
    ICING_FROM_SOUTH = 3
    STALLED = 4


BITS = {
    Kind.FLAT: Test.FLAT_LINE,
    Kind.FLAT_FROM_SOUTH: Test.FLAT_LINE,
    Kind.ICING: Test.ICING,
    Kind.ICING_FROM_SOUTH: Test.ICING,
    Kind.STALLED: Test.STALLED_AT_OFFSET,
}

Key = tuple[str, int]  # channel and kind
_SOUTH = (Kind.FLAT_FROM_SOUTH, Kind.ICING_FROM_SOUTH)
_ICING = (Kind.ICING, Kind.ICING_FROM_SOUTH)


@dataclass(frozen=True, slots=True)
class Track:
    """One channel, watched for standing still."""

    sensor: Sensor
    kind: Kind
    tolerance: float
    suspect_rows: int | None
    fail_rows: int | None

    @property
    def key(self) -> Key:
        """What it remembers is stored under this."""
        return self.sensor.channel, int(self.kind)


@dataclass(frozen=True, slots=True)
class Window:
    """One length of window, for some of the tracks."""

    rows: int
    at: Index
    flag: Flag


@dataclass(frozen=True, slots=True)
class Tracks:
    """Tracks of a frame's channels, as arrays."""

    keys: tuple[Key, ...]
    columns: Columns  # (t,) of the frame
    tolerance: Doubles  # (t,)
    depth_max: Longs  # (t,)
    bits: Longs  # (t,)
    rows_min: Longs  # (t,) of the shorter window
    shortest: int  # of those
    windows: tuple[Window, ...]
    circular: Bools  # (t,)
    south: Bools  # (t,)
    stalled: Index  # which tracks
    offset: Dated
    offset_tolerance: Doubles
    icing: Index  # which tracks
    cold: Cold


def rows_of(threshold_s: float | None, interval_s: float) -> int | None:
    """Rows of a window; the division may fall short of a whole number by rounding (0.3 / 0.1)."""
    return None if threshold_s is None else int(min(threshold_s / interval_s + 1e-9, ROWS_MAX)) + 1


def tracks_of(sensors: Sequence[Sensor], circular: Sequence[bool], interval_s: float | None) -> list[Track]:
    """The tracks that the sensors' limits ask for; none without an interval."""
    found: list[Track] = []
    if interval_s is None:
        return found
    for sensor, angle in zip(sensors, circular, strict=True):
        at, ice, stall = sensor.limits.flat_line, sensor.limits.icing, sensor.limits.stalled_at_offset
        for table, kinds in ((at, (Kind.FLAT, Kind.FLAT_FROM_SOUTH)), (ice, _ICING)):
            if table is not None and (table.suspect_s is not None or table.fail_s is not None):
                rows = rows_of(table.suspect_s, interval_s), rows_of(table.fail_s, interval_s)
                found += [Track(sensor, kind, table.tolerance, *rows) for kind in (kinds if angle else kinds[:1])]
        if stall is not None and (stall.suspect_s is not None or stall.fail_s is not None):
            rows = rows_of(stall.suspect_s, interval_s), rows_of(stall.fail_s, interval_s)
            found.append(Track(sensor, Kind.STALLED, APART, *rows))
    return found


def arrays(tracks: Sequence[Track], channels: Sequence[str], circular: Sequence[bool], frame: Sequence[str]) -> Tracks:
    """The tracks of `channels`, which are some of the channels of `frame`: thermometers may be any of the frame's."""
    place = {channel: at for at, channel in enumerate(channels)}
    thermometers = {channel: at for at, channel in enumerate(frame)}
    here = []
    for track in tracks:
        ice = track.sensor.limits.icing
        if track.kind in _ICING and (ice is None or ice.temperature not in thermometers):
            continue
        if track.sensor.channel in place:
            here.append(track)
    lengths: dict[tuple[int, Flag], list[int]] = {}
    for at, track in enumerate(here):
        for rows, flag in ((track.suspect_rows, Flag.SUSPECT), (track.fail_rows, Flag.FAIL)):
            if rows is not None:
                lengths.setdefault((rows, flag), []).append(at)
    stalled = [at for at, track in enumerate(here) if track.kind is Kind.STALLED]
    stalls = [(here[at].sensor, limit) for at in stalled if (limit := here[at].sensor.limits.stalled_at_offset)]
    icing = [at for at, track in enumerate(here) if track.kind in _ICING]
    ices = [ice for at in icing if (ice := here[at].sensor.limits.icing)]
    of = [place[track.sensor.channel] for track in here]
    rows_min = [min(rows for rows in (t.suspect_rows, t.fail_rows) if rows is not None) for t in here]
    return Tracks(
        keys=tuple(track.key for track in here),
        columns=columns(of, len(channels)),
        tolerance=np.array([track.tolerance for track in here], np.float64),
        depth_max=np.array([max(t.suspect_rows or 1, t.fail_rows or 1) - 1 for t in here], np.int64),
        bits=np.array([BITS[track.kind] for track in here], np.int64),
        rows_min=np.array(rows_min, np.int64),
        shortest=min(rows_min, default=0),
        windows=tuple(Window(rows, np.array(at, np.intp), flag) for (rows, flag), at in sorted(lengths.items())),
        circular=np.array([circular[at] and t.kind is not Kind.STALLED for at, t in zip(of, here, strict=True)], bool),
        south=np.array([track.kind in _SOUTH for track in here], bool),
        stalled=np.array(stalled, np.intp),
        offset=dated([sensor for sensor, _ in stalls], [limit.offset for _, limit in stalls], "offset"),
        offset_tolerance=limits(limit.tolerance for _, limit in stalls),
        icing=np.array(icing, np.intp),
        cold=Cold(
            columns(icing, len(here)),
            columns([thermometers[limit.temperature] for limit in ices], len(frame)),
            limits(limit.below for limit in ices),
        ),
    )


@dataclass(frozen=True, slots=True)
class Stood:
    """Readings that ended a window in which the track stood still."""

    rows: Index
    columns: Index
    bits: Longs
    flag: Flag


def watched_by(tracks: Tracks, values: Doubles, times: Longs) -> Doubles:
    """What the tracks look at (n, t) of values (n, k)."""
    if not len(tracks.stalled) and not tracks.circular.any():
        return tracks.columns.of(values)
    watched = values.take(tracks.columns.at, axis=1)
    if tracks.circular.any():
        at = np.flatnonzero(tracks.circular)
        north = wrap(watched[:, at])
        watched[:, at] = np.where(tracks.south[at] & (north >= 180.0), north - 360.0, north)
    stalled = tracks.stalled
    if len(stalled):
        watched[:, stalled] = at_offset(watched[:, stalled], times, tracks.offset, tracks.offset_tolerance)
    return watched


def stood_still(
    before: Records, values: Doubles, frame: Doubles, times: Longs, tracks: Tracks
) -> tuple[Records, list[Stood]]:
    """Judge n rows of the tracks' channels.

    Args:
        before: what the tracks remember.
        values: (n, k) of the channels that `tracks` was made for.
        frame: (n, c) of the whole frame, with the thermometers.
        times: (n,) µs UTC.
        tracks: of those channels.

    Returns:
        What to remember, and which readings stood still.
    """
    n, shortest, tolerance = len(values), tracks.shortest, tracks.tolerance
    some = sample(n, shortest)
    rows = slice(None) if some.rows is None else some.rows
    seen = watched_by(tracks, values[rows], times[rows])
    if n < shortest:  # which tracks may stand still at all
        perhaps = perhaps_flat(before, seen[0], n, tolerance, tracks.rows_min)
    else:
        perhaps = perhaps_flat_inside(before, seen[some.heads], tolerance, tracks.rows_min, block_of(shortest))
    found = []
    if perhaps.any():
        watched = seen if some.rows is None else watched_by(tracks, values, times)
        for window in tracks.windows:
            at = window.at[perhaps[window.at]]
            flats = flat(before.of(at), watched[:, at], tolerance[at], window.rows) if len(at) else None
            if flats is not None:
                row, track = np.nonzero(flats[1])
                track = at[flats[0][track]]
                found.append(_stood(row, track, window.flag, watched=watched, frame=frame, tracks=tracks))
    after = remember(before, seen, n, tolerance, tracks.depth_max)
    if after is None:
        after = remember(before, watched_by(tracks, values, times), n, tolerance, tracks.depth_max)
    return after or no_records(len(tolerance)), found  # of all rows it is known


def _stood(row: Index, track: Index, flag: Flag, *, watched: Doubles, frame: Doubles, tracks: Tracks) -> Stood:
    """Of readings that were flat, those that also were at the offset or in the cold, if that is what was asked."""
    counts = np.ones(len(row), bool)
    if len(tracks.stalled):
        counts &= ~np.isin(track, tracks.stalled) | (watched[row, track] == AT_OFFSET)
    if len(tracks.icing):
        is_cold = np.ones(watched.shape, bool)
        is_cold[:, tracks.icing] = cold(frame, tracks.cold)
        counts &= is_cold[row, track]
    row, track = row[counts], track[counts]
    return Stood(row, tracks.columns.at[track], tracks.bits[track], flag)
