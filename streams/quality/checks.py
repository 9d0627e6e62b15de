"""A device's limits as arrays, made once, so that a frame costs no look-ups. Pure; knows configuration, runs no test.

`Course` is the device's; `Checks` is what the channels of a frame need, in their order; `Sequence` is the part that
looks back in time, for those channels of a frame whose last rows are of the same time (almost always all).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.devices import DIRECTIONS, Device, Sensor
from schemas.limits import BatteryLow, SensorPair
from schemas.quality import Flag, Test
from streams.calibration import POINT, SPREAD
from streams.quality.battery import Batteries
from streams.quality.context import WAITS, Bytes, Context, Layout, nothing
from streams.quality.contradiction import Contradictions
from streams.quality.dated import dated
from streams.quality.dead_band import DeadBands
from streams.quality.found import Bools, Columns, Found, Index, columns, limits
from streams.quality.gap import Gaps
from streams.quality.glance import Glance
from streams.quality.gross_range import Spans, spans_of
from streams.quality.rate_of_change import Rates
from streams.quality.sd_zero import Deviations
from streams.quality.sensor_pair import Pairs
from streams.quality.spike import Spikes
from streams.quality.tracks import Key, Track, Tracks, arrays, tracks_of

T = TypeVar("T")
SEQUENCES_MAX = 64  # of one channel list; more come only of a device whose channel lists overlap wildly


class Pointwise(Protocol):
    """A test that looks at one row."""

    @property
    def columns(self) -> Columns: ...
    def find(self, values: Doubles, times: Longs, look: Glance) -> Found: ...


@dataclass(frozen=True, slots=True)
class Sequence:
    """Tests of some channels of a frame that look back in time. Columns count among these channels."""

    columns: Columns  # of the frame
    places: Columns  # of the device's channels
    spikes: tuple[Spikes, ...]
    rates: tuple[Rates, ...]
    gaps: Gaps | None
    tracks: Tracks
    track_places: Columns  # of the device's tracks
    good: Bools  # (k,) evaluated whatever the neighbours
    waits: Bytes | None  # (k,) WAITS where the last row waits for the next one; None: nowhere
    waits_first: Bytes | None  # the same for the first row of all


@dataclass(frozen=True, slots=True)
class Checks:
    """Tests of a frame's channels."""

    course: "Course"
    channels: tuple[str, ...]
    sensors: tuple[Sensor, ...]
    spans: Spans
    pointwise: tuple[tuple[Test, Pointwise], ...]
    base: Bytes  # (c,) flag of a reading that no test has anything to say against, rows in order of time
    late_base: Bytes  # (c,) the same for a row behind another, which only the pointwise tests judge
    looks_back: bool
    doubt: Bools | None  # (c,) channels whose tests do not always evaluate; None: none
    late_doubt: Bools | None
    whole: Sequence
    parts: dict[tuple[int, ...], Sequence] = field(default_factory=dict)

    def part(self, at: Index) -> Sequence:
        """For some of the columns."""
        if len(at) == len(self.channels):
            return self.whole
        key = tuple(at.tolist())
        known = self.parts.get(key)
        if known is None:
            if len(self.parts) >= SEQUENCES_MAX:
                self.parts.clear()
            known = self.parts[key] = _sequence(self.course, self.sensors, at)
        return known


@dataclass(frozen=True, slots=True)
class Course:
    """A device's tests."""

    device: Device
    layout: Layout
    tracks: tuple[Track, ...]

    def begin(self) -> Context:
        """The memory before the first row."""
        return nothing(self.layout)

    def checks(self, channels: tuple[str, ...]) -> Checks:
        """For a frame of these channels, which are all configured."""
        by_name = {sensor.channel: sensor for sensor in self.device.sensors}
        sensors = tuple(by_name[channel] for channel in channels)
        spans = spans_of([sensor.limits.gross_range for sensor in sensors])
        whole = _sequence(self, sensors, np.arange(len(sensors), dtype=np.intp))
        pointwise = tuple(_pointwise(sensors))
        good = spans.limited | whole.good
        looks_back = bool(whole.spikes or whole.rates or whole.gaps or whole.tracks.keys)
        return Checks(
            course=self,
            channels=channels,
            sensors=sensors,
            spans=spans,
            pointwise=pointwise,
            base=np.where(good, np.uint8(Flag.GOOD), np.uint8(Flag.NOT_EVALUATED)),
            late_base=np.where(spans.limited, np.uint8(Flag.GOOD), np.uint8(Flag.NOT_EVALUATED)),
            looks_back=looks_back,
            doubt=None if good.all() else ~good,
            late_doubt=None if spans.limited.all() else ~spans.limited,
            whole=whole,
        )


