"""Records that are not columnar, as rows: devices, heartbeats, alarms, rejected records, imports.

Each statement takes one JSON array, so that a batch costs one round trip a table whatever it holds. Order matters only
between records of one key; the last in Kafka's order wins.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
import psycopg
from psycopg.types.json import Jsonb

from schemas.alarms import AlarmEvent, supersedes
from schemas.devices import Device
from schemas.records import Heartbeat, ImportStatus, Rejected
from schemas.topics import DEVICES, IMPORTS
from sinks.timescale.batch import Body, Entry, Removed

Cursor = psycopg.Cursor[Any]
as_json = partial(Jsonb, dumps=orjson.dumps)


def _quoted(name: str) -> str:
    return f'"{name}"'


# The device's station; several devices say the same of it.
STATIONS = """
INSERT INTO stations AS s (station_id, name, latitude_deg, longitude_deg, elevation_m, kind)
SELECT station_id, name, latitude_deg, longitude_deg, elevation_m, kind
FROM jsonb_populate_recordset(NULL::stations, %s) ORDER BY station_id
ON CONFLICT (station_id) DO UPDATE SET (name, latitude_deg, longitude_deg, elevation_m, kind) =
  ROW (excluded.name, excluded.latitude_deg, excluded.longitude_deg, excluded.elevation_m, excluded.kind)
WHERE (s.*) IS DISTINCT FROM (excluded.*)"""

DEVICE_ROWS = """
INSERT INTO devices (device_id, station_id, name, interval_s, silence_limit_s, exists_from, future_limit_s,
  lateness_s, loggers, configured_at, configured_by, active)
SELECT device_id, station_id, name, interval_s, silence_limit_s, exists_from, future_limit_s,
  lateness_s, loggers, configured_at, configured_by, true
FROM jsonb_populate_recordset(NULL::devices, %s) ORDER BY device_id
ON CONFLICT (device_id) DO UPDATE SET (station_id, name, interval_s, silence_limit_s, exists_from, future_limit_s,
  lateness_s, loggers, configured_at, configured_by, active) =
  ROW (excluded.station_id, excluded.name, excluded.interval_s, excluded.silence_limit_s, excluded.exists_from,
  excluded.future_limit_s, excluded.lateness_s, excluded.loggers, excluded.configured_at, excluded.configured_by,
  true)"""

# Sensors that are configured no more keep their number, their readings and what was last said of them.
SENSORS_GONE = """
UPDATE sensors SET active = false WHERE active AND device_id = ANY (%s)"""

SENSORS = """
INSERT INTO sensors (device_id, channel, point, quantity, unit, statistic, height_m, boom_orientation_deg, limits,
  windows_s, active)
SELECT device_id, channel, point, quantity, unit, statistic, height_m, boom_orientation_deg, limits, windows_s, true
FROM jsonb_populate_recordset(NULL::sensors, %s) ORDER BY device_id, channel
ON CONFLICT (device_id, channel) DO UPDATE SET (point, quantity, unit, statistic, height_m, boom_orientation_deg,
  limits, windows_s, active) =
  ROW (excluded.point, excluded.quantity, excluded.unit, excluded.statistic, excluded.height_m,
  excluded.boom_orientation_deg, excluded.limits, excluded.windows_s, true)"""

CALIBRATIONS_GONE = """
DELETE FROM calibrations WHERE sensor_id IN (SELECT sensor_id FROM sensors WHERE device_id = ANY (%s))"""

CALIBRATIONS = """
INSERT INTO calibrations (sensor_id, place, valid_from, valid_to, logger_slope, logger_offset, slope, "offset",
  dead_band_orientation_deg, serial, instrument, certificate, laboratory, calibrated_on)
SELECT s.sensor_id, c.place, c.valid_from, c.valid_to, c.logger_slope, c.logger_offset, c.slope, c."offset",
  c.dead_band_orientation_deg, c.serial, c.instrument, c.certificate, c.laboratory, c.calibrated_on
