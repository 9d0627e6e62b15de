"""Every producer of Kafka's in the packages waits for all copies in step and is idempotent: read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from producers.delivery import client
from producers.settings import EdgeSettings

ROOT = Path(__file__).parents[2]
PACKAGES = ("producers", "streams", "sinks", "infra", "dashboard", "schemas")
WANTED = {"acks": "all", "enable.idempotence": True}
SENDER = "producers/delivery/sender.py"
"""Takes its options from `producers.delivery.client`, which is asked itself."""


def made() -> Iterator[tuple[str, ast.Call]]:
    for path in (path for top in PACKAGES for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Producer":
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


MADE = dict(made())


def test_the_sources_are_read():
    assert len(MADE) >= 8


@pytest.mark.parametrize("where", MADE)
def test_it_waits_for_all_copies(where):
    options = MADE[where].args[0]
    assert isinstance(options, ast.Dict), f"{where}: the options are written out where the producer is made"
    said = {
        key.value: value.value
        for key, value in zip(options.keys, options.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
    }
    if not where.startswith(SENDER):
        assert {name: said.get(name) for name in WANTED} == WANTED


def test_an_edge_waits_for_all_copies(tmp_path):
    options = client.options("127.0.0.1:1", EdgeSettings(spool=tmp_path))
    assert {name: options[name] for name in WANTED} == WANTED
