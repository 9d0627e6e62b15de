"""Figures of the status page that are looked up rather than followed. Each is one query with a time limit; one that
takes longer is left out and said to be. README.md defines them. Knows tables."""

from collections.abc import Callable
from typing import Any

import psycopg

STATEMENT_MS_MAX = 5_000
"""Of one query: what takes longer would be asked again before it has answered."""

# Readings that were rejected in the last 24 hours.
REJECTED = "SELECT coalesce(sum(rows), 0)::bigint FROM rejected WHERE time > now() - interval '24 hours'"

# Seconds between two heartbeats, over all devices, in the last hour.
BETWEEN_BEATS = """
SELECT (sum(extract(epoch FROM last - first)) / nullif(sum(count - 1), 0))::float8 FROM (
  SELECT min(received) AS first, max(received) AS last, count(*) AS count
  FROM heartbeats WHERE received > now() - interval '1 hour' GROUP BY device_id HAVING count(*) > 1) AS each"""

# Seconds from a sensor's first reading to its last, over all sensors that have any.
SENSOR_LIFE = """
SELECT avg(extract(epoch FROM last_time - first_time))::float8 FROM sensor_lives WHERE first_time IS NOT NULL"""

# Good readings in windows that began in the last 24 hours, of those expected by the configured interval.
RECOVERY = """
SELECT (sum(least(w.count, e.expected)) / nullif(sum(e.expected), 0))::float8
FROM sensors s JOIN devices d USING (device_id)
CROSS JOIN LATERAL (
  SELECT extract(epoch FROM now() - greatest(now() - interval '24 hours', d.exists_from))::float8 / d.interval_s
    AS expected) e
CROSS JOIN LATERAL (
  SELECT coalesce(sum(count), 0)::float8 AS count FROM windows
  WHERE sensor_id = s.sensor_id AND length_s = s.windows_s[1] AND start > now() - interval '24 hours') w
WHERE s.active AND d.active AND d.interval_s > 0 AND e.expected > 0"""

QUERIES = {
    "rejected": (REJECTED, 5.0),
    "between_beats_s": (BETWEEN_BEATS, 15.0),
    "recovery": (RECOVERY, 30.0),
    "life_s": (SENSOR_LIFE, 60.0),
}
"""Each with how often it is asked, in seconds."""


class Figures:
    """The figures as last looked up, and when each is due again. `told` is None for one that took too long."""

    def __init__(self) -> None:
        self.told: dict[str, float | None] = {}
        self._due_s: dict[str, float] = dict.fromkeys(QUERIES, 0.0)

    def refresh(self, connect: Callable[[], psycopg.Connection[Any]], *, now_s: float) -> None:
        """Asks for what is due. Raises `psycopg.Error` where the database is away."""
        due = [name for name, at in self._due_s.items() if at <= now_s]
        if not due:
            return
        with connect() as connection:
            connection.execute(f"SET statement_timeout = {STATEMENT_MS_MAX}".encode())
            for name in due:
                query, every_s = QUERIES[name]
                try:
                    row = connection.execute(query.encode()).fetchone()
                except psycopg.errors.QueryCanceled:
                    self.told[name] = None
                    self._due_s[name] = now_s + 20 * every_s
                    continue
                self.told[name] = None if row is None or row[0] is None else float(row[0])
                self._due_s[name] = now_s + every_s
