"""A word to systemd, if it is who started us. Knows its datagram; does nothing elsewhere."""

import os
import socket
from contextlib import suppress


def notify(word: str) -> None:
    """`READY=1`, `WATCHDOG=1`, `STOPPING=1`."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.sendto(word.encode(), address)
