"""What every Kafka client of Telltale says about its connection. Knows options; opens nothing.

librdkafka writes a line to standard error for each failed try, twenty a second; what it has to say reaches us as
errors of the calls, which say it once.
"""

from typing import Any


def connection(address: str) -> dict[str, Any]:
    """Options for a producer, consumer or admin client of `confluent_kafka`."""
    return {
        "bootstrap.servers": address,
        "log_level": 0,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 5_000,
        "socket.keepalive.enable": True,
        # Who leads what is asked again so often. A client that only asks questions (an admin client, above all for the
        # ends of logs) goes on asking a broker that is lost until then: five minutes by default, in which a sink that
        # was given partitions could not open them.
        "topic.metadata.refresh.interval.ms": 5_000,
    }


def reader(address: str, *, group: str) -> dict[str, Any]:
    """Options for a consumer that reads partitions to their end and commits nothing.

    `group` is only a name, or whose committed offsets are asked for: the consumer never joins it.
    """
    return {
        **connection(address),
        "group.id": group,
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,  # at the end of the log, say so at once
        "auto.offset.reset": "earliest",
    }
