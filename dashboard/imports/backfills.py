"""Gaps by device, and what is being done about them. SQL to be run by others; what is at work is told by its row.

Filling a gap is `telltale imports backfill`, of the service that has the files; here it is only known that it runs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

GAPS_READ_MAX = 5_000
"""Of all devices together, the largest first."""
LONGEST = 3
"""Gaps of a device that are shown; the device's page has more."""
# As the view `gaps` of configured devices, but readings before `begin` are not looked at, save for the last one of each
# sensor.
LARGEST = f"""
SELECT d.station_id, v.device_id, g.begins, g.ends, array_agg(v.channel ORDER BY v.channel) AS channels,
  max(greatest(1, round(extract(epoch FROM g.ends - g.begins)::float8 / v.interval_s)))::bigint AS missing,
  bool_or(g.is_open) AS is_open
FROM sensor_lives v JOIN devices d USING (device_id)
CROSS JOIN LATERAL (
  SELECT greatest(v.begins, %(begin)s::timestamptz, (
    SELECT time + v.step FROM readings WHERE sensor_id = v.sensor_id AND quality <> 9 AND time < %(begin)s::timestamptz
    ORDER BY time DESC LIMIT 1)) AS begins WHERE v.begins IS NOT NULL) since
CROSS JOIN LATERAL (
  SELECT coalesce(lag(time) OVER (ORDER BY time) + v.step, since.begins) AS begins, time AS ends, false AS is_open
  FROM readings
  WHERE sensor_id = v.sensor_id AND quality <> 9 AND time >= coalesce(%(begin)s::timestamptz, '-infinity')
  UNION ALL
  SELECT coalesce((SELECT time FROM readings WHERE sensor_id = v.sensor_id AND quality <> 9
                     AND time >= coalesce(%(begin)s::timestamptz, '-infinity')
                   ORDER BY time DESC LIMIT 1) + v.step, since.begins), v.ends, v.active) g
WHERE d.active AND g.ends - g.begins > v.step / 2 AND (%(device)s::text IS NULL OR v.device_id = %(device)s)
GROUP BY d.station_id, v.device_id, g.begins, g.ends
ORDER BY missing DESC, g.begins LIMIT {GAPS_READ_MAX + 1}"""  # noqa: S608 - a number of ours
# Files of a device that have moved since: how far a backfill has come.
MOVED = """
SELECT count(*)::int AS files, count(*) FILTER (WHERE state IN ('sent', 'stored'))::int AS through,
  coalesce(sum(sent), 0)::bigint AS sent, coalesce(sum(rows), 0)::bigint AS rows
FROM imports WHERE device_id = %(device)s AND time >= %(since)s"""


@dataclass(slots=True)
class Lacking:
    """What one device lacks. `longest`: rows of LARGEST."""

    device_id: str
    station_id: str
    gaps: int = 0
    missing: int = 0  # rows, by the widest gap of several sensors
    longest: list[Mapping[str, Any]] = field(default_factory=list)


def lacking(rows: Iterable[Mapping[str, Any]]) -> list[Lacking]:
    """By device, the one that lacks most first. Pure."""
    found: dict[str, Lacking] = {}
    for row in rows:
        of = found.setdefault(row["device_id"], Lacking(row["device_id"], row["station_id"]))
        of.gaps += 1
        of.missing += row["missing"]
        if len(of.longest) < LONGEST:
            of.longest.append(row)
    return sorted(found.values(), key=lambda each: -each.missing)


@dataclass(slots=True)
class Backfill:
    """One that was started here. `report` is the command's, `trouble` why it ended without one."""

    number: int
    device_id: str
    who: str
    began: datetime
    ended: datetime | None = None
    report: dict[str, Any] | None = None
    trouble: str | None = None

    def words(self) -> str:
        """What came of it."""
        if self.trouble:
            return self.trouble
        if self.report is None:
            return "at work"
        files, frames = self.report["files"], sum(each["frames"] for each in self.report["edges"])
        parts = [f"{len(files):,} {'file' if len(files) == 1 else 'files'} read again"] + (
            [f"{frames:,} frames asked of spools here"] if frames else []
        )
        if self.report["left"] is not None:
            back = self.report["missing"] - self.report["left"]
            parts.append(f"{back:,} rows came back, {self.report['left']:,} are still missing")
        return "; ".join(parts)
