"""Kafka Connect with Debezium's JDBC sink, standalone, on the class path: what people would take instead of the sink.

The jars come from Maven Central by way of jgo, once; where they are not to be had there is no peer. Hibernate's pool is
named by hand, as the connector names a version that does not exist; and jgo mixes versions of Kafka.

Debezium writes a row a record and cannot read frames: its topic holds the same readings as JSON, whose schema is given
to the converter once. It does not find a partitioned table either, so that it is given the month's own.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from infra import cache, java
from infra.kafka import broker
from infra.kafka.jars import kafka_version

CONNECTOR = "io.debezium:debezium-connector-jdbc:3.6.0.Final"
POOL = "org.hibernate.orm:hibernate-agroal:7.2.19.Final"
BATCH = 5_000

FIELDS = [("sensor_id", "int32"), ("time", "string"), ("logged", "double"), ("value", "double"), ("quality", "int16"),
          ("tests", "int32")]  # fmt: skip
SCHEMA = {
    "type": "struct",
    "name": "reading",
    "fields": [
        {"field": name, "type": kind, "optional": False}
        | ({"name": "io.debezium.time.ZonedTimestamp", "version": 1} if name == "time" else {})
        for name, kind in FIELDS
    ],
}


def class_path() -> str:
    """Jars of the broker, of Connect in the same version, and of the connector. Any error means: none to be had."""
    from jgo.maven import MavenContext

    folder = cache.cache_dir() / f"debezium-{CONNECTOR.rpartition(':')[2]}-{kafka_version()}"
    kept = folder / "class-path"
    ours = broker.prepared_class_path()
    if not kept.exists():
        maven = MavenContext(repo_cache=folder, timeout=60)
        connect = [f"org.apache.kafka:{name}:{kafka_version()}" for name in ("connect-runtime", "connect-json")]
        found: dict[str, str] = {}
        for wanted in ([connect[0]], [connect[1]], [POOL], [CONNECTOR]):
            dependencies = [maven.create_dependency(each) for each in wanted]
            for each in dependencies:
                each.scope = "compile"
            inputs, transitive = maven.resolver.resolve(dependencies)
            for each in (*inputs, *transitive):
                if each.scope not in ("compile", "runtime"):
                    continue
                artifact, name = each.artifact, f"{each.artifact.groupId}:{each.artifact.artifactId}"
                if name in found or name == "org.hibernate:hibernate-agroal":
                    continue
                if artifact.groupId == "org.apache.kafka" and artifact.version != kafka_version():
                    continue
                try:
                    found[name] = str(artifact.resolve())
                except Exception:
                    if artifact.artifactId in ("connect-runtime", "debezium-connector-jdbc", "hibernate-agroal"):
                        raise
        kept.write_text(os.pathsep.join(found.values()))
    there = {Path(jar).name for jar in ours.split(os.pathsep)}
    more = [jar for jar in kept.read_text().split(os.pathsep) if Path(jar).name not in there]
    return os.pathsep.join([ours, *more])


def record(row: tuple[int, str, float, float, int, int]) -> bytes:
    """One reading as `converter` reads it."""
    return json.dumps(dict(zip((name for name, _ in FIELDS), row, strict=True))).encode()


@contextmanager
def running(jars: str, *, kafka: str, dsn: str, topic: str, table: str, folder: Path) -> Iterator[tuple[Path, int]]:
    """Connect at work; its log and its process."""
    at = urlsplit(dsn)
    worker, sink = folder / "worker.properties", folder / "sink.properties"
    converter = "org.apache.kafka.connect.json.JsonConverter"
    worker.write_text(_properties({
        "bootstrap.servers": kafka,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": converter,
        "value.converter.schemas.enable": "true",
        "value.converter.schema.content": json.dumps(SCHEMA),
        "offset.storage.file.filename": str(folder / "offsets"),
        "listeners": "http://127.0.0.1:0",
        "consumer.max.poll.records": BATCH,
        "consumer.auto.offset.reset": "earliest",
    }))  # fmt: skip
    sink.write_text(_properties({
        "name": "debezium",
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": 1,
        "topics": topic,
        "connection.url": f"jdbc:postgresql://{at.hostname}:{at.port}{at.path}",
        "connection.username": at.username,
        "connection.password": at.password,
        "insert.mode": "upsert",
        "primary.key.mode": "record_value",
        "primary.key.fields": "sensor_id,time",
        "schema.evolution": "none",
        "collection.name.format": table,
        "batch.size": BATCH,
        "dialect.postgres.unnest.insert.enabled": "true",
    }))  # fmt: skip
    log, logging = folder / "connect.log", folder / "log4j2.properties"
    logging.write_text((files("infra.kafka") / "log4j2.properties").read_text())
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                java.find().program,
                "-Xmx1g",
                f"-Dlog4j2.configurationFile={logging}",
                "-Dtelltale.log.level=WARN",
                "-cp",
                jars,
                "org.apache.kafka.connect.cli.ConnectStandalone",
                worker,
                sink,
            ],
            stdout=out,
            stderr=out,
            cwd=folder,
        )
    try:
        yield log, process.pid
    finally:
        process.kill()
        process.wait()


def _properties(values: dict[str, object]) -> str:
    return "".join(f"{name}={str(value).replace(chr(92), chr(92) * 2)}\n" for name, value in values.items())
