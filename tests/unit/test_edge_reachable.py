"""Whether anything listens at a broker's address."""

import socket
import time

from infra import ports
from producers.delivery.reachable import reachable


def test_one_of_several_addresses_is_enough() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = f"127.0.0.1:{listening.getsockname()[1]}"
        assert reachable(f"127.0.0.1:{ports.free()}, {there}", within_s=10)
        assert reachable(f"PLAINTEXT://{there}", within_s=10)


def test_nobody_there_is_known_at_once() -> None:
    began = time.monotonic()
    assert not reachable(f"127.0.0.1:{ports.free()},[::1]:{ports.free()},nonsense", within_s=5)
    assert time.monotonic() - began < 1
