"""What calibration applies to a sensor when, read from the database, and where one stretch of it ends.

The arithmetic is the function `calibrated` of migration 0009.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

STAYS, MISSING = "stays", "missing"

# Locked against the sink's next word on this device while a slice is worked on.
LOCK = "SELECT FROM sensors WHERE sensor_id = %s FOR SHARE"
WAYS = """
SELECT way, valid_from, valid_to, logger_slope, logger_offset, slope, "offset", turn, without
FROM calibration_ways WHERE sensor_id = %s ORDER BY place"""


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

    def arguments(self) -> dict[str, Any]:
        names = ("way", "logger_slope", "logger_offset", "slope", "offset", "turn")
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

    def told(self) -> Jsonb:
        """To be compared with, and kept with, a recalibration."""
        return Jsonb(self.plain())

    def plain(self) -> list[dict[str, Any]]:
        return [
            {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields(way)}
            for way in (*self.ways, self.without)
        ]


def fields(way: Way) -> list[tuple[str, Any]]:
    return [(name, getattr(way, name)) for name in way.__slots__]


def read(connection: psycopg.Connection[Any], sensor_id: int, *, lock: bool) -> Ways:
    """As the sink has last stored it. With `lock` it stays so until the transaction ends."""
    if lock:
        connection.execute(LOCK, (sensor_id,))
    rows = connection.execute(WAYS, (sensor_id,)).fetchall()
    return Ways(tuple(Way(*row[:-1]) for row in rows), Way(rows[0][-1] if rows else STAYS))
