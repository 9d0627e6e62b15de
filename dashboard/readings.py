"""Stored readings, counted and shown. Knows the tables; knows no topic.

A period is half-open: [from, to), in UTC where no zone is given.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from infra.moments import moment
from schemas.errors import Refused
from schemas.quality import Flag, Test

ROWS_A_FETCH = 5_000  # from the server-side cursor: memory stays bounded however many rows are shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which readings. None: all."""

    device: str | None = None
    station: str | None = None
    channel: str | None = None
    begin: datetime | None = None
    end: datetime | None = None
    flags: tuple[Flag, ...] = ()


# Which sensors a selection means, in the order in which people read them.
SENSORS = """
SELECT s.sensor_id, s.device_id || '/' || s.channel
FROM sensors s LEFT JOIN devices d USING (device_id)
WHERE (%(device)s::text IS NULL OR s.device_id = %(device)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)
  AND (%(channel)s::text IS NULL OR s.channel = %(channel)s)
ORDER BY s.device_id, s.channel"""

CHOSEN = """
FROM readings
WHERE sensor_id = ANY (%(ids)s)
  AND (%(begin)s::timestamptz IS NULL OR time >= %(begin)s)
  AND (%(end)s::timestamptz IS NULL OR time < %(end)s)
  AND (%(flags)s::int[] IS NULL OR quality = ANY (%(flags)s))"""

COUNT = "SELECT sensor_id, count(*)" + CHOSEN + " GROUP BY sensor_id"

SHOW = "SELECT time, sensor_id, logged, value, quality, tests" + CHOSEN + " ORDER BY time, sensor_id LIMIT %(limit)s"


def selection(
    *,
    sensor: str | None,
    device: str | None,
    station: str | None,
    begin: str | None,
    end: str | None,
    flags: str | None,
) -> Selection:
    """A selection as people write it. `sensor` is DEVICE/CHANNEL or CHANNEL. Raises `Refused`."""
    channel = sensor
    if sensor and "/" in sensor:
        named, _, channel = sensor.partition("/")
        if device is not None and device != named:
            raise Refused(f"--sensor {sensor} is of device {named}, --device says {device}")
        device = named
    chosen = Selection(
        device=device,
        station=station,
        channel=channel,
        begin=moment(begin, option="--from"),
        end=moment(end, option="--to"),
        flags=flags_of(flags),
    )
    if chosen.begin and chosen.end and chosen.begin >= chosen.end:
        raise Refused(f"--from {begin} must be before --to {end}")
    return chosen


def flags_of(text: str | None) -> tuple[Flag, ...]:
    """Flags by number or name, with commas between. Raises `Refused`."""
    flags = []
    for word in (text or "").split(","):
        cleaned = word.strip()
        if not cleaned:
            continue
        try:
            flags.append(Flag(int(cleaned)) if cleaned.isdigit() else Flag[cleaned.upper()])
        except (KeyError, ValueError):
            known = ", ".join(f"{flag.value} {flag.name.lower()}" for flag in Flag)
            raise Refused(f"--quality {cleaned}: expected some of {known}") from None
    return tuple(flags)


def count(connection: psycopg.Connection[Any], chosen: Selection) -> dict[str, int]:
    """Readings by sensor, sensors without any included. Raises `Refused` for a name that is not there."""
    names = _sensors(connection, chosen)
    counted = dict(connection.execute(COUNT, _arguments(chosen, names)).fetchall())
    return {name: counted.get(sensor_id, 0) for sensor_id, name in names.items()}


def show(connection: psycopg.Connection[Any], chosen: Selection, *, limit: int | None) -> Iterator[dict[str, Any]]:
    """Readings in order of time: time, sensor, logged, value, flag, tests. Raises `Refused` as `count` does."""
    names = _sensors(connection, chosen)
    with (
        connection.transaction(),
        connection.cursor("readings_show", row_factory=dict_row) as cursor,
    ):
        cursor.itersize = ROWS_A_FETCH
        cursor.execute(SHOW, _arguments(chosen, names) | {"limit": limit})
        for row in cursor:
            yield {
                "time": row["time"].astimezone(UTC),
                "sensor": names[row["sensor_id"]],
                "logged": row["logged"],
                "value": row["value"],
                "flag": row["quality"],
                "tests": [test.name.lower() for test in Test if row["tests"] & test and test.name],
            }


def _sensors(connection: psycopg.Connection[Any], chosen: Selection) -> dict[int, str]:
    try:
        found = connection.execute(
            SENSORS, {"device": chosen.device, "station": chosen.station, "channel": chosen.channel}
        ).fetchall()
    except psycopg.errors.UndefinedTable:
        raise Refused("the database has no Telltale tables yet; make them with: telltale db migrate") from None
    asked = {"station": chosen.station, "device": chosen.device, "sensor": chosen.channel}
    named = {what: name for what, name in asked.items() if name is not None}  # an empty name is none, not all
    if not found and named:
        raise Refused(f"{', '.join(f'{what} {name}' for what, name in named.items())}: not known to the database")
    return dict(found)


def _arguments(chosen: Selection, names: dict[int, str]) -> dict[str, Any]:
    return {
        "ids": list(names),
        "begin": chosen.begin,
        "end": chosen.end,
        "flags": [int(flag) for flag in chosen.flags] or None,
    }
