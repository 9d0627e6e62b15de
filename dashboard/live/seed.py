"""Where the live state begins: one snapshot of the database, rows and the sink's offsets of the same moment.

Kafka is read on from those offsets, so that nothing lies between. Knows tables; knows no topic but by name.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dashboard.live.fleet import SPARK, Facts, Fleet
from schemas.alarms import STANDING, AlarmEvent

SPARK_SENSORS_MAX = 2_000
"""Sensors whose newest readings are fetched one by one: some seconds at worst. Beyond, sparks fill from the topic."""

OFFSETS = "SELECT topic, part, next_offset FROM sink_offsets"
DEVICES = """
SELECT d.device_id, d.name, d.station_id, t.name AS station_name, d.interval_s, d.silence_limit_s, d.active,
       b.received
FROM devices d JOIN stations t USING (station_id)
LEFT JOIN LATERAL (SELECT received FROM heartbeats WHERE device_id = d.device_id ORDER BY received DESC LIMIT 1) b
  ON true
ORDER BY d.device_id"""
SENSORS = """
SELECT n.sensor_id, n.device_id, n.channel, n.unit, n.quantity, n.active AND coalesce(d.active, true) AS active,
       n.time, n.value, n.quality, n.tests
FROM sensors_now n LEFT JOIN devices d USING (device_id) ORDER BY n.device_id, n.sensor_id"""
SPARKS = f"""
SELECT s.sensor_id, p.values FROM unnest(%s::int[]) AS s (sensor_id), LATERAL (
  SELECT array_agg(value ORDER BY time) AS values FROM (
    SELECT time, value FROM readings WHERE sensor_id = s.sensor_id ORDER BY time DESC LIMIT {SPARK}) AS newest) p
WHERE p.values IS NOT NULL"""  # noqa: S608 - a number of ours
ALARMS = """
SELECT e.event FROM alarms a, LATERAL (
  SELECT event FROM alarm_events WHERE alarm_id = a.alarm_id
  ORDER BY time DESC, coalesce((event -> 'data' ->> 'step')::int, 0) DESC LIMIT 1) e
WHERE a.state = ANY (%s)"""


@dataclass(slots=True)
class Seed:
    """What the database knew at one moment."""

    fleet: Fleet = field(default_factory=Fleet)
    sensor_ids: dict[tuple[str, str], int] = field(default_factory=dict)
    alarms: list[AlarmEvent] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)


def seed(dsn: str, *, now_us: int) -> Seed:
    """Reads the snapshot. Raises `psycopg.Error`."""
    found = Seed()
    with psycopg.connect(
        dsn,
        prepare_threshold=None,
        connect_timeout=10,
        application_name="telltale-dashboard-live",
        row_factory=dict_row,
    ) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        _devices(connection, found)
        _sensors(connection, found, now_us)
        for row in connection.execute(ALARMS, ([str(state) for state in STANDING],)):
            found.alarms.append(AlarmEvent.model_validate(row["event"]))
        for row in connection.execute(OFFSETS):
            key = row["topic"], row["part"]
            found.offsets[key] = max(row["next_offset"], found.offsets.get(key, 0))
    return found


def _devices(connection: psycopg.Connection[dict[str, Any]], found: Seed) -> None:
    for row in connection.execute(DEVICES):
        facts = Facts(
            name=row["name"],
            station=row["station_id"],
            station_name=row["station_name"],
            interval_s=row["interval_s"],
            active=row["active"],
        )
        found.fleet.seed_device(row["device_id"], facts, beat_us=_us(row["received"]), limit_s=row["silence_limit_s"])


def _sensors(connection: psycopg.Connection[dict[str, Any]], found: Seed, now_us: int) -> None:
    numbers: dict[int, int] = {}
    for row in connection.execute(SENSORS):
        number = found.fleet.sensor(found.fleet.device(row["device_id"]), row["channel"])
        numbers[row["sensor_id"]] = number
        found.sensor_ids[row["device_id"], row["channel"]] = row["sensor_id"]
        found.fleet.describe(number, unit=row["unit"] or "", quantity=row["quantity"] or "")
        nothing = row["time"] is None
        found.fleet.seed_sensor(
            number,
            time_us=_us(row["time"]),
            value=float("nan") if nothing else row["value"],
            flag=0 if nothing else row["quality"],
            tests=0 if nothing else row["tests"],
            now_us=now_us,
            active=row["active"],
        )
    few = list(numbers)[:SPARK_SENSORS_MAX]
    for row in connection.execute(SPARKS, (few,)):
        found.fleet.seed_spark(numbers[row["sensor_id"]], row["values"])


def _us(time: datetime | None) -> int:
    return 0 if time is None else round(time.timestamp() * 1_000_000)
