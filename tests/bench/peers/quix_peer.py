"""The standard work in Quix Streams, exactly once. Arguments: broker, name, folder."""

import sys
from typing import Any

from quixstreams import Application
from quixstreams.state.base import State
from work import step

broker, name, folder = sys.argv[1:4]
app = Application(
    broker_address=broker,
    consumer_group=name,
    auto_offset_reset="earliest",
    processing_guarantee="exactly-once",
    commit_interval=2.0,
    state_dir=folder,
    loglevel="WARNING",
    producer_extra_config={"linger.ms": 20, "compression.type": "lz4"},
)
raw = app.topic("readings.raw", key_deserializer="bytes", value_deserializer="bytes")
clean = app.topic(f"{name}-clean", key_serializer="bytes", value_serializer="bytes")
windows = app.topic(f"{name}-windows", key_serializer="bytes", value_serializer="bytes")


def work(data: bytes, state: State) -> tuple[bytes, list[bytes]]:
    cleaned, closed, after = step(data, state.get("windows"))
    state.set("windows", after)
    return cleaned, closed


def closed_ones(value: Any) -> list[bytes]:
    found: list[bytes] = value[1]
    return found


rows = app.dataframe(raw).apply(work, stateful=True)
rows.apply(lambda value: value[0]).to_topic(clean)
rows.filter(lambda value: bool(value[1])).apply(closed_ones, expand=True).to_topic(windows)
app.run()
