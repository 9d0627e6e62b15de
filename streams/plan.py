"""A device's configuration, made ready for arrays once, so that a frame costs no look-ups. Pure.

`Plan` is for the whole device; `Selection` is the part that a frame's channels need, remembered per channel list.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles
from schemas.devices import Device, Sensor
from streams.alarms.rules import Rules, rules_of
from streams.alarms.values import Thresholds, thresholds_of
from streams.calibration import Segments, micros, segments_of
from streams.quality.checks import Checks, Course, circular, course_of

SELECTIONS_MAX = 64
"""Channel lists remembered per device. A device sends a few; a hostile one could send a new one each time."""

LONGEST_US = 1_000 * 366 * 86_400 * 1_000_000
"""A thousand years: longer limits mean "never", and a time plus any of them must fit into 64 bits."""
READINGS_MAX = (1 << 31) - 1
"""No window expects more: it is what its row in the database can say."""
CLOCKS_SET_US = 365 * 86_400 * 1_000_000
"""1971: an earlier time is that of a clock which was never set, and counts from 1970. No logger is that old."""


Places = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """The windows of one length: which of the device's channels have them."""

    length_s: int
    channels: tuple[str, ...]
    circular: npt.NDArray[np.bool_]  # (c,)
    expected: int  # readings per window by the configured interval; 0: irregular


@dataclass(frozen=True, slots=True)
class Selection:
    """What some of the device's channels need, in a frame's order."""

    channels: tuple[str, ...]
    segments: Segments
    checks: Checks
    # Per window length: the frame's columns that have it, and where they stand in the window plan's channels.
    windows: tuple[Places, ...]
    thresholds: Thresholds | None  # alarm rules on values; None: none concern these channels
    # Equal for devices whose rows may be advanced as one array, whatever their calibrations; None: this one's may not.
    kind: object | None
    numbers: Doubles  # (s, 8, c) of `segments`, as one array


@dataclass(frozen=True, slots=True)
class Plan:
    """A device's configuration as arrays."""

    device: Device
    columns: dict[str, int]
    segments: Segments
    course: Course
    windows: tuple[WindowPlan, ...]
    exists_from_us: int  # CLOCKS_SET_US if not configured
    future_limit_us: int
    lateness_us: int
    silence_limit_us: int | None
    configured_us: int
    rules: Rules
    selections: dict[tuple[str, ...], Selection] = field(default_factory=dict)

    def select(self, channels: tuple[str, ...]) -> Selection:
        """For channels that are all configured."""
        known = self.selections.get(channels)
        if known is None:
            known = self._select(channels)
            if len(self.selections) >= SELECTIONS_MAX:
                self.selections.clear()
            self.selections[channels] = known
        return known

    def _select(self, channels: tuple[str, ...]) -> Selection:
        kind = self._kind()
        shared = _SHARED.get((kind, channels))
        if shared is None:  # the first of its kind
            shared = self.course.checks(channels), tuple(_places(window, channels) for window in self.windows)
            if len(_SHARED) >= SHARED_MAX:
                _SHARED.clear()
            _SHARED[kind, channels] = shared
        checks, windows = shared
        segments, places = self.segments, checks.whole.places
        if not places.whole:
            segments = segments.take(np.array([self.columns[name] for name in channels], np.intp))
        return Selection(
            channels,
            segments,
            checks,
            windows,
            thresholds_of(self.rules, channels),
            kind if places.whole and checks.whole.track_places.whole else None,
            segments.all_numbers(),
        )

    def _kind(self) -> object:
        """Of a frame of all channels in their order: what its tests and windows need to know."""
        sensors = tuple(
            (s.channel, s.point, s.quantity, s.statistic, s.limits, s.calibrations if _by_date(s) else ())
            for s in self.device.sensors
        )
        lengths = tuple((w.length_s, w.channels, w.circular.tobytes(), w.expected) for w in self.windows)
        return _kind_of((self.device.interval_s, self.lateness_us, lengths, sensors))


def _by_date(sensor: Sensor) -> bool:
    """Whether a test of the sensor's goes by its calibrations."""
    return sensor.limits.dead_band is not None or sensor.limits.stalled_at_offset is not None


def _places(window: WindowPlan, channels: tuple[str, ...]) -> Places:
    """Which of the channels have the window, and where they stand in it."""
    places = {name: at for at, name in enumerate(window.channels)}
    of = [at for at, name in enumerate(channels) if name in places]
    return np.array(of, np.intp), np.array([places[channels[at]] for at in of], np.intp)


SHARED_MAX = 4096
_SHARED: dict[tuple[object, tuple[str, ...]], tuple[Checks, tuple[Places, ...]]] = {}
"""What devices of one kind have in common for a channel list: made once, as a fleet is made ready."""


@lru_cache(maxsize=4096)
def _kind_of(_facts: tuple[object, ...]) -> object:
    return object()


def plan_of(device: Device) -> Plan:
    """The plan of a device's configuration."""
    sensors = device.sensors
    lengths = sorted({length for sensor in sensors for length in sensor.windows_s})
    rules = rules_of(device)
    limits_s = [bound.limit for bound in rules.silence if bound.limit is not None]
    return Plan(
        device=device,
        columns={sensor.channel: at for at, sensor in enumerate(sensors)},
        segments=segments_of(sensors),
        course=course_of(device),
        windows=tuple(_window(device, length) for length in lengths),
        exists_from_us=micros(device.exists_from) if device.exists_from else CLOCKS_SET_US,
        future_limit_us=micros_at_most(device.future_limit_s),
        lateness_us=micros_at_most(device.lateness_s),
        silence_limit_us=micros_at_most(min(limits_s)) if limits_s else None,
        configured_us=micros(device.configured_at),
        rules=rules,
    )


def micros_at_most(seconds: float) -> int:
    """µs; of a limit beyond all others `LONGEST_US`."""
    return round(min(seconds * 1e6, LONGEST_US))


def _window(device: Device, length_s: int) -> WindowPlan:
    sensors = [sensor for sensor in device.sensors if length_s in sensor.windows_s]
    return WindowPlan(
        length_s,
        tuple(sensor.channel for sensor in sensors),
        np.array([circular(sensor) for sensor in sensors], bool),
        round(min(length_s / device.interval_s, READINGS_MAX)) if device.interval_s else 0,
    )
