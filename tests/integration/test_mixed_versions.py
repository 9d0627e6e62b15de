"""A rolling upgrade, end to end: bytes of a former release pass today's server, those of a later one wait for it."""

import json
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer
from fix_services import Start, await_true
from fix_stage import Wire

from infra.client import connection
from infra.settle import STAGES, behind
from schemas.bundle import IDS
from schemas.codec import HEADER, MAGIC
from schemas.columnar import Unread
from schemas.keys import PARTITIONER
from schemas.rejection import unread
from schemas.topics import DEVICES, HEARTBEATS, READINGS_RAW

pytestmark = pytest.mark.integration

RELEASED = json.loads((Path(__file__).parents[1] / "contract" / "released.json").read_text())["bytes"]
DEVICE = "demo-mast"


@pytest.fixture
def device_partitions() -> int:
    return 2


def test_an_old_edge_is_stored_by_a_new_server_and_a_new_edge_waits_for_one(
    wire: Wire, database: str, start: Start
) -> None:
    def say(topic: str, value: bytes, key: str = DEVICE) -> None:
        producer.produce(topic, value, key.encode())
        assert producer.flush(30) == 0

    producer = Producer({**connection(wire.kafka), "partitioner": PARTITIONER, "acks": "all"})
    old = {name: bytes.fromhex(data) for name, data in RELEASED.items()}
    say(DEVICES, old["device.v1.mast"])  # as an old `telltale stations` wrote it
    say(HEARTBEATS, old["heartbeat.v1.busy"])
    frame = old["raw_frame.v1.two_rows"]
    say(READINGS_RAW, frame)
    later = HEADER.pack(MAGIC, max(IDS.values()) + 1) + frame[HEADER.size :] + b"\0"
    say(READINGS_RAW, later)
    for name in ("streams", "sink"):
        start(name, "run", TELLTALE_KAFKA=wire.kafka, TELLTALE_DATABASE=database).await_ready()
    for group, topics in STAGES.items():
        await_true(lambda g=group, t=topics: not behind(wire.kafka, g, t), what=f"{group} settled", within_s=90)

    with psycopg.connect(database) as connected:
        rows = connected.execute(
            "select channel, extract(epoch from time)::bigint, logged from readings join sensors using (sensor_id) "
            "where device_id = %s order by time, channel",
            (DEVICE,),
        ).fetchall()
        beats = connected.execute("select count(*) from heartbeats").fetchone()
    first, second = 1_483_552_200, 1_483_552_800
    assert rows == [("Spd40mS", first, 9.07), ("Spd40mS", second, 8.81)]  # the one channel that is configured
    assert beats == (1,)
    kept = [each.payload for each in wire.rejected() if each.reason == unread(Unread.UNKNOWN_SCHEMA)]
    assert kept == [later]  # whole, for the server that knows it
