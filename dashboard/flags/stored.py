"""Flags in the database. Knows the schema's SQL functions (flag, unflag, flag_category); knows no file, no topic."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.range import TimestamptzRange

from schemas.errors import Refused

ADD = "SELECT flag(%s, %s, %s, %s, %s)"
REMOVE = "SELECT unflag(%s::bigint, %s)"
REMOVE_RANGE = "SELECT unflag(%s::int, %s, %s, %s)"
SENSORS = """
SELECT s.sensor_id, s.device_id || '/' || s.channel
FROM sensors s LEFT JOIN devices d USING (device_id)
WHERE (%(device)s::text IS NULL OR s.device_id = %(device)s)
  AND (%(sensor)s::text IS NULL OR %(sensor)s IN (s.channel, s.device_id || '/' || s.channel))
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)
ORDER BY s.device_id, s.channel"""
CATEGORIES = "SELECT category, colour, excludes, description FROM flag_categories ORDER BY category"
MAKE_CATEGORY = "SELECT flag_category(%s, %s, %s, %s)"
LIST = """
SELECT flag_id, s.device_id || '/' || s.channel AS sensor, lower(f.during) AS begin, upper(f.during) AS end,
  f.category, c.colour, c.excludes, f.reason, f.author, f.created, f.removed, f.removed_by
FROM flags f JOIN sensors s USING (sensor_id) JOIN flag_categories c USING (category)
WHERE f.sensor_id = ANY (%(ids)s) AND (%(all)s OR f.removed IS NULL)
  AND f.during && %(span)s AND (%(category)s::text IS NULL OR f.category = %(category)s)
ORDER BY s.device_id, s.channel, lower(f.during) NULLS FIRST, f.flag_id"""


@dataclass(frozen=True, slots=True)
class Span:
    """[begin, end); None: unbounded. Raises `Refused` where it is empty."""

    begin: datetime | None
    end: datetime | None

    def __post_init__(self) -> None:
        if self.begin and self.end and self.begin >= self.end:
            raise Refused(f"from {self.begin.isoformat()} must be before to {self.end.isoformat()}")

    def range(self) -> TimestamptzRange:
        return TimestamptzRange(self.begin, self.end, "[)")


@contextmanager
def schema_there() -> Iterator[None]:
    """A database without the tables is told in one line."""
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedFunction):
        raise Refused("the database has no tables for flags yet; make them with: telltale db migrate") from None


def sensors(
    connection: psycopg.Connection[Any],
    *,
    sensor: str | None = None,
    device: str | None = None,
    station: str | None = None,
) -> dict[int, str]:
    """Names by number. `sensor` is DEVICE/CHANNEL or CHANNEL. Raises `Refused` for what is not there."""
    asked = {"sensor": sensor, "device": device, "station": station}
    with schema_there():
        found = connection.execute(SENSORS, asked).fetchall()
    named = {what: name for what, name in asked.items() if name is not None}  # an empty name is none, not all
    if not found and named:
        raise Refused(f"{', '.join(f'{what} {name}' for what, name in named.items())}: not known to the database")
    return dict(found)


def the_sensor(connection: psycopg.Connection[Any], name: str) -> int:
    """The one sensor of that name. Raises `Refused`."""
    found = sensors(connection, sensor=name)
    if len(found) > 1:
        raise Refused(f"sensor {name}: there are several ({', '.join(list(found.values())[:5])}); say which")
    return next(iter(found))


def add(
    connection: psycopg.Connection[Any], sensor_id: int, span: Span, *, category: str, reason: str, author: str
) -> int | None:
    """The new flag's number; None where flags of the category cover the span already. Raises `Refused`."""
    try:
        with schema_there():
            row = connection.execute(ADD, (sensor_id, span.range(), category, reason, author)).fetchone()
    except psycopg.errors.ForeignKeyViolation:
        known = ", ".join(each["category"] for each in categories(connection))
        raise Refused(f'category "{category}" is none of: {known}; make it with: telltale flags category') from None
    assert row is not None  # noqa: S101 - a SELECT without FROM
    return None if row[0] is None else int(row[0])


def remove(connection: psycopg.Connection[Any], numbers: list[int], *, author: str) -> None:
    """Takes these flags off, all or none. Raises `Refused` for one that is not on."""
    with schema_there(), connection.transaction():
        for number in numbers:
            row = connection.execute(REMOVE, (number, author)).fetchone()
            if row is None or not row[0]:
                raise Refused(f"flag {number} is not on; nothing was removed")


def remove_range(
    connection: psycopg.Connection[Any], sensor_id: int, span: Span, *, category: str | None, author: str
) -> int:
    """Takes flags off a span, and splits those that reach beyond it; how many were touched."""
    with schema_there():
        row = connection.execute(REMOVE_RANGE, (sensor_id, span.range(), category, author)).fetchone()
    return int(row[0]) if row else 0


def listed(
    connection: psycopg.Connection[Any], ids: list[int], span: Span, *, category: str | None, history: bool
) -> list[dict[str, Any]]:
    """Flags that touch the span; with `history` also those that were taken off."""
    names = {"ids": ids, "span": span.range(), "category": category, "all": history}
    with schema_there(), connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(LIST, names).fetchall()
    return [
        {name: value.astimezone(UTC) if isinstance(value, datetime) else value for name, value in row.items()}
        for row in found
    ]


def categories(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """All categories: name, colour, whether they exclude, description."""
    with schema_there(), connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(CATEGORIES).fetchall()


def make_category(
    connection: psycopg.Connection[Any], name: str, *, colour: str, excludes: bool, description: str
) -> None:
    """Makes or changes a category. Raises `Refused` for a colour that is none."""
    try:
        with schema_there():
            connection.execute(MAKE_CATEGORY, (name, colour, excludes, description))
    except psycopg.errors.CheckViolation:
        raise Refused(
            f'category "{name}": expected a name of 1 to 100 characters and a colour such as #ff922b'
        ) from None
