"""What the database holds: sizes, chunks, compression, oldest and newest reading, how far aggregates lag, retention."""

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from sinks.timescale.upkeep import SERIES, WIDTHS

SPAN = """
SELECT min(f.time), max(l.time) FROM sensors s
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time LIMIT 1) f ON true
LEFT JOIN LATERAL (SELECT time FROM readings WHERE sensor_id = s.sensor_id ORDER BY time DESC LIMIT 1) l ON true"""
# Of a partitioned table all partitions, of an ordinary one itself.
SIZE_PLAIN = """
SELECT sum(pg_total_relation_size(relid))::int8, count(*) FILTER (WHERE isleaf AND parentrelid IS NOT NULL)
FROM pg_partition_tree(%s::regclass)"""
SIZE_ORDINARY = "SELECT pg_total_relation_size(%s::regclass), 0"
SIZE_HYPER = """
SELECT hypertable_size(%s::regclass), count(*), count(*) FILTER (WHERE is_compressed)
FROM timescaledb_information.chunks WHERE hypertable_name = %s"""
COMPRESSED = """
SELECT sum(before_compression_total_bytes)::int8, sum(after_compression_total_bytes)::int8
FROM hypertable_compression_stats(%s::regclass)"""
MATERIALIZED = """
SELECT view_name, materialization_hypertable_schema, materialization_hypertable_name
FROM timescaledb_information.continuous_aggregates WHERE view_name = ANY (%s)"""
RETENTION = "SELECT series, keep::text, horizon FROM retention"
IS_PARTITIONED = "SELECT relkind = 'p' FROM pg_class WHERE oid = %s::regclass"


def holdings(connection: psycopg.Connection[Any], *, timescale: bool, licensed: bool, now: datetime) -> dict[str, Any]:
    """For people and scripts; times in ISO 8601. `licensed`: TimescaleDB's own licence."""
    row = connection.execute(SPAN).fetchone()
    oldest, newest = row or (None, None)
    kept = {series: (keep, horizon) for series, keep, horizon in connection.execute(RETENTION)}
    tables = []
    for series in SERIES:
        keep, horizon = kept.get(series, (None, None))
        about = _hyper(connection, series, licensed=licensed) if timescale else _plain(connection, series)
        tables.append({"table": series, **about, "keep": keep, "not_before": _iso(horizon)})
    return {
        "oldest_reading": _iso(oldest),
        "newest_reading": _iso(newest),
        "tables": tables,
        "aggregates": _aggregates(connection, now, newest) if timescale and licensed else [],
    }


def _plain(connection: psycopg.Connection[Any], table: str) -> dict[str, Any]:
    partitioned = connection.execute(IS_PARTITIONED, (table,)).fetchone()
    row = connection.execute(SIZE_PLAIN if partitioned and partitioned[0] else SIZE_ORDINARY, (table,)).fetchone()
    size, chunks = row or (0, 0)
    return {"bytes": size or 0, "chunks": chunks, "compressed_chunks": 0, "compression_ratio": None}


def _hyper(connection: psycopg.Connection[Any], table: str, *, licensed: bool) -> dict[str, Any]:
    row = connection.execute(SIZE_HYPER, (table, table)).fetchone()
    size, chunks, compressed = row or (0, 0, 0)
    ratio = None
    if licensed and compressed:
        before, after = connection.execute(COMPRESSED, (table,)).fetchone() or (None, None)
        ratio = round(before / after, 2) if before and after else None
    return {"bytes": size or 0, "chunks": chunks, "compressed_chunks": compressed, "compression_ratio": ratio}


def _aggregates(connection: psycopg.Connection[Any], now: datetime, newest: datetime | None) -> list[dict[str, Any]]:
    """Up to when each is made; `lag_s` is what of the newest readings is computed at each question."""
    found = []
    for name, schema, table in sorted(connection.execute(MATERIALIZED, (list(WIDTHS),)).fetchall()):
        row = connection.execute(sql.SQL("SELECT max(time) FROM {}").format(sql.Identifier(schema, table))).fetchone()
        until = row[0] + WIDTHS[name] if row and row[0] else None
        lag = (min(newest, now) - until).total_seconds() if until and newest else None
        found.append({"aggregate": name, "made_until": _iso(until), "lag_s": None if lag is None else max(0.0, lag)})
    return found


def _iso(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat() if time else None
