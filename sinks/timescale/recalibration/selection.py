"""Which sensors and when, as people say it. Knows the tables of the configuration."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from infra.moments import moment
from schemas.errors import Refused

CHOSEN = """
SELECT s.sensor_id, s.device_id || '/' || s.channel, s.active AND s.statistic IS NOT NULL,
  is_angle(s.quantity, s.statistic)
FROM sensors s LEFT JOIN devices d USING (device_id)
WHERE (%(station)s::text IS NULL OR d.station_id = %(station)s)
  AND (%(sensor)s::text IS NULL OR %(sensor)s IN (s.channel, s.device_id || '/' || s.channel))
ORDER BY s.device_id, s.channel"""
HAS_TABLES = "SELECT to_regclass('recalibrations') IS NOT NULL"


class Sensor(NamedTuple):
    sensor_id: int
    name: str
    is_angle: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Sensors, and a period [begin, end); None: unbounded. `left_out` are no longer configured."""

    sensors: tuple[Sensor, ...]
    begin: datetime | None
    end: datetime | None
    left_out: tuple[str, ...] = ()


def select(
    connection: psycopg.Connection[Any], *, sensor: str | None, station: str | None, begin: str | None, end: str | None
) -> Selection:
    """`sensor` is DEVICE/CHANNEL, or CHANNEL if there is one. Raises `Refused` for what is not there."""
    if (sensor is None) == (station is None) or "" in {sensor, station}:  # an empty name is not all of them
        raise Refused("say which: a sensor such as mast-7/Spd80, or --station ID")
    first, last = moment(begin, option="--from"), moment(end, option="--to")
    if first and last and first >= last:
        raise Refused(f"--from {begin} must be before --to {end}")
    has_tables = connection.execute(HAS_TABLES).fetchone()
    if not has_tables or not has_tables[0]:
        raise Refused("the database has no such tables yet; make them with: telltale db migrate")
    found = connection.execute(CHOSEN, {"station": station, "sensor": sensor}).fetchall()
    if not found:
        raise Refused(f"{f'station {station}' if sensor is None else f'sensor {sensor}'}: not known to the database")
    if sensor is not None and len(found) > 1:
        raise Refused(f"sensor {sensor}: there are several ({', '.join(row[1] for row in found[:5])}); say which")
    there = tuple(Sensor(number, name, is_angle) for number, name, active, is_angle in found if active)
    if not there:
        raise Refused(f"{sensor or f'station {station}'}: no longer configured, so that no calibration applies")
    return Selection(there, first, last, tuple(row[1] for row in found if not row[2]))
