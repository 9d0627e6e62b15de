"""The standard work in plain Faust, at least once: event, table, awaited send. Arguments: broker, name, folder."""

import json
import sys
from pathlib import Path
from typing import Any

import faust
from faust.worker import Worker
from work import step

broker, name, folder = sys.argv[1:4]
app = faust.App(
    name,
    broker=f"kafka://{broker}",
    store="memory://",
    datadir=Path(folder),
    topic_partitions=12,
    key_serializer="raw",
    value_serializer="raw",
    consumer_auto_offset_reset="earliest",
    broker_max_poll_records=5000,
    stream_wait_empty=False,
    producer_linger_ms=20,
    producer_compression_type="lz4",
    web_enabled=False,
)
raw = app.topic("readings.raw", key_type=bytes, value_type=bytes)
clean = app.topic(f"{name}-clean", key_type=bytes, value_type=bytes)
windows = app.topic(f"{name}-windows", key_type=bytes, value_type=bytes)
states = app.Table("windows", key_type=bytes, value_type=bytes)


@app.agent(raw)
async def work(stream: Any) -> None:
    async for event in stream.events():
        kept = states.get(event.key)
        cleaned, closed, after = step(event.value, json.loads(kept) if kept else None)
        states[event.key] = json.dumps(after).encode()
        await clean.send(key=event.key, value=cleaned)
        for each in closed:
            await windows.send(key=event.key, value=each)


worker = Worker(app, loglevel="warning", redirect_stdouts=False, quiet=True)
worker.spinner = None
worker.execute_from_commandline()