def course_of(device: Device) -> Course:
    """The tests that a device's configuration asks for."""
    sensors = device.sensors
    tracks = tracks_of(sensors, [circular(sensor) for sensor in sensors], device.interval_s)
    layout = _layout(tuple(sensor.channel for sensor in sensors), tuple(track.key for track in tracks))
    return Course(device, layout, tuple(tracks))


@lru_cache(maxsize=4096)
def _layout(channels: tuple[str, ...], tracks: tuple[Key, ...]) -> Layout:
    """One for all devices that have it."""
    return Layout(channels, tracks)


def circular(sensor: Sensor) -> bool:
    """Whether the sensor's values are angles; the deviation of a direction is none."""
    return sensor.quantity in DIRECTIONS and sensor.statistic in POINT


def _sequence(course: Course, frame: tuple[Sensor, ...], at: Index) -> Sequence:
    sensors = [frame[column] for column in at.tolist()]
    k = len(sensors)
    angles = [circular(sensor) for sensor in sensors]
    places = {channel: place for place, channel in enumerate(course.layout.channels)}
    names = [sensor.channel for sensor in sensors]
    tracks = arrays(course.tracks, names, angles, [sensor.channel for sensor in frame])
    track_places = {key: place for place, key in enumerate(course.layout.tracks)}
    spikes = tuple(_spikes(sensors, angles))
    rates = tuple(_rates(sensors, angles))
    gaps = _gaps(sensors)
    good = np.zeros(k, bool)
    for rate in rates:
        good[rate.columns.at] = True
    good[[names.index(channel) for channel, kind in tracks.keys if kind == 0]] = True
    return Sequence(
        columns=columns(at.tolist(), len(frame)),
        places=columns([places[name] for name in names], len(places)),
        spikes=spikes,
        rates=rates,
        gaps=gaps,
        tracks=tracks,
        track_places=columns([track_places[key] for key in tracks.keys], len(track_places)),
        good=good,
        waits=_waits(k, [spike.columns for spike in spikes]),
        waits_first=_waits(k, [*(spike.columns for spike in spikes), *([gaps.columns] if gaps else [])]),
    )


def _waits(k: int, some: Iterable[Columns]) -> Bytes | None:
    waits = np.zeros(k, np.uint8)
    for each in some:
        waits[each.at] = WAITS
    return waits if waits.any() else None


def _with(sensors: Iterable[Sensor], table: Callable[[Sensor], T | None]) -> tuple[list[int], list[T]]:
    """Which of the sensors have the table, and theirs."""
    found = [(at, limit) for at, sensor in enumerate(sensors) if (limit := table(sensor)) is not None]
    return [at for at, _ in found], [limit for _, limit in found]


def _spikes(sensors: list[Sensor], angles: list[bool]) -> Iterable[Spikes]:
    at, tables = _with(sensors, lambda sensor: sensor.limits.spike)
    for method in ("average", "differential"):
        for angle in (False, True):
            some = [
                (column, table)
                for column, table in zip(at, tables, strict=True)
                if table.method == method and angles[column] == angle and (table.suspect or table.fail)
            ]
            if some:
                yield Spikes(
                    columns([column for column, _ in some], len(sensors)),
                    method == "differential",
                    angle,
                    limits(table.suspect or None for _, table in some),
                    limits(table.fail or None for _, table in some),
                )


def _rates(sensors: list[Sensor], angles: list[bool]) -> Iterable[Rates]:
    at, tables = _with(sensors, lambda sensor: sensor.limits.rate_of_change)
    for angle in (False, True):
        some = [
            (column, table)
            for column, table in zip(at, tables, strict=True)
            if angles[column] == angle and (table.suspect_per_s is not None or table.fail_per_s is not None)
        ]
        if some:
            yield Rates(
                columns([column for column, _ in some], len(sensors)),
                angle,
                limits(table.suspect_per_s for _, table in some),
                limits(table.fail_per_s for _, table in some),
            )


def _gaps(sensors: list[Sensor]) -> Gaps | None:
    at, tables = _with(sensors, lambda sensor: _if_set(sensor.limits.gap, "suspect_s", "fail_s"))
    if not at:
        return None
    suspect, fail = limits(table.suspect_s for table in tables), limits(table.fail_s for table in tables)
    return Gaps(columns(at, len(sensors)), suspect, fail, float(np.fmin(suspect, fail).min()))


def _if_set(table: T | None, *names: str) -> T | None:
    """The table, if any of its limits is set."""
    return table if table is not None and any(getattr(table, name) is not None for name in names) else None


def _pointwise(sensors: tuple[Sensor, ...]) -> Iterable[tuple[Test, Pointwise]]:
    for test, make in (
        (Test.SD_ZERO, _deviations),
        (Test.CONTRADICTION, _contradictions),
        (Test.DEAD_BAND, _dead_bands),
        (Test.SENSOR_PAIR, _pairs),
        (Test.BATTERY_LOW, _batteries),
    ):
        found = make(sensors)
        if found is not None:
            yield test, found


