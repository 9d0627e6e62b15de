"""Whether anything listens at a broker's address, within a second or two. Knows sockets; knows no Kafka.

librdkafka goes on trying until its time is up; a person who waits wants to know at once.
"""

import socket
import time
from contextlib import suppress


def reachable(address: str, *, within_s: float) -> bool:
    """Whether one of `HOST:PORT[,HOST:PORT...]` takes a connection. A name that cannot be resolved does not."""
    until = time.monotonic() + within_s
    for one in address.split(","):
        left = until - time.monotonic()
        if left <= 0:
            return False
        host, _, port = one.strip().rpartition("://")[2].rpartition(":")
        with suppress(OSError), socket.create_connection((host.strip("[]"), port), timeout=left):
            return True
    return False
