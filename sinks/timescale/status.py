"""Where the sink stands, beside where Kafka ends; what schema the database has. For people and scripts."""

from typing import Any

import psycopg
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.offsets import ends
from schemas.errors import Unavailable
from sinks.timescale import schema
from sinks.timescale.inventory import holdings
from sinks.timescale.positions import SINK

POSITIONS = """
SELECT topic, part, next_offset, generation, epoch, owner, updated_at
FROM sink_offsets WHERE sink = %s ORDER BY topic, part"""
VERSIONS = """
SELECT now(), current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'),
  current_setting('timescaledb.license', true), pg_database_size(current_database())"""
FEATURES = {"plain": "partitions by month", "timescaledb": "hypertables", "views": "statistics as views"}
FEATURES["aggregates"] = "continuous aggregates, compression"
ANSWER_S = 10.0
GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC}


def positions(connection: psycopg.Connection[Any], admin: AdminClient) -> list[dict[str, Any]]:
    """One entry for each partition. `lag` counts offsets up to the last committed one; null when Kafka has none."""
    rows = connection.execute(POSITIONS, (SINK,)).fetchall() if schema.applied(connection) else []
    stops: dict[tuple[str, int], int] = {}
    for topic in dict.fromkeys(row[0] for row in rows):
        try:
            mine = [TopicPartition(topic, row[1]) for row in rows if row[0] == topic]
            stops |= ends(admin, mine, within_s=ANSWER_S, level=IsolationLevel.READ_COMMITTED)
        except KafkaException as error:
            if error.args[0].code() not in GONE:
                raise Unavailable(f"Kafka: {error.args[0].str()}") from None
    return [
        {
            "topic": topic,
            "partition": part,
            "next_offset": stands,
            "end_offset": (end := stops.get((topic, part))),
            "lag": None if end is None else max(0, end - stands),
            "generation": generation,
            "epoch": epoch,
            "owner": owner,
            "updated_at": updated.isoformat(),
        }
        for topic, part, stands, generation, epoch, owner, updated in rows
    ]


def database(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """Versions, features, migrations, and what the tables hold."""
    row = connection.execute(VERSIONS).fetchone()
    assert row is not None  # noqa: S101 - a SELECT without FROM
    now, server, timescaledb, licence, size = row
    had = schema.applied(connection)
    known = schema.migrations()
    flavours = {migration.flavour for migration in known if migration.name in had} - {None}
    fitting = {m.name for m in known if m.flavour is None or m.flavour in flavours}
    about: dict[str, Any] = {
        "server": server,
        "timescaledb": timescaledb,
        "licence": licence if timescaledb else None,
        "features": sorted(FEATURES[str(flavour)] for flavour in flavours),
        "bytes": size,
        "applied": list(had),
        "pending": sorted(fitting - had.keys()) if had else [m.name for m in known if m.flavour is None],
    }
    if had and not about["pending"]:
        licensed = "aggregates" in flavours
        about |= holdings(connection, timescale="timescaledb" in flavours, licensed=licensed, now=now)
    return about
