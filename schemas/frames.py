"""The columnar records as Python sees them: numpy arrays, UTC microseconds. One class per columnar Avro schema.

Field names and order are those of the `.avsc` file (a test compares them). Shapes: n rows, c channels, w windows.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs, Unread, Unreadable

Ints = npt.NDArray[np.integer]
G = TypeVar("G", bound=np.generic)


@dataclass(slots=True, eq=False)
class RawFrame:
    """Rows of one device as logged."""

    schema_name: ClassVar[str] = "raw_frame"

    device_id: str
    spool_id: str
    sequence: int
    times: Longs  # (n,)
    channels: tuple[str, ...]
    values: Doubles  # (n, c); NaN = missing
    status: Longs | None = None  # (n,)

    def __post_init__(self) -> None:
        self.values = _grid(self, "values", self.values)
        if self.status is not None and self.status.shape != self.times.shape:
            raise Unreadable(Unread.RAGGED, f"{len(self.status)} status words for {len(self.times)} rows")


@dataclass(slots=True, eq=False)
class CleanFrame:
    """Validated, flagged and calibrated rows of one device."""

    schema_name: ClassVar[str] = "clean_frame"

    device_id: str
    generation: int
    times: Longs  # (n,)
    channels: tuple[str, ...]
    logged: Doubles  # (n, c)
    values: Doubles  # (n, c)
    quality: Ints  # (n, c), schemas.quality.Flag
    tests: Ints  # (n, c), schemas.quality.Test

    def __post_init__(self) -> None:
        shape = len(self.times), len(self.channels)
        if self.logged.shape == self.values.shape == self.quality.shape == self.tests.shape == shape:
            return  # single readings come by the thousand
        for name in ("logged", "values", "quality", "tests"):
            setattr(self, name, _grid(self, name, getattr(self, name)))


@dataclass(slots=True, eq=False)
class WindowFrame:
    """Closed windows of one device: entry i of every array is one window."""

    schema_name: ClassVar[str] = "window_frame"

    device_id: str
    generation: int
    channels: tuple[str, ...]  # (w,)
    starts: Longs
    lengths_s: Longs
    revisions: Longs
    counts: Longs
    expected: Longs
    suspect: Longs
    failed: Longs
    missing: Longs
    means: Doubles
    sds: Doubles
    minima: Doubles
    maxima: Doubles

    def __post_init__(self) -> None:
        _parallel(self, _WINDOW)


@dataclass(slots=True, eq=False)
class DeviceState:
    """What the stream stage remembers of one device, as it is stored. Arrays of one group are parallel."""

    schema_name: ClassVar[str] = "device_state"

    device_id: str
    generation: int
    readings_position: int
    heartbeats_position: int
    actions_position: int
    heard: int
    watermark: int
    partial_until: int
    spool_ids: tuple[str, ...]
    spool_firsts: Longs
    spool_lasts: Longs
    window_channels: tuple[str, ...]
    window_starts: Longs
    window_lengths_s: Longs
    window_counts: Longs
    window_suspect: Longs
    window_failed: Longs
    window_missing: Longs
    window_means: Doubles
    window_m2s: Doubles
    window_minima: Doubles
    window_maxima: Doubles
    alarm_rules: tuple[str, ...]
    alarm_sources: tuple[str, ...]
    alarm_states: tuple[str, ...]
    alarm_ids: tuple[str, ...]
    alarm_onsets: Longs
    alarm_below: tuple[str, ...]
    alarm_conditions: Longs
    alarm_since: Longs
    alarm_values: Doubles
    alarm_steps: Longs
    alarm_until: Longs
    alarm_raises: Longs
    alarm_raises_since: Longs
    alarm_reread: Longs
    judged_channels: tuple[str, ...]
    judged_times: Longs
    judged_values: Doubles
    judged_reread: Longs
    sensor_channels: tuple[str, ...]
    sensor_heard: Longs
    reread_until: int
    frames_missing: int
    frames_given_up: int
    lost_spool: str
    lost_readings: int
    tally_from: int
    tally_readings: int
    tally_rejected: int
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
    track_records: Longs
    record_ages: Longs
    record_values: Doubles
    told: Longs
    hole_spools: tuple[str, ...]
    hole_firsts: Longs
    hole_lasts: Longs
    hole_lows: Longs
    hole_highs: Longs
    hole_touched: Longs
    recent_channels: tuple[str, ...]
    recent_sizes: Longs
    recent_firsts: Longs
    recent_runs: Longs
    run_steps: Longs
    run_lengths: Longs
    beat_spools: tuple[str, ...]
    beat_lost: Longs
    beat_back: Longs

    def __post_init__(self) -> None:
        for group in _STATE:
            _parallel(self, group)


def _group(frame: type[WindowFrame | DeviceState], prefix: str, first: str) -> tuple[str, ...]:
    names = [field.name for field in fields(frame)]
    return tuple(name for name in names[names.index(first) :] if name.startswith(prefix))


# Fields whose arrays belong together: entry i of each is one thing.
_WINDOW = _group(WindowFrame, "", "channels")
_STATE = tuple(
    _group(DeviceState, prefix, first)
    for prefix, first in (
        ("spool_", "spool_ids"),
        ("window_", "window_channels"),
        ("row_", "row_channels"),
        ("track_", "track_channels"),
        ("record_", "record_ages"),
        ("alarm_", "alarm_rules"),
        ("judged_", "judged_channels"),
        ("sensor_", "sensor_channels"),
        ("hole_", "hole_spools"),
        ("recent_", "recent_sizes"),
        ("run_", "run_steps"),
        ("beat_", "beat_spools"),
    )
)

Frame = RawFrame | CleanFrame | WindowFrame | DeviceState
FRAMES: dict[str, type[Frame]] = {
    frame.schema_name: frame for frame in (RawFrame, CleanFrame, WindowFrame, DeviceState)
}


def _grid(frame: RawFrame | CleanFrame, name: str, flat: npt.NDArray[G]) -> npt.NDArray[G]:
    """`flat` with the shape (rows, channels)."""
    shape = (len(frame.times), len(frame.channels))
    if flat.shape == shape:
        return flat
    if flat.size != shape[0] * shape[1] or flat.ndim != 1:
        raise Unreadable(Unread.RAGGED, f"{flat.size} {name} for {shape[0]} rows of {shape[1]} channels")
    return flat.reshape(shape)


@lru_cache
def _all_of(names: tuple[str, ...]) -> Callable[[object], tuple[npt.NDArray[np.generic], ...]]:
    return attrgetter(*names)


def _parallel(frame: WindowFrame | DeviceState, group: tuple[str, ...]) -> None:
    """Refuse arrays of a group that differ in length."""
    lengths = [*map(len, _all_of(group)(frame))]
    if min(lengths) != max(lengths):
        found = ", ".join(f"{length} {name}" for name, length in zip(group, lengths, strict=True))
        raise Unreadable(Unread.RAGGED, f"arrays of one group differ in length: {found}")
