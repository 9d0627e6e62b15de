"""The broker and the database that all other integration tests stand on."""

import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from infra.offsets import span
from infra.provision import check
from schemas.topics import HEARTBEATS, PARTITIONS, READINGS_RAW

pytestmark = pytest.mark.integration


def test_cluster_has_the_catalogue(cluster: str) -> None:
    assert check(cluster) == []
    assert len(AdminClient({"bootstrap.servers": cluster}).list_topics().topics[READINGS_RAW].partitions) == PARTITIONS


@pytest.mark.parametrize("round_", [1, 2])
def test_each_test_meets_empty_topics(cluster: str, round_: int) -> None:
    producer = Producer({"bootstrap.servers": cluster})
    producer.produce(HEARTBEATS, b"beat", partition=0)
    assert producer.flush(10) == 0
    consumer = Consumer({"bootstrap.servers": cluster, "group.id": f"round-{round_}"})
    try:
        assert span(consumer, HEARTBEATS, 0) == (0, 1)
    finally:
        consumer.close()


def test_each_test_has_an_empty_database(database: str) -> None:
    with psycopg.connect(database) as connection:
        tables = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
        zone = connection.execute("show timezone").fetchone()
    assert (tables, zone) == ((0,), ("UTC",))
