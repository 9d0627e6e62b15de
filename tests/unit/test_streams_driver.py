"""The driver beneath Faust keeps nothing of what it has handed over: offsets are committed elsewhere."""

import subprocess
import sys

# In a process of its own: Faust leaves event loops unclosed.
SCRIPT = """
import asyncio
from types import SimpleNamespace
import faust
from faust.types import TP
from streams.agents.driver import PollTransport

async def nothing(*_): ...

async def main():
    app = faust.App("t", broker="kafka://127.0.0.1:1", store="memory://", topic_allow_declare=False)
    app.topics.acks_enabled_for = lambda topic: True
    consumer = PollTransport(app.conf.broker_consumer, app).create_consumer(
        callback=nothing, on_partitions_revoked=nothing, on_partitions_assigned=nothing)
    tp = TP("readings.raw", 0)
    for number in range(3):
        records = [SimpleNamespace(topic=tp.topic, partition=0, offset=10 * number + at, timestamp=0, timestamp_type=1)
                   for at in range(10)]
        message = consumer._to_message(tp, records)
        assert (message.offset, len(message.records)) == (10 * number + 9, 10)
        consumer.track_message(message)
        await consumer._add_gap(tp, 10 * number, message.offset)
        assert consumer.ack(message)
    kept = [len(of_tp) for kind in (consumer._acked, consumer._acked_index, consumer._gap) for of_tp in kind.values()]
    print(len(consumer.unacked), sum(kept))

asyncio.run(main())
"""


def test_acknowledged_events_leave_nothing_behind() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "0 0\n", done.stderr


ASSIGNING = """
from types import SimpleNamespace
from streams.agents import app

app.PartitionAssignor.assign = lambda *_: "shared out"
assignor = object.__new__(app.Assignor)
told = {topic: {0, 1} for topic in app.SOURCES}
cluster = SimpleNamespace(partitions_for_topic=told.get)
print(assignor.assign(cluster, {}), flush=True)
del told["readings.raw"]
assignor.assign(cluster, {})
print("nothing shared out")
"""


def test_topics_that_the_broker_does_not_tell_of_are_not_shared_out_as_nothing() -> None:
    """Seen after a broker's restart: every worker was given no partition, for good."""
    ran = subprocess.run([sys.executable, "-c", ASSIGNING], capture_output=True, text=True, check=False, timeout=120)
    assert (ran.stdout, ran.returncode) == ("shared out\n", 1), ran.stderr
    assert "does not tell of readings.raw" in ran.stderr
