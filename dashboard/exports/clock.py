"""The clock of a file: which zone its stamps are in, and where its hours and days begin. Pure: no machine's clock.

A zone with summer time stays exact: its stamps carry their offset, and its days are as long as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from dashboard.exports.request import OFFSET, STATION_ZONE, STEP_S, Interval
from schemas.columnar import Longs
from schemas.errors import Refused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
QUARTER_US = 900_000_000  # zones change on the quarter of an hour
LOOK = timedelta(days=1)  # summer time does not come and go within a day


def micros(time: datetime) -> int:
    """Since 1970, UTC."""
    return (time - EPOCH) // timedelta(microseconds=1)


def moment(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_us)


@dataclass(frozen=True, slots=True)
class Clock:
    """A zone. `offset_minutes` is None where it changes within the period."""

    name: str
    zone: tzinfo
    offset_minutes: int | None

    @property
    def told(self) -> str:
        """Such as UTC+01:00, or Europe/Dublin."""
        if self.offset_minutes is None:
            return self.name
        sign, minutes = "-" if self.offset_minutes < 0 else "+", abs(self.offset_minutes)
        return f"UTC{sign}{minutes // 60:02}:{minutes % 60:02}"

    @property
    def is_named(self) -> bool:
        """A zone with a history, such as Europe/Dublin."""
        return isinstance(self.zone, ZoneInfo)

    def floor(self, time: datetime, interval: Interval) -> datetime:
        """The beginning of the interval in which a time lies."""
        local = time.astimezone(self.zone)
        if interval is Interval.DAY:
            return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
        shift = local.utcoffset() or timedelta()
        step = timedelta(seconds=STEP_S[interval])
        return time - (time - EPOCH + shift) % step

    def floors_us(self, times_us: Longs, interval: Interval) -> Longs:
        """As `floor`, of many times."""
        if interval is Interval.DAY and self.offset_minutes is None:
            quarters, places = np.unique(times_us // QUARTER_US, return_inverse=True)
            days = [micros(self.floor(moment(int(quarter) * QUARTER_US), interval)) for quarter in quarters]
            return np.array(days, np.int64)[places]
        shifts = self.offsets_us(times_us)
        step_us = STEP_S[interval] * 1_000_000
        return (times_us + shifts) // step_us * step_us - shifts

    def next(self, begin: datetime, interval: Interval) -> datetime:
        """The beginning of the interval that follows the one that begins then."""
        if interval is Interval.DAY:
            local = begin.astimezone(self.zone)
            return (local.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=self.zone).astimezone(UTC)
        return begin + timedelta(seconds=STEP_S[interval])

    def ceil(self, time: datetime, interval: Interval) -> datetime:
        """The first beginning of an interval at or after a time."""
        begin = self.floor(time, interval)
        return begin if begin == time else self.next(begin, interval)

    def is_aligned(self, step_s: int) -> bool:
        """Whether intervals of this clock begin where UTC's do."""
        return self.offset_minutes is not None and self.offset_minutes * 60 % step_s == 0

    def local(self, times_us: Longs) -> npt.NDArray[np.datetime64]:
        """Stamps in this zone."""
        return (times_us + self.offsets_us(times_us)).astype("datetime64[us]")

    def offsets_us(self, times_us: Longs) -> Longs:
        """What is added to UTC at each time."""
        if self.offset_minutes is not None:
            return np.full(len(times_us), self.offset_minutes * 60_000_000, np.int64)
        quarters = times_us // QUARTER_US
        known, places = np.unique(quarters, return_inverse=True)
        found = [self._offset(moment(int(quarter) * QUARTER_US)) for quarter in known]
        return np.array([offset // timedelta(microseconds=1) for offset in found], np.int64)[places]

    def _offset(self, time: datetime) -> timedelta:
        return time.astimezone(self.zone).utcoffset() or timedelta()


def clock_of(name: str, station_offsets: Sequence[int], *, first: datetime, last: datetime) -> Clock:
    """The clock that a request names; of `station`, that of its loggers in the period. Raises `Refused`."""
    if name == STATION_ZONE:
        if len(station_offsets) != 1:
            told = ", ".join(Clock("", UTC, minutes).told for minutes in station_offsets)
            why = f"its loggers were on {told}" if told else "no logger's offset from UTC is configured"
            raise Refused(f"the station's clock cannot be told for this period: {why}; say --zone, such as --zone UTC")
        (minutes,) = station_offsets
        return Clock(name, timezone(timedelta(minutes=minutes)), minutes)
    if name == "UTC":
        return Clock(name, UTC, 0)
    if found := OFFSET.fullmatch(name):
        minutes = (int(found[2]) * 60 + int(found[3])) * (-1 if found[1] == "-" else 1)
        return Clock(name, timezone(timedelta(minutes=minutes)), minutes)
    zone = ZoneInfo(name)
    offsets = set()
    time = first
    while time < last + LOOK:
        offsets.add(time.astimezone(zone).utcoffset() or timedelta())
        time += LOOK
    offsets.add(last.astimezone(zone).utcoffset() or timedelta())
    only = offsets.pop() if len(offsets) == 1 else None
    is_whole = only is not None and only % timedelta(minutes=1) == timedelta()
    return Clock(name, zone, only // timedelta(minutes=1) if only is not None and is_whole else None)
