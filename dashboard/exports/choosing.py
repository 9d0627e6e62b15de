"""Which columns, which period, which clock: a request against what the database knows. SQL on a given connection.

Raises `Refused` for what is not there, and names what is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import psycopg
from psycopg.rows import dict_row

from dashboard.exports.choice import Choice, Flagged, Station
from dashboard.exports.clock import clock_of
from dashboard.exports.columns import columns_of
from dashboard.exports.request import STATION_ZONE, STEP_S, ExportRequest, Format, Interval
from schemas.devices import Device
from schemas.errors import Refused

COLUMNS_MAX = 4_000
"""Sixteen thousand columns is where spreadsheets and text readers end; a slice of more would not fit its bound."""
NAMED_MAX = 12
"""So many names of what is there an error shows."""

SENSORS = """
SELECT s.sensor_id, s.device_id, s.channel, s.point, s.quantity, s.unit, s.statistic, s.height_m,
  s.boom_orientation_deg, s.active, d.station_id, d.interval_s, d.loggers
FROM sensors s LEFT JOIN devices d USING (device_id)
WHERE (%(device)s::text IS NULL OR s.device_id = %(device)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)
ORDER BY s.device_id, s.channel"""
STATIONS = "SELECT station_id, name, latitude_deg, longitude_deg, elevation_m FROM stations ORDER BY station_id"
DEVICES = "SELECT device_id FROM devices UNION SELECT device_id FROM sensors ORDER BY 1"
CATEGORIES = "SELECT category, excludes FROM flag_categories ORDER BY category"
# First and last reading of each sensor in a period, by index.
SPANS = """
SELECT i.sensor_id, f.time, l.time
FROM unnest(%(ids)s::int[]) AS i (sensor_id)
CROSS JOIN LATERAL (SELECT time FROM {table} WHERE sensor_id = i.sensor_id
  AND time >= %(begin)s AND time < %(end)s ORDER BY time LIMIT 1) f
CROSS JOIN LATERAL (SELECT time FROM {table} WHERE sensor_id = i.sensor_id
  AND time >= %(begin)s AND time < %(end)s ORDER BY time DESC LIMIT 1) l"""
# Flags of some categories by sensor, each category's ranges merged, cut to the period.
FLAGGED = """
SELECT f.sensor_id, f.category, lower(r.during), upper(r.during)
FROM (SELECT sensor_id, category, range_agg(during * tstzrange(%(begin)s, %(end)s)) AS merged FROM flags
      WHERE removed IS NULL AND sensor_id = ANY (%(ids)s) AND category = ANY (%(categories)s)
      GROUP BY sensor_id, category) f, unnest(f.merged) AS r (during)
ORDER BY f.sensor_id, f.category, lower(r.during)"""
# Devices as `devices` carries them, limits and rules left out: nobody reads them from here. Of one that was removed
# no sensor is active.
CONFIGURED = """
SELECT jsonb_strip_nulls(jsonb_build_object('device_id', d.device_id, 'name', d.name, 'loggers', d.loggers,
  'interval_s', d.interval_s, 'exists_from', d.exists_from, 'configured_at', d.configured_at,
  'configured_by', d.configured_by,
  'station', jsonb_build_object('station_id', t.station_id, 'name', t.name, 'latitude_deg', t.latitude_deg,
    'longitude_deg', t.longitude_deg, 'elevation_m', t.elevation_m, 'kind', t.kind),
  'sensors', coalesce((SELECT jsonb_agg(jsonb_build_object('channel', s.channel, 'point', coalesce(s.point, s.channel),
      'quantity', coalesce(s.quantity, 'other'), 'unit', coalesce(s.unit, ''),
      'statistic', coalesce(s.statistic, 'avg'),
      'height_m', s.height_m, 'boom_orientation_deg', s.boom_orientation_deg,
      'calibrations', coalesce((SELECT jsonb_agg(to_jsonb(c) - 'sensor_id' - 'place' ORDER BY c.place)
        FROM calibrations c WHERE c.sensor_id = s.sensor_id), '[]'))
    ORDER BY s.sensor_id)
    FROM sensors s WHERE s.device_id = d.device_id AND (s.active OR NOT d.active)), '[]'))) AS device
