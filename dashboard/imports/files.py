"""Imported files: which, how far, what they ask. Knows the table `imports`; knows no topic."""

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row

from schemas.errors import Refused

# Newest first; a file that needs somebody is not lost among the others with --state.
LIST = """
SELECT i.*, d.station_id FROM imports i LEFT JOIN devices d USING (device_id)
WHERE (%(device)s::text IS NULL OR i.device_id = %(device)s)
  AND (%(station)s::text IS NULL OR d.station_id = %(station)s)
  AND (%(state)s::text IS NULL OR i.state = %(state)s)
ORDER BY i.time DESC, i.sha256 LIMIT %(limit)s"""

FIND = "SELECT * FROM imports WHERE starts_with(sha256, %s) OR name = %s ORDER BY time DESC LIMIT 11"

# What the database has of the file's channels in the file's time: the proof beside the status.
STORED = """
SELECT count(*) FROM readings r JOIN sensors s USING (sensor_id)
WHERE s.device_id = %(device_id)s AND s.channel = ANY (%(columns)s) AND NOT s.channel = ANY (%(left_out)s)
  AND r.time BETWEEN %(first_time)s AND %(last_time)s"""


def list_files(
    connection: psycopg.Connection[Any],
    *,
    device: str | None = None,
    station: str | None = None,
    state: str | None = None,
    limit: int | None = None,
) -> Iterator[dict[str, Any]]:
    """The newest first, as the table has them and with their station."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(LIST, {"device": device, "station": station, "state": state, "limit": limit})
        yield from cursor


def find(connection: psycopg.Connection[Any], name: str) -> dict[str, Any]:
    """One file by its hash, the hash's beginning, or its name. Raises `Refused` for none or several."""
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(FIND, (name, name)).fetchall()
    if len(found) == 1:
        return found[0]
    if not found:
        raise Refused(f"no imported file has the name {name!r} or a hash that begins so; `telltale imports list`")
    hashes = ", ".join(f"{each['sha256'][:12]} ({each['name']})" for each in found[:10])
    raise Refused(f"{name!r} is several files: {hashes}")


def readings_stored(connection: psycopg.Connection[Any], file: dict[str, Any]) -> int | None:
    """Readings in the database of the file's channels in the file's time; None while it has none."""
    if file["device_id"] is None or file["first_time"] is None:
        return None
    row = connection.execute(STORED, file).fetchone()
    return None if row is None else int(row[0])
