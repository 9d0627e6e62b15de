"""A TCP proxy for tests: cuts, delays, throttles and loses connections between an edge and its broker."""

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from infra import ports

CHUNK_BYTES = 1_400  # as a packet carries
STALL_S = 0.3  # a little above the shortest retransmission timeout


class Proxy:
    """Listens at `address`. What is set counts for connections that are open, too."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.refuses = False
        self.delay_s = 0.0  # of each chunk, each way
        self.bytes_per_s: float | None = None  # of all connections together, each way
        self.cut_chance = 0.0  # of a chunk to break its connection
        self.stall_chance = 0.0  # of a chunk to be held back for STALL_S, as TCP does with a packet that was lost
        self._chance = random.Random(5)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._turn = {True: threading.Lock(), False: threading.Lock()}  # one line for each direction
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", ports.free()))
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def heal(self) -> None:
        """As a good line."""
        self.refuses, self.delay_s, self.bytes_per_s = False, 0.0, None
        self.cut_chance = self.stall_chance = 0.0

    def cut(self) -> None:
        """Break every connection."""
        with self._lock:
            for line in self._open:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.refuses:
                    raise OSError
                server = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for up, one, other in ((True, client, server), (False, server, client)):
                thread = threading.Thread(target=self._pump, args=(one, other, up), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, one: socket.socket, other: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while chunk := one.recv(
                CHUNK_BYTES if self.bytes_per_s or self.cut_chance or self.stall_chance else 65_536
            ):
                if self.cut_chance and self._chance.random() < self.cut_chance:
                    break
                if self.stall_chance and self._chance.random() < self.stall_chance:
                    time.sleep(STALL_S)
                if self.delay_s:
                    time.sleep(self.delay_s)
                if rate := self.bytes_per_s:  # once: it may be healed at any moment
                    with self._turn[up]:
                        time.sleep(len(chunk) / rate)
                other.sendall(chunk)
        for line in (one, other):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        with self._lock:
            mine = one in self._open
            self._open.discard(one)
        if mine:
            one.close()


@pytest.fixture
def proxy_to() -> Iterator[Callable[[int], Proxy]]:
    """Makes a proxy to a port."""
    made: list[Proxy] = []

    def make(port: int) -> Proxy:
        made.append(Proxy(port))
        return made[-1]

    yield make
    for each in made:
        each.close()
