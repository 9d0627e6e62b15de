"""The nodes of the stack's own Kafka: one, or three that hold a copy of everything each. Knows folders and ports.

One lives in `kafka/`, three in `kafka-1/` to `kafka-3/`, each with a log and a restart of its own. How many there are
is decided when the storage is made.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from infra.kafka.broker import META, Broker, Door, new_cluster_id
from infra.ports import LOOPBACK
from schemas.errors import Refused

KAFKA = "kafka"
CONTROLLER = "controller"
NUMBERS = (1, 3)
"""Of nodes. Two would survive nothing: a quorum of two needs both."""


def names(number: int, *, of: str = KAFKA) -> list[str]:
    """What the nodes (or their controllers) are called: as parts, folders and logs."""
    return [of] if number == 1 else [f"{of}-{node}" for node in range(1, number + 1)]


def decided(folder: Path, asked: int | None) -> int:
    """How many nodes the stack in `folder` has: as it was made, else `asked`, else one. Raises `Refused` if it was
    made otherwise."""
    made = [number for number in NUMBERS if any((folder / name / META).exists() for name in names(number))]
    there = made[0] if made else None
    if there and asked and there != asked:
        raise Refused(
            f"the stack in {folder} was made with {_count(there)}, asked for {asked}: what it holds lies there. Leave "
            f"--brokers out, or make another stack (--dir) and point the edges there; this one may run until all of "
            "it is stored"
        )
    number = there or asked or 1
    if number not in NUMBERS:
        raise Refused(f"--brokers: expected {' or '.join(map(str, NUMBERS))}, got {number}")
    return number


def _count(number: int) -> str:
    return "one broker" if number == 1 else f"{number} brokers"


def nodes(
    folder: Path,
    number: int,
    ports: Mapping[str, int],
    *,
    doors: Mapping[str, tuple[Door, ...]],
    operator: str | None = None,
) -> list[Broker]:
    """The nodes, by `ports` of their names and of their controllers'. `doors` are their listeners for devices, which
    make all that come say who they are; `operator` is then the operator's password.

    A node whose folder is gone is formatted as a member of the same cluster, and copies from the others what it lacks.
    """
    controllers = {node: ports[name] for node, name in enumerate(names(number, of=CONTROLLER), start=1)}
    known = [_cluster_id(folder / name / META) for name in names(number)]
    cluster_id = next((each for each in known if each), None) or new_cluster_id()
    return [
        Broker(
            folder / name,
            ports[name],
            controllers[node],
            node,
            doors.get(name, ()),
            operator,
            quorum=None if number == 1 else controllers,
            cluster_id=cluster_id,
        )
        for node, name in enumerate(names(number), start=1)
    ]


def _cluster_id(meta: Path) -> str | None:
    found = re.search(r"^cluster\.id=(.+)$", meta.read_text(), re.MULTILINE) if meta.exists() else None
    return found[1].strip() if found else None


def address(brokers: list[Broker]) -> str:
    """For clients: any of these answers for all."""
    return ",".join(f"{LOOPBACK}:{each.port}" for each in brokers)