FROM jsonb_to_recordset(%s) AS c (device_id text, channel text, place int, valid_from timestamptz,
  valid_to timestamptz, logger_slope float8, logger_offset float8, slope float8, "offset" float8,
  dead_band_orientation_deg float8, serial text, instrument text, certificate text, laboratory text,
  calibrated_on date)
JOIN sensors s USING (device_id, channel)"""

DEVICES_GONE = "UPDATE devices SET active = false WHERE device_id = ANY (%s)"

HEARTBEATS = """
INSERT INTO heartbeats (device_id, received, time, spool_id, started, version, next_sequence, depth, depth_bytes,
  oldest_unsent, accepted, sent, dropped, refused, free_disk_bytes, clock_offset_s, clock_synchronised, sources)
SELECT device_id, received, time, spool_id, started, version, next_sequence, depth, depth_bytes,
  oldest_unsent, accepted, sent, dropped, refused, free_disk_bytes, clock_offset_s, clock_synchronised, sources
FROM jsonb_populate_recordset(NULL::heartbeats, %s)
ON CONFLICT DO NOTHING"""

ALARM_EVENTS = """
INSERT INTO alarm_events (event_id, alarm_id, state, time, event)
SELECT event_id, alarm_id, state, time, event FROM jsonb_populate_recordset(NULL::alarm_events, %s)
ON CONFLICT DO NOTHING"""

# An alarm's state as of its last event: of the highest step, and of the newest of these. Events that are read again do
# not turn it back. Data that is read again tells an alarm's whole life once more; its steps begin anew. A station's
# alarm may go over to another device.
ALARMS = """
INSERT INTO alarms AS a
SELECT * FROM jsonb_populate_recordset(NULL::alarms, %s) ORDER BY alarm_id
ON CONFLICT (alarm_id) DO UPDATE SET
  (device_id, station_id, severity, state, reason, onset, value, "limit", unit, message, replayed, time, step) =
  ROW (excluded.device_id, excluded.station_id, excluded.severity, excluded.state, excluded.reason, excluded.onset,
  excluded.value, excluded."limit", excluded.unit, excluded.message, excluded.replayed, excluded.time, excluded.step)
