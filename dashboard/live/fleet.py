"""What is known of every sensor and device right now. Pure: frames, heartbeats and `now` in, states and changes out;
knows no broker, no database, no page.

Sensors are rows of arrays, so that thousands are looked over in one step. A sensor's number is its place in the arrays
and never changes while the process lives. Times are UTC microseconds, 0 where there was none.

A state says how long nothing was heard, by the wall clock. The limit is the device's `silence_limit_s`; where none is
configured, ten minutes or three intervals, whichever is longer. Half of the limit is `late`, all of it `silent`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.devices import Device
from schemas.frames import CleanFrame
from schemas.quality import Flag
from schemas.records import Heartbeat

US = 1_000_000
LIMIT_S_DEFAULT = 600.0
INTERVALS_DEFAULT = 3
BEAT_US_MAX = 600 * US
"""Without a heartbeat for longer, a sensor counts among those without (the share that operations asked for)."""
SPARK = 60
"""Newest readings of each sensor that are kept for its spark line: one minute at 1 Hz, ten hours at ten minutes."""
SHARE_SLOTS, SHARE_SLOT_US = 6, 600 * US
"""The share of good readings is over the last hour, in steps of ten minutes."""


class State(IntEnum):
    """How a sensor or device stands. The number goes over the wire."""

    WAITING = 0  # configured, and never heard
    ONLINE = 1
    LATE = 2
    SILENT = 3


@dataclass(slots=True)
class Facts:
    """What the configuration says of a device, as far as pages show it."""

    name: str
    station: str = ""
    station_name: str = ""
    interval_s: float | None = None
    limit_us: int = round(LIMIT_S_DEFAULT * US)
    offset_min: int | None = None  # of the station's clock, from UTC
    active: bool = True


def _limit_us(silence_limit_s: float | None, interval_s: float | None) -> int:
    fallback = max(LIMIT_S_DEFAULT, INTERVALS_DEFAULT * (interval_s or 0.0))
    return round((silence_limit_s or fallback) * US)


_COLUMNS: dict[str, tuple[str, Any]] = {
    "device": ("i4", 0),
    "value": ("f4", np.nan),
    "time": ("i8", 0),  # of the newest reading
    "heard": ("i8", 0),  # when a reading that is not missing last came
    "flag": ("i1", 0),
    "tests": ("i4", 0),
    "state": ("i1", 0),
    "share": ("f4", np.nan),
    "active": ("?", True),
    "changed": ("?", False),
    "spark_at": ("i4", 0),
}


@dataclass
class Fleet:
    """All devices and sensors that were ever seen or configured."""

    devices: list[str] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    quantities: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._device_numbers: dict[str, int] = {}
        self._numbers: dict[tuple[int, str], int] = {}
        self._of_frame: dict[tuple[str, tuple[str, ...]], npt.NDArray[np.int64]] = {}
        self._room = 0
        self._arrays: dict[str, npt.NDArray[Any]] = {}
        self._spark = np.empty((0, SPARK), "f4")
        self._good = np.zeros((SHARE_SLOTS, 0), "i8")
        self._total = np.zeros((SHARE_SLOTS, 0), "i8")
        self._slot = 0
        self.device_heard: npt.NDArray[np.int64] = np.zeros(0, "i8")
        self.device_beat: npt.NDArray[np.int64] = np.zeros(0, "i8")
        self.device_state: npt.NDArray[np.int8] = np.zeros(0, "i1")
        self.version = 0
        """Moves when a device or sensor was added or configured anew: open pages need the whole picture again."""
        self._grow(64)

    def __len__(self) -> int:
        return len(self.channels)

    def column(self, name: str) -> npt.NDArray[Any]:
        """One property of all sensors, by number."""
        return self._arrays[name][: len(self)]

    # What comes in.

    def configure(self, device: Device) -> None:
        """A device's configuration, new or changed."""
        number = self.device(device.device_id)
        self.facts[number] = Facts(
            name=device.name,
            station=device.station.station_id,
            station_name=device.station.name,
            interval_s=device.interval_s,
            limit_us=_limit_us(device.silence_limit_s, device.interval_s),
            offset_min=device.loggers[-1].utc_offset_minutes if device.loggers else None,
        )
        configured = {sensor.channel for sensor in device.sensors}
        for sensor in device.sensors:
            self.describe(self.sensor(number, sensor.channel), unit=sensor.unit, quantity=sensor.quantity)
        for its in np.flatnonzero(self.column("device") == number):
            self._arrays["active"][its] = self.channels[its] in configured
        self.version += 1

    def describe(self, number: int, *, unit: str, quantity: str) -> None:
        """What a sensor measures."""
        self.units[number], self.quantities[number] = unit, quantity

    def remove(self, device_id: str) -> None:
        """A device that is no longer configured is no longer watched."""
        if device_id in self._device_numbers:
            number = self._device_numbers[device_id]
            self.facts[number].active = False
            self.column("active")[self.column("device") == number] = False
            self.version += 1

    def seed_device(self, device_id: str, facts: Facts, *, beat_us: int, limit_s: float | None) -> int:
        """A device as the database has it."""
        number = self.device(device_id)
        facts.limit_us = _limit_us(limit_s, facts.interval_s)
        self.facts[number] = facts
        self.device_beat[number] = max(self.device_beat[number], beat_us)
        self.device_heard[number] = max(self.device_heard[number], beat_us)
        return number

    def seed_sensor(
        self, number: int, *, time_us: int, value: float, flag: int, tests: int, now_us: int, active: bool
    ) -> None:
        """A sensor's newest reading as the database has it; when it came is not known, and taken for its time."""
        self._arrays["active"][number] = active
        if time_us <= self._arrays["time"][number]:
            return
        for name, cell in (("time", time_us), ("value", value), ("flag", flag), ("tests", tests)):
            self._arrays[name][number] = cell
        if flag != Flag.MISSING:
            self._arrays["heard"][number] = min(time_us, now_us)
            owner = self._arrays["device"][number]
            self.device_heard[owner] = max(self.device_heard[owner], min(time_us, now_us))

    def seed_spark(self, number: int, values: list[float]) -> None:
        """A sensor's newest readings as the database has them, oldest first."""
        kept = values[-SPARK:]
        self._spark[number] = np.nan
        self._spark[number, : len(kept)] = kept
        self._arrays["spark_at"][number] = len(kept) % SPARK

    def take(self, frame: CleanFrame, *, came_us: int) -> None:
        """Readings of one device that came at `came_us`."""
        if not len(frame.times):
            return
        numbers = self._frame_numbers(frame)
        self.device_heard[self.device(frame.device_id)] = max(self.device_heard[self.device(frame.device_id)], came_us)
        times = self._arrays["time"]
        last = int(np.argmax(frame.times))
        newer = times[numbers] <= frame.times[last]
        at, column = numbers[newer], np.flatnonzero(newer)
        times[at] = frame.times[last]
        self._arrays["value"][at] = frame.values[last, column]
        self._arrays["flag"][at] = frame.quality[last, column]
        self._arrays["tests"][at] = frame.tests[last, column]
        self._arrays["changed"][at] = True
        there = (frame.quality != Flag.MISSING).any(axis=0)
        self._arrays["heard"][numbers[there]] = np.maximum(self._arrays["heard"][numbers[there]], came_us)
        self._remember(numbers[newer], frame.values[-SPARK:, column].astype("f4"))
        self._count(numbers, frame.quality, came_us)

    def beat(self, heartbeat: Heartbeat, *, came_us: int) -> None:
        """A heartbeat that the broker has taken at `came_us`."""
        number = self.device(heartbeat.device_id)
        self.device_beat[number] = max(self.device_beat[number], came_us)
        self.device_heard[number] = max(self.device_heard[number], came_us)

    # What comes out.

    def look(self, now_us: int) -> None:
        """Brings all states and shares up to `now_us`; marks what changed."""
        states = self._states(self.column("heard"), self._limits()[self.column("device")], now_us)
        self.device_state = self._states(self.device_heard, self._limits(), now_us)
        self._turn(now_us)
        total = self._total[:, : len(self)].sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = (self._good[:, : len(self)].sum(axis=0) / total).astype("f4")
        state, share, changed = self.column("state"), self.column("share"), self.column("changed")
        changed |= (state != states) | ~np.isclose(share, shares, atol=0.0005, equal_nan=True)
        state[:], share[:] = states, shares

    def changes(self) -> npt.NDArray[np.int64]:
        """Numbers of sensors that changed since this was last asked."""
        changed = self.column("changed")
        numbers = np.flatnonzero(changed)
        changed[:] = False
        return numbers

    def spark(self, number: int) -> npt.NDArray[np.float32]:
        """The newest readings of a sensor, oldest first; NaN where there are none yet."""
        at = int(self._arrays["spark_at"][number])
        return np.roll(self._spark[number], -at)

    def tally(self, now_us: int) -> dict[str, Any]:
        """How many sensors and devices stand how, and how many sensors had no heartbeat for too long."""
        active = self.column("active")
        watched = np.array([facts.active for facts in self.facts], bool)
        beats = self.device_beat[: len(self.devices)]
        of_sensor = beats[self.column("device")]
        beating = active & (of_sensor > 0)
        without = beating & (now_us - of_sensor > BEAT_US_MAX)
        sensors = np.bincount(self.column("state")[active], minlength=len(State))
        devices = np.bincount(self.device_state[: len(watched)][watched], minlength=len(State))
        return {
            "sensors": sensors.tolist(),
            "devices": devices.tolist(),
            "beating": int(beating.sum()),
            "without_beat": int(without.sum()),
        }

    def standing(self, device_ids: Iterable[str]) -> list[dict[str, int]]:
        """How devices stand: state, when they were heard and their last heartbeat (microseconds, 0: none), sensors that
        are online and all of them."""
        owner, active = self.column("device"), self.column("active")
        sensors = np.bincount(owner[active], minlength=len(self.devices))
        online = np.bincount(owner[active & (self.column("state") == State.ONLINE)], minlength=len(self.devices))
        columns = (self.device_state, self.device_heard, self.device_beat, online, sensors)
        names = ("state", "heard", "beat", "online", "sensors")
        found = []
        for device_id in device_ids:
            number = self._device_numbers.get(device_id)
            cells = [0] * len(columns) if number is None else [int(column[number]) for column in columns]
            found.append(dict(zip(names, cells, strict=True)))
        return found

    # Places.

    def device(self, device_id: str) -> int:
        """A device's number; it is made on first sight."""
        number = self._device_numbers.get(device_id)
        if number is None:
            number = self._device_numbers[device_id] = len(self.devices)
            self.devices.append(device_id)
            self.facts.append(Facts(name=device_id))
            self.device_heard = np.append(self.device_heard, 0)
            self.device_beat = np.append(self.device_beat, 0)
            self.device_state = np.append(self.device_state, np.int8(0))
            self.version += 1
        return number

    def sensor(self, device: int, channel: str) -> int:
        """A sensor's number; it is made on first sight."""
        number = self._numbers.get((device, channel))
        if number is None:
            number = self._numbers[device, channel] = len(self)
            if number == self._room:
                self._grow(2 * self._room)
            self.channels.append(channel)
            self.units.append("")
            self.quantities.append("")
            self._arrays["device"][number] = device
            self.version += 1
        return number

    def _frame_numbers(self, frame: CleanFrame) -> npt.NDArray[np.int64]:
        key = frame.device_id, frame.channels
        numbers = self._of_frame.get(key)
        if numbers is None:
            owner = self.device(frame.device_id)
            numbers = np.array([self.sensor(owner, channel) for channel in frame.channels], np.int64)
            if len(self._of_frame) > 4 * (len(self.devices) + 64):  # a device of ever new columns must not fill memory
                self._of_frame.clear()
            self._of_frame[key] = numbers
        return numbers

    def _remember(self, numbers: npt.NDArray[np.int64], rows: npt.NDArray[np.float32]) -> None:
        at = self._arrays["spark_at"]
        for row in rows:
            self._spark[numbers, at[numbers]] = row
            at[numbers] = (at[numbers] + 1) % SPARK

    def _count(self, numbers: npt.NDArray[np.int64], quality: npt.NDArray[np.integer], now_us: int) -> None:
        self._turn(now_us)
        slot = self._slot % SHARE_SLOTS
        good = (quality == Flag.GOOD) | (quality == Flag.NOT_EVALUATED)
        self._good[slot, numbers] += good.sum(axis=0)
        self._total[slot, numbers] += len(quality)

    def _turn(self, now_us: int) -> None:
        """Empties the slots whose hour is over."""
        slot = now_us // SHARE_SLOT_US
        for late in range(max(self._slot + 1, slot - SHARE_SLOTS + 1), slot + 1):
            self._good[late % SHARE_SLOTS] = 0
            self._total[late % SHARE_SLOTS] = 0
        self._slot = max(self._slot, slot)

    def _limits(self) -> npt.NDArray[np.int64]:
        return np.array([facts.limit_us for facts in self.facts], np.int64)

    @staticmethod
    def _states(heard: npt.NDArray[np.int64], limits: npt.NDArray[np.int64], now_us: int) -> npt.NDArray[np.int8]:
        age = now_us - heard
        states = np.where(age > limits, State.SILENT, np.where(2 * age > limits, State.LATE, State.ONLINE))
        return np.where(heard == 0, State.WAITING, states).astype("i1")

    def _grow(self, room: int) -> None:
        for name, (kind, empty) in _COLUMNS.items():
            wider = np.full(room, empty, kind)
            if name in self._arrays:
                wider[: self._room] = self._arrays[name]
            self._arrays[name] = wider
        spark = np.full((room, SPARK), np.nan, "f4")
        spark[: self._room] = self._spark[: self._room]
        self._spark = spark
        for name in ("_good", "_total"):
            slots = np.zeros((SHARE_SLOTS, room), "i8")
            slots[:, : self._room] = getattr(self, name)[:, : self._room]
            setattr(self, name, slots)
        self._room = room
