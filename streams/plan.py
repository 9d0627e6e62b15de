"""A device's configuration, made ready for arrays once, so that a frame costs no look-ups. Pure.

`Plan` is for the whole device; `Selection` is the part that a frame's channels need, remembered per channel list.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles
from schemas.devices import DIRECTIONS, Device, Sensor
from streams.calibration import POINT, Segments, micros, segments_of
from streams.quality.gross_range import Spans

SELECTIONS_MAX = 64
"""Channel lists remembered per device. A device sends a few; a hostile one could send a new one each time."""

LONGEST_US = 1_000 * 366 * 86_400 * 1_000_000
"""A thousand years: longer limits mean "never", and a time plus any of them must fit into 64 bits."""


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
    spans: Spans
    # Per window length: the frame's columns that have it, and where they stand in the window plan's channels.
    windows: tuple[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A device's configuration as arrays."""

    device: Device
    columns: dict[str, int]
    segments: Segments
    spans: Spans
    windows: tuple[WindowPlan, ...]
    exists_from_us: int  # 1970 if not configured: an earlier time is that of a clock which was never set
    future_limit_us: int
    lateness_us: int
    silence_limit_us: int | None
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
        columns = np.array([self.columns[name] for name in channels], np.intp)
        windows = []
        for window in self.windows:
            places = {name: at for at, name in enumerate(window.channels)}
            of = [at for at, name in enumerate(channels) if name in places]
            to = [places[channels[at]] for at in of]
            windows.append((np.array(of, np.intp), np.array(to, np.intp)))
        return Selection(channels, self.segments.take(columns), self.spans.take(columns), tuple(windows))


def plan_of(device: Device) -> Plan:
    """The plan of a device's configuration."""
    sensors = device.sensors
    lengths = sorted({length for sensor in sensors for length in sensor.windows_s})
    return Plan(
        device=device,
        columns={sensor.channel: at for at, sensor in enumerate(sensors)},
        segments=segments_of(sensors),
        spans=_spans(sensors),
        windows=tuple(_window(device, length) for length in lengths),
        exists_from_us=micros(device.exists_from) if device.exists_from else 0,
        future_limit_us=min(round(device.future_limit_s * 1e6), LONGEST_US),
        lateness_us=min(round(device.lateness_s * 1e6), LONGEST_US),
        silence_limit_us=round(device.silence_limit_s * 1e6) if device.silence_limit_s else None,
    )


def circular(sensor: Sensor) -> bool:
    """Whether the sensor's values are angles; the deviation of a direction is none."""
    return sensor.quantity in DIRECTIONS and sensor.statistic in POINT


def _window(device: Device, length_s: int) -> WindowPlan:
    sensors = [sensor for sensor in device.sensors if length_s in sensor.windows_s]
    return WindowPlan(
        length_s,
        tuple(sensor.channel for sensor in sensors),
        np.array([circular(sensor) for sensor in sensors], bool),
        round(length_s / device.interval_s) if device.interval_s else 0,
    )


def _spans(sensors: tuple[Sensor, ...]) -> Spans:
    nothing = (-np.inf, np.inf)
    ranges = [sensor.limits.gross_range for sensor in sensors]
    fail = [r.fail if r and r.fail else nothing for r in ranges]
    suspect = [r.suspect if r and r.suspect else nothing for r in ranges]

    def bound(spans: list[tuple[float, float]], end: int) -> Doubles:
        return np.array([span[end] for span in spans], np.float64)

    limited = np.array([r is not None and (r.fail is not None or r.suspect is not None) for r in ranges], bool)
    return Spans(bound(fail, 0), bound(fail, 1), bound(suspect, 0), bound(suspect, 1), limited)