FROM devices d JOIN stations t USING (station_id) WHERE d.device_id = ANY (%s) ORDER BY d.device_id"""
HAS_AGGREGATES = "SELECT EXISTS (SELECT FROM migrations WHERE name LIKE '%.aggregates.sql')"

BEGINNING = datetime(1, 1, 2, tzinfo=UTC)
END = datetime(9999, 12, 30, tzinfo=UTC)

VIEWS = {Interval.TEN_MINUTES: "10min", Interval.HOUR: "hourly", Interval.DAY: "daily"}


def choose(connection: psycopg.Connection[Any], request: ExportRequest) -> Choice:
    """The columns and the period that a request means. Raises `Refused`."""
    try:
        return _choose(connection, request)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedFunction):
        raise Refused("the database's tables are not up to date; bring them there with: telltale db migrate") from None


def _choose(connection: psycopg.Connection[Any], request: ExportRequest) -> Choice:
    rows = _sensors(connection, request)
    ids = [row["sensor_id"] for row in rows]
    spans = _spans(connection, ids, request.begin or BEGINNING, request.end or END)
    rows = [row for row in rows if row["active"] or row["sensor_id"] in spans or _is_named(row, request.sensors)]
    if not spans:
        raise Refused(_no_readings(connection, request, ids))
    notes = []
    if silent := [f"{r['device_id']}/{r['channel']}" for r in rows if r["sensor_id"] not in spans]:
        notes.append(f"no readings in the period: {_some(silent)}")
    stations = _stations(connection, rows)
    if request.format in (Format.WINDOGRAPHER, Format.ZIP) and not _has_place(stations):
        notes.append("no one place is configured for what was chosen: the header says latitude and longitude 0")
    first, last = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
    clock = clock_of(request.zone, _offsets(rows, first, last, request), first=first, last=last)
    step_s = _step_s(rows, first, last, request)
    begin, end = (
        (first, last + timedelta(microseconds=1)) if step_s is None else (first, last + timedelta(seconds=step_s))
    )
    if request.interval is not Interval.AS_LOGGED:
        begin = clock.floor(first, request.interval)
        if request.begin:
            begin = max(begin, clock.ceil(request.begin, request.interval))
        end = clock.next(clock.floor(last, request.interval), request.interval)
        if request.end:
            end = min(end, clock.ceil(request.end, request.interval))
        if begin >= end:
            raise Refused(f"no whole {request.interval} lies in the period; it must hold the beginning of one")
    included, excluded = _categories(connection, request)
    found = connection.execute(
        FLAGGED, {"ids": ids, "categories": [*included, *excluded], "begin": begin, "end": end}
    ).fetchall()
    choice = Choice(
        request=request,
        columns=columns_of(rows, request),
        stations=stations,
        begin=begin,
        end=end,
        clock=clock,
        step_s=step_s,
        included=included,
        excluded=excluded,
        flagged=tuple(Flagged(*row) for row in found),
        notes=tuple(notes),
        devices=_devices(connection, rows) if request.format is Format.IEA43 else (),
    )
    if len(choice.columns) > COLUMNS_MAX:
        raise Refused(f"{len(choice.columns)} columns; at most {COLUMNS_MAX} go into one file: choose fewer sensors")
    return replace(choice, view=_view(connection, choice))


def _sensors(connection: psycopg.Connection[Any], request: ExportRequest) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(SENSORS, {"device": request.device, "station": request.station}).fetchall()
    if not rows:
        _refuse_unknown(connection, request)
    if request.sensors:
        for pattern in request.sensors:
            if not any(_fits(row, pattern) for row in rows):
                raise Refused(f"sensor {pattern}: not known; there are {_some(_names(rows))}")
        rows = [row for row in rows if any(_fits(row, pattern) for pattern in request.sensors)]
    for field_name, asked in (("statistic", request.statistics), ("quantity", request.quantities)):
        there = sorted({row[field_name] for row in rows if row[field_name]})
        for word in asked:
            if word not in there:
                raise Refused(f"{field_name} {word}: none of the chosen channels; there are {_some(there)}")
        rows = [row for row in rows if not asked or row[field_name] in asked]
    if not rows:
        raise Refused("no channel is of such a statistic and quantity")
    return rows


def _refuse_unknown(connection: psycopg.Connection[Any], request: ExportRequest) -> None:
    stations = [row[0] for row in connection.execute(STATIONS)]
    devices = [row[0] for row in connection.execute(DEVICES)]
    if request.station and request.station not in stations:
        raise Refused(f"station {request.station}: not known to the database; there are {_some(stations)}")
    if request.device and request.device not in devices:
        raise Refused(f"device {request.device}: not known to the database; there are {_some(devices)}")
    if request.device and request.station:
        raise Refused(f"device {request.device} is not at station {request.station}, or has no channels")
    raise Refused(f"{request.subject} has no channels")


def _names(rows: Iterable[dict[str, Any]]) -> list[str]:
    rows = list(rows)
    several = len({row["device_id"] for row in rows}) > 1
    return [f"{row['device_id']}/{row['channel']}" if several else row["channel"] for row in rows]


def _some(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


def _fits(row: dict[str, Any], pattern: str) -> bool:
    name = f"{row['device_id']}/{row['channel']}"
    return pattern in (name, row["channel"]) or fnmatchcase(name, pattern) or fnmatchcase(row["channel"], pattern)


def _is_named(row: dict[str, Any], sensors: Iterable[str]) -> bool:
    return any(name in (row["channel"], f"{row['device_id']}/{row['channel']}") for name in sensors)


def _spans(
    connection: psycopg.Connection[Any], ids: list[int], begin: datetime, end: datetime
) -> dict[int, tuple[datetime, datetime]]:
    found = connection.execute(SPANS.format(table="readings"), {"ids": ids, "begin": begin, "end": end})
    return {row[0]: (row[1].astimezone(UTC), row[2].astimezone(UTC)) for row in found}


def _no_readings(connection: psycopg.Connection[Any], request: ExportRequest, ids: list[int]) -> str:
    spans = _spans(connection, ids, BEGINNING, END)
    if not spans:
        return f"{request.subject}: no readings are stored of what was chosen"
    first, last = min(span[0] for span in spans.values()), max(span[1] for span in spans.values())
    asked = f"from {_told(request.begin)} to {_told(request.end)}"
    return f"{request.subject}: no readings {asked}; there are some from {_told(first)} to {_told(last)}"


def _told(time: datetime | None) -> str:
    return "ever" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _loggers(rows: Iterable[dict[str, Any]], first: datetime, last: datetime) -> list[dict[str, Any]]:
    """Loggers in use within the period, each device's once."""
    loggers = {row["device_id"]: row["loggers"] or [] for row in rows}
    return [
        logger
        for each in loggers.values()
        for logger in each
        if (not logger.get("valid_from") or datetime.fromisoformat(logger["valid_from"]) <= last)
        and (not logger.get("valid_to") or datetime.fromisoformat(logger["valid_to"]) > first)
    ]


