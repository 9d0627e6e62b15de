"""What calibration applies to a sensor when, and its gross range, read from the database; and where one stretch ends.

The arithmetic is the functions `calibrated` of migration 0009 and `recalibrated` of 0012.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from schemas.quality import Test

STAYS, MISSING = "stays", "missing"

# Locked against the sink's next word on this device while a slice is worked on.
LOCK = "SELECT FROM sensors WHERE sensor_id = %s FOR SHARE"
WAYS = """
SELECT way, valid_from, valid_to, logger_slope, logger_offset, slope, "offset", turn,
  gross_range_bounds(limits, 'fail'), gross_range_bounds(limits, 'suspect'), without
FROM calibration_ways JOIN sensors USING (sensor_id) WHERE sensor_id = %s ORDER BY place"""


@dataclass(frozen=True, slots=True)
class Way:
    """What is done to the logged value, in [valid_from, valid_to)."""

    way: str
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    logger_slope: float | None = None
    logger_offset: float | None = None
    slope: float | None = None
    offset: float | None = None
    turn: float | None = None
    fail: list[float] | None = None  # [least, largest]
    suspect: list[float] | None = None

    @property
    def bits(self) -> int:
        """What is known of the values that it makes."""
        return int(Test.NOT_CALIBRATED) if self.way == MISSING else 0

    def arguments(self) -> dict[str, Any]:
        names = ("way", "logger_slope", "logger_offset", "slope", "offset", "turn", "bits", "fail", "suspect")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Ways:
    """All of a sensor, in order of time and without overlap; elsewhere `without` applies."""

    ways: tuple[Way, ...]
    without: Way

    def at(self, time: datetime) -> Way:
        """What applies to a reading of this time."""
        for way in self.ways:
            if (way.valid_from is None or way.valid_from <= time) and (way.valid_to is None or time < way.valid_to):
                return way
        return self.without

    def edge_after(self, time: datetime) -> datetime | None:
        """Where the next stretch begins, at the latest."""
        edges = (edge for way in self.ways for edge in (way.valid_from, way.valid_to))
        return min((edge for edge in edges if edge is not None and edge > time), default=None)

    @staticmethod
    def of(kept: list[dict[str, Any]]) -> "Ways":
        """What `plain` has made; what an older Telltale has kept knows no bounds."""
        *ways, without = (
            Way(**each | {name: _moment(each[name]) for name in ("valid_from", "valid_to")}) for each in kept
        )
        return Ways(tuple(ways), without)

    def plain(self) -> list[dict[str, Any]]:
        """To be compared with, and kept with, a recalibration."""
        return [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields(way)}
            for way in (*self.ways, self.without)
        ]


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def fields(way: Way) -> list[tuple[str, Any]]:
    return [(name, getattr(way, name)) for name in way.__slots__]


def read(connection: psycopg.Connection[Any], sensor_id: int, *, lock: bool) -> Ways:
    """As the sink has last stored it. With `lock` it stays so until the transaction ends."""
    if lock:
        connection.execute(LOCK, (sensor_id,))
    rows = connection.execute(WAYS, (sensor_id,)).fetchall()
    without = Way(rows[0][-1], fail=rows[0][-3], suspect=rows[0][-2]) if rows else Way(STAYS)
    return Ways(tuple(Way(*row[:-1]) for row in rows), without)
