"""What is missing: expected by each device's interval, against what is stored. Knows tables; the calendar is pure.

A gap is a range [begins, ends) in which a sensor has no reading, or only ones that say "missing". Gaps of one device
that are the same for several sensors are one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg

from infra.counted import counted
from schemas.errors import Refused

DAY = timedelta(days=1)

# The view `gaps`, cut to the period.
GAPS = """
SELECT d.station_id, g.device_id, g.begins, g.ends, max(g.missing) AS missing,
       array_agg(g.channel ORDER BY g.channel) AS channels, bool_or(g.is_open) AS is_open
FROM (
  SELECT g.device_id, g.channel, greatest(g.begins, %(begin)s) AS begins, least(g.ends, %(end)s) AS ends,
         greatest(1, round(extract(epoch FROM least(g.ends, %(end)s) - greatest(g.begins, %(begin)s))::float8
                           / d.interval_s))::bigint AS missing,
         g.is_open AND (%(end)s::timestamptz IS NULL OR g.ends <= %(end)s) AS is_open
  FROM gaps g JOIN devices d USING (device_id)
  WHERE (%(begin)s::timestamptz IS NULL OR g.ends > %(begin)s) AND (%(end)s::timestamptz IS NULL OR g.begins < %(end)s)
    AND (%(device)s::text IS NULL OR g.device_id = %(device)s)
    AND (%(station)s::text IS NULL OR d.station_id = %(station)s)) g
JOIN devices d USING (device_id)
WHERE g.ends - g.begins >= make_interval(secs => %(min_s)s)
GROUP BY d.station_id, g.device_id, g.begins, g.ends
ORDER BY g.device_id, g.begins, g.ends"""

KNOWN = """
SELECT device_id FROM devices
WHERE (%(device)s::text IS NULL OR device_id = %(device)s) AND (%(station)s::text IS NULL OR station_id = %(station)s)
LIMIT 1"""

# When each sensor ought to have readings.
LIVES = """
SELECT v.device_id, v.interval_s, v.begins, v.ends FROM sensor_lives v JOIN devices d USING (device_id)
WHERE (%(device)s::text IS NULL OR v.device_id = %(device)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)"""

# Readings by device and day (UTC) that are there, not only said to be missing.
PRESENT = """
SELECT s.device_id, (r.time AT TIME ZONE 'UTC')::date AS day, count(*) FILTER (WHERE r.quality <> 9)
FROM readings r JOIN sensors s USING (sensor_id) JOIN devices d USING (device_id)
WHERE (%(begin)s::timestamptz IS NULL OR r.time >= %(begin)s) AND (%(end)s::timestamptz IS NULL OR r.time < %(end)s)
  AND (%(device)s::text IS NULL OR s.device_id = %(device)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)