def _offsets(rows: list[dict[str, Any]], first: datetime, last: datetime, request: ExportRequest) -> list[int]:
    """Minutes east of UTC on which the loggers were, each once."""
    if request.zone != STATION_ZONE:
        return []
    found = {logger.get("utc_offset_minutes") for logger in _loggers(rows, first, last)} - {None}
    return sorted(minutes for minutes in found if minutes is not None)


def _step_s(rows: list[dict[str, Any]], first: datetime, last: datetime, request: ExportRequest) -> float | None:
    if request.interval is not Interval.AS_LOGGED:
        return STEP_S[request.interval]
    steps = {row["interval_s"] for row in rows}
    if steps == {None}:
        steps = {logger.get("interval_s") for logger in _loggers(rows, first, last)}
    return steps.pop() if len(steps) == 1 else None


def _categories(connection: psycopg.Connection[Any], request: ExportRequest) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of categories: included, excluded."""
    by_default = dict(connection.execute(CATEGORIES).fetchall())
    for word in (*request.include_flags, *request.exclude_flags):
        if word not in by_default and word != "*":
            raise Refused(f'flag category "{word}": not known; there are {_some(list(by_default))}')
    excluded = {
        name
        for name, excludes in by_default.items()
        if (excludes or name in request.exclude_flags or "*" in request.exclude_flags)
        and name not in request.include_flags
        and not ("*" in request.include_flags and name not in request.exclude_flags)
    }
    return tuple(sorted(set(by_default) - excluded)), tuple(sorted(excluded))


def _stations(connection: psycopg.Connection[Any], rows: Iterable[dict[str, Any]]) -> tuple[Station, ...]:
    wanted = {row["station_id"] for row in rows}
    return tuple(Station(*row) for row in connection.execute(STATIONS) if row[0] in wanted)


def _has_place(stations: Sequence[Station]) -> bool:
    return len(stations) == 1 and stations[0].latitude_deg is not None and stations[0].longitude_deg is not None


def _devices(connection: psycopg.Connection[Any], rows: list[dict[str, Any]]) -> tuple[Device, ...]:
    """The devices' configuration, as the sink has projected it."""
    wanted = list(dict.fromkeys(row["device_id"] for row in rows if row["station_id"]))
    with connection.cursor(row_factory=dict_row) as cursor:
        return tuple(Device.model_validate(row["device"]) for row in cursor.execute(CONFIGURED, (wanted,)))


def _view(connection: psycopg.Connection[Any], choice: Choice) -> str | None:
    """A view of statistics holds just what is asked for, and is quicker: continuous aggregates."""
    request = choice.request
    row = connection.execute(HAS_AGGREGATES).fetchone()
    if row is None or not row[0] or request.interval is Interval.AS_LOGGED or request.values == "logged":
        return None
    by_default = {name for name, excludes in connection.execute(CATEGORIES) if excludes}
    if set(request.quality) != {1, 2} or set(choice.excluded) != by_default:
        return None
    if not choice.clock.is_aligned(STEP_S[request.interval]):
        return None
    return f"statistics_{VIEWS[request.interval]}"
