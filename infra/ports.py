"""Loopback ports: is this one free, and which ones are. Holds none open."""

import random
import socket

from schemas.errors import Refused, Unavailable

LOOPBACK = "127.0.0.1"
RANGE = range(20_000, 32_000)
"""Below the ports that Linux gives to outgoing connections, so that none of those takes one of ours between
the moment it was found free and the moment its server binds it."""


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port whose last connections still linger can be bound again.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free(*, preferred: int | None = None, taken: frozenset[int] = frozenset()) -> int:
    """A free port outside `taken`: `preferred` if that one is free, else any in `RANGE`."""
    if preferred and preferred not in taken and is_free(preferred):
        return preferred
    for port in random.sample(RANGE, k=200):  # with a tenth of the range free, the chance to miss is 1e-9
        if port not in taken and is_free(port):
            return port
    raise Unavailable(f"no free port between {RANGE.start} and {RANGE.stop} on {LOOPBACK}")


def asked_for(port: int, *, option: str) -> int:
    """`port` as named by a user. Raises `Refused` if something else listens there."""
    if not is_free(port):
        raise Refused(f"{option}: port {port} on {LOOPBACK} is in use; name another one or leave the option out")
    return port