def _places(sensors: tuple[Sensor, ...]) -> dict[str, int]:
    return {sensor.channel: at for at, sensor in enumerate(sensors)}


def _statistic(sensors: tuple[Sensor, ...], sensor: Sensor, named: str | None, *statistics: str) -> int:
    """The column of a statistic of the sensor's measurement point, or of the channel that was named; -1: none here."""
    places = _places(sensors)
    if named is not None:
        return places.get(named, -1)
    same = (
        o for o in sensors if (o.point, o.quantity) == (sensor.point, sensor.quantity) and o.statistic in statistics
    )
    if sensor.statistic in statistics:
        return places[sensor.channel]
    return next((places[other.channel] for other in same), -1)


def _deviations(sensors: tuple[Sensor, ...]) -> Deviations | None:
    at, tables = _with(sensors, lambda sensor: _if_set(sensor.limits.sd_zero, "suspect", "fail"))
    sd = [_statistic(sensors, sensors[a], table.sd, *SPREAD) for a, table in zip(at, tables, strict=True)]
    here = [(a, table, s) for a, table, s in zip(at, tables, sd, strict=True) if s >= 0]
    if not here:
        return None
    return Deviations(
        columns([a for a, _, _ in here], len(sensors)),
        columns([s for _, _, s in here], len(sensors)),
        limits(table.suspect for _, table, _ in here),
        limits(table.fail for _, table, _ in here),
    )


def _contradictions(sensors: tuple[Sensor, ...]) -> Contradictions | None:
    at, tables = _with(
        sensors, lambda sensor: None if circular(sensor) else _if_set(sensor.limits.contradiction, "suspect", "fail")
    )
    if not at:
        return None

    def statistic(name: str, *statistics: str) -> Columns | None:
        of = [_statistic(sensors, sensors[a], getattr(t, name), *statistics) for a, t in zip(at, tables, strict=True)]
        return columns(of, len(sensors)) if max(of) >= 0 else None

    return Contradictions(
        columns(at, len(sensors)),
        statistic("min", "min"),
        statistic("avg", "avg"),
        statistic("max", "max", "gust"),
        statistic("sd", "sd"),
        limits(table.suspect for table in tables),
        limits(table.fail for table in tables),
    )


def _dead_bands(sensors: tuple[Sensor, ...]) -> DeadBands | None:
    at, tables = _with(sensors, lambda sensor: _if_set(sensor.limits.dead_band, "suspect_width_deg", "fail_width_deg"))
    if not at:
        return None
    fixed = [table.orientation_deg for table in tables]
    return DeadBands(
        columns(at, len(sensors)),
        dated([sensors[a] for a in at], fixed, "dead_band_orientation_deg"),
        limits(table.suspect_width_deg for table in tables),
        limits(table.fail_width_deg for table in tables),
    )


def _pair(sensor: Sensor, places: dict[str, int]) -> SensorPair | None:
    table = _if_set(sensor.limits.sensor_pair, "suspect_difference", "fail_difference", "suspect_ratio", "fail_ratio")
    return table if table is not None and table.other in places else None


def _battery(sensor: Sensor, places: dict[str, int]) -> BatteryLow | None:
    table = _if_set(sensor.limits.battery_low, "suspect", "fail")
    return table if table is not None and table.battery in places else None


def _pairs(sensors: tuple[Sensor, ...]) -> Pairs | None:
    places = _places(sensors)
    at, tables = _with(sensors, lambda sensor: _pair(sensor, places))
    if not at:
        return None
    nowhere = (np.nan, np.nan)
    angles = np.array([circular(sensors[a]) for a in at], bool)
    return Pairs(
        columns(at, len(sensors)),
        columns([places[table.other] for table in tables], len(sensors)),
        angles,
        np.array([(t.suspect_ratio or t.fail_ratio) is not None for t in tables], bool) & ~angles,
        limits(table.suspect_difference for table in tables),
        limits(table.fail_difference for table in tables),
        np.array([table.suspect_ratio or nowhere for table in tables], np.float64),
        np.array([table.fail_ratio or nowhere for table in tables], np.float64),
        limits(table.ratio_above for table in tables),
    )


def _batteries(sensors: tuple[Sensor, ...]) -> Batteries | None:
    places = _places(sensors)
    at, tables = _with(sensors, lambda sensor: _battery(sensor, places))
    if not at:
        return None
    return Batteries(
        columns(at, len(sensors)),
        columns([places[table.battery] for table in tables], len(sensors)),
        limits(table.suspect for table in tables),
        limits(table.fail for table in tables),
    )