WHERE CASE WHEN a.replayed OR excluded.replayed THEN excluded.time >= a.time
  ELSE (excluded.step, excluded.time) >= (a.step, a.time) END"""

REJECTED = """
INSERT INTO rejected (topic, part, at_offset, device_id, reason, detail, rows, time, payload)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING"""

_IMPORT = tuple(_quoted(name) for name in ImportStatus.model_fields if name != "sha256")
IMPORTS_NOW = f"""
INSERT INTO imports (sha256, {", ".join(_IMPORT)})
SELECT sha256, {", ".join(_IMPORT)} FROM jsonb_populate_recordset(NULL::imports, %s) ORDER BY sha256
ON CONFLICT (sha256) DO UPDATE SET ({", ".join(_IMPORT)}) = ROW ({", ".join(f"excluded.{name}" for name in _IMPORT)})"""  # noqa: S608 - names of our own model

IMPORTS_GONE = "DELETE FROM imports WHERE sha256 = ANY (%s)"


def project(cursor: Cursor, entries: Iterable[Entry]) -> None:
    """Writes every entry that is no series. Frames and refusals are left out."""
    by_kind: dict[type[Body], list[Entry]] = {}
    removed: dict[str, dict[str, Entry]] = {DEVICES: {}, IMPORTS: {}}
    for entry in entries:
        if not isinstance(entry.body, Removed):
            by_kind.setdefault(type(entry.body), []).append(entry)
        elif entry.part.topic in removed:  # a removed alarm stays in the history
            removed[entry.part.topic][entry.body.key] = entry
    for kind, write in _WRITERS.items():
        if kind in by_kind:
            write(cursor, by_kind[kind])
    for topic, statement, kind in ((DEVICES, DEVICES_GONE, Device), (IMPORTS, IMPORTS_GONE, ImportStatus)):
        _remove(cursor, statement, removed[topic], by_kind.get(kind, []))


def _remove(cursor: Cursor, statement: str, removed: dict[str, Entry], written: list[Entry]) -> None:
    """Removes what was not written again after its removal."""
    back = {
        _key(entry.body)
        for entry in written
        if _key(entry.body) in removed and removed[_key(entry.body)].offset < entry.offset
    }
    gone = sorted(removed.keys() - back)
    if gone:
        cursor.execute(statement, (gone,))
        if statement == DEVICES_GONE:
            cursor.execute(SENSORS_GONE, (gone,))


def _key(body: Body) -> str:
    return body.device_id if isinstance(body, Device) else body.sha256 if isinstance(body, ImportStatus) else ""


def _devices(cursor: Cursor, entries: list[Entry]) -> None:
    newest = {entry.body.device_id: entry.body for entry in entries if isinstance(entry.body, Device)}
    devices, stations, sensors, calibrations = [], {}, [], []
    for device_id, device in newest.items():
        said = device.model_dump(mode="json")
        stations[device.station.station_id] = said["station"]
        devices.append(said | {"station_id": device.station.station_id})
        for sensor in said["sensors"]:
            here = {"device_id": device_id, "channel": sensor["channel"]}
            sensors.append(sensor | here)
            calibrations += [each | here | {"place": place} for place, each in enumerate(sensor["calibrations"])]
    names = (list(newest),)
    cursor.execute(STATIONS, (as_json(list(stations.values())),))
    cursor.execute(DEVICE_ROWS, (as_json(devices),))
    cursor.execute(SENSORS_GONE, names)
    cursor.execute(SENSORS, (as_json(sensors),))
    cursor.execute(CALIBRATIONS_GONE, names)
    cursor.execute(CALIBRATIONS, (as_json(calibrations),))


def _heartbeats(cursor: Cursor, entries: list[Entry]) -> None:
    rows = [
        entry.body.model_dump(mode="json") | {"received": datetime.fromtimestamp(entry.timestamp_ms / 1000, UTC)}
        for entry in entries
        if isinstance(entry.body, Heartbeat)
    ]
    cursor.execute(HEARTBEATS, (as_json(rows),))


def _alarms(cursor: Cursor, entries: list[Entry]) -> None:
    events = [(each.body, each.body.model_dump(mode="json")) for each in entries if isinstance(each.body, AlarmEvent)]
    history = [
        {"event_id": event.id, "alarm_id": event.data.alarm_id, "state": event.data.state, "time": said["time"]}
        | {"event": said}
        for event, said in events
    ]
    last: dict[str, AlarmEvent] = {}
    newest = {}
    for event, said in events:
        alarm_id = event.data.alarm_id
        if alarm_id not in last or supersedes(event, last[alarm_id]):
            last[alarm_id], newest[alarm_id] = event, said["data"] | {"time": said["time"]}
    cursor.execute(ALARM_EVENTS, (as_json(history),))
    cursor.execute(ALARMS, (as_json(list(newest.values())),))


def _rejected(cursor: Cursor, entries: list[Entry]) -> None:
    cursor.executemany(
        REJECTED,
        [
            (r.topic, r.partition, r.offset, r.device_id, r.reason, r.detail, r.rows, r.time, r.payload)
            for r in (entry.body for entry in entries)
            if isinstance(r, Rejected)
        ],
    )


def _imports(cursor: Cursor, entries: list[Entry]) -> None:
    newest = {
        each.body.sha256: each.body.model_dump(mode="json") for each in entries if isinstance(each.body, ImportStatus)
    }
    cursor.execute(IMPORTS_NOW, (as_json(list(newest.values())),))


# Devices come first: whoever reads a row of another table can look up what it belongs to.
_WRITERS: dict[type[Body], Callable[[Cursor, list[Entry]], None]] = {
    Device: _devices,
    Heartbeat: _heartbeats,
    AlarmEvent: _alarms,
    Rejected: _rejected,
    ImportStatus: _imports,
}
