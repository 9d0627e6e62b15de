"""The standard work in Bytewax, without a recovery store, which flatters it. Arguments: broker, name, folder."""

import sys
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from confluent_kafka import OFFSET_BEGINNING
from work import step

broker, name, _ = sys.argv[1:4]


def work(state: Any, message: Any) -> tuple[Any, tuple[bytes, list[bytes]]]:
    cleaned, closed, after = step(message.value, state)
    return after, (cleaned, closed)


flow = Dataflow(name.replace("-", "_"))
source = KafkaSource([broker], ["readings.raw"], starting_offset=OFFSET_BEGINNING, batch_size=5000)
out = {"linger.ms": "20", "compression.type": "lz4"}
messages = op.input("raw", flow, source)
keyed = op.key_on("device", messages, lambda message: message.key.decode())
worked = op.stateful_map("work", keyed, work)
clean = op.map("cleaned", worked, lambda pair: KafkaSinkMessage(pair[0].encode(), pair[1][0]))
closed = op.flat_map("closed", worked, lambda pair: [KafkaSinkMessage(pair[0].encode(), each) for each in pair[1][1]])
op.output("clean", clean, KafkaSink([broker], f"{name}-clean", add_config=out))
op.output("windows", closed, KafkaSink([broker], f"{name}-windows", add_config=out))
cli_main(flow)