GROUP BY 1, 2"""


@dataclass(frozen=True, slots=True)
class Period:
    """Which devices, and when: [begin, end); None is unbounded. Raises `Refused` where it is empty."""

    device: str | None = None
    station: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    min_s: float = 0.0

    def __post_init__(self) -> None:
        if self.begin and self.end and self.begin >= self.end:
            raise Refused(f"from {_iso(self.begin)} must be before to {_iso(self.end)}")

    def named(self) -> dict[str, Any]:
        """For the statements."""
        return {
            "device": self.device,
            "station": self.station,
            "begin": self.begin,
            "end": self.end,
            "min_s": self.min_s,
        }


@dataclass(frozen=True, slots=True)
class Gap:
    """Of one device, the same for all `channels`."""

    station_id: str
    device_id: str
    begins: datetime
    ends: datetime
    missing: int  # rows
    channels: tuple[str, ...]
    is_open: bool  # it lasts until now

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "station": self.station_id,
            "device": self.device_id,
            "from": _iso(self.begins),
            "to": _iso(self.ends),
            "missing": self.missing,
            "channels": list(self.channels),
            "open": self.is_open,
        }


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def check_known(connection: psycopg.Connection[Any], period: Period) -> None:
    """A name that is not there has no gap, which is no good news. Raises `Refused`."""
    asked = {"device": period.device, "station": period.station}
    named = {what: name for what, name in asked.items() if name is not None}
    if named and not connection.execute(KNOWN, asked).fetchall():
        raise Refused(f"{', '.join(f'{what} {name}' for what, name in named.items())}: not known to the database")


def gaps(connection: psycopg.Connection[Any], period: Period) -> list[Gap]:
    """By device and time."""
    rows = connection.execute(GAPS, period.named()).fetchall()
    return [
        Gap(station, device, begins, ends, missing, tuple(channels), is_open)
        for station, device, begins, ends, missing, channels, is_open in rows
    ]


@dataclass(frozen=True, slots=True)
class Life:
    """When readings of one sensor are expected, and how often."""

    interval_s: float
    begins: datetime
    ends: datetime


def completeness(connection: psycopg.Connection[Any], period: Period) -> dict[str, dict[date, float]]:
    """By device and day (UTC): the share of expected readings that is there. Days without expectation are left out."""
    lives: dict[str, list[Life]] = {}
    for device_id, interval_s, begins, ends in connection.execute(LIVES, period.named()):
        if interval_s and begins is not None:
            lives.setdefault(device_id, []).append(Life(interval_s, begins, ends))
    present: dict[str, dict[date, int]] = {}
    for device_id, day, count in connection.execute(PRESENT, period.named()):
        present.setdefault(device_id, {})[day] = count
    return {
        device_id: shares(of, present.get(device_id, {}), begin=period.begin, end=period.end)
        for device_id, of in sorted(lives.items())
    }


def shares(
    lives: Sequence[Life], present: Mapping[date, int], *, begin: datetime | None, end: datetime | None
) -> dict[date, float]:
    """Pure: by day, what is there of what several sensors should have brought."""
    expected: dict[date, float] = {}
    for life in lives:
        since = max(filter(None, (life.begins, begin)))
        until = min(filter(None, (life.ends, end)))
        day = since.astimezone(UTC).date()
        while (midnight := datetime(day.year, day.month, day.day, tzinfo=UTC)) < until:
            length = (min(until, midnight + DAY) - max(since, midnight)).total_seconds()
            expected[day] = expected.get(day, 0.0) + length / life.interval_s
            day += DAY
    return {day: min(1.0, present.get(day, 0) / wanted) for day, wanted in sorted(expected.items()) if wanted >= 0.5}


MARKS = ((0.995, "█"), (0.75, "▓"), (0.25, "▒"), (0.0, "░"))
LEGEND = "█ all  ▓ three quarters or more  ▒ a quarter or more  ░ less  · nothing  (blank: none expected)"


def mark(share: float | None) -> str:
    """One day in one character."""
    if share is None:
        return " "
    if share <= 0:
        return "·"
    return next(sign for least, sign in MARKS if share >= least)


EMPTY_MONTHS_MAX = 2  # in a row; more are one line


def calendar(days: Mapping[date, float]) -> list[str]:
    """A line for each month: its days, and the month's share. Pure."""
    if not days:
        return []
    lines = [f"{'':8}{'1':<9}{'10':<10}{'20':<10}30"]
    empty: list[str] = []
    year, month = min(days).year, min(days).month
    last = max(days)
    while (year, month) <= (last.year, last.month):
        following = date(year + month // 12, month % 12 + 1, 1)
        count = (following - date(year, month, 1)).days
        of_month = [days.get(date(year, month, day)) for day in range(1, count + 1)]
        known = [share for share in of_month if share is not None]
        share = f"{sum(known) / len(known):>5.0%}" if known else ""
        line = f"{year}-{month:02} {''.join(map(mark, of_month)):<31} {share}".rstrip()
        if any(known):
            lines += [*_shortened(empty), line]
            empty = []
        else:
            empty.append(line)
        year, month = following.year, following.month
    return [*lines, *_shortened(empty)]


def _shortened(empty: list[str]) -> list[str]:
    if len(empty) <= EMPTY_MONTHS_MAX:
        return empty
    return [f"{empty[0][:7]} to {empty[-1][:7]}: {counted(len(empty), 'month')} with nothing"]
