"""Who may know whom: the imports of every package, read from the source, against the table of the layout.

Services never import each other: they meet only through topics and tables.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"producers", "streams", "sinks", "schemas", "infra", "dashboard"}

MAY_IMPORT = {
    "schemas": {"schemas"},
    "infra": {"infra", "schemas"},
    "producers": {"producers", "infra", "schemas"},
    "streams": {"streams", "infra", "schemas"},
    "sinks": {"sinks", "infra", "schemas"},
    "dashboard": {"dashboard", "infra", "schemas"},
}

LEAF = {"numpy", "pydantic", "fastavro", "orjson"}
"""What the contract needs beside the standard library."""

LEAF_EXCEPTIONS = {
    "schemas/registry.py": {"confluent_kafka"},  # only where a Schema Registry is configured
    "schemas/compatibility.py": {"avro"},  # only where the check runs: at a developer's
}

NOT_CORE = ("streams/agents/", "streams/trial/", "streams/cli.py", "streams/settings.py")

CORE_MAY_IMPORT = {"streams", "schemas", "numpy"}

NOT_PURE = {
    *(
        "asyncio",
        "ctypes",
        "io",
        "locale",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
    ),
    *(
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
        "warnings",
    ),
}
"""Parts of the standard library that know the clock, the machine, or chance."""

CORE_SCHEMAS = {"alarm_rules", "alarms", "columnar", "devices", "frames", "limits", "quality", "records", "rejection"}
"""Of the contract the core knows what things are, not how they are written."""

CLOCKS = {"now", "utcnow", "today"}
REACHES_OUT = {"open", "input", "print", "__import__", "import_module"}


def sources(*packages: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for package in packages for path in (ROOT / package).rglob("*.py"))


def core() -> list[str]:
    return [path for path in sources("streams") if not path.startswith(NOT_CORE)]


def parsed(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), path)


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all that is imported, at the top or inside a function, and what import_module is told."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(path: str) -> set[str]:
    return {name.partition(".")[0] for name in imported(parsed(path))}


def foreign(path: str) -> set[str]:
    """What is neither ours nor of the standard library."""
    return tops(path) - OURS - sys.stdlib_module_names


def called(tree: ast.AST) -> set[str]:
    """Last names of all that is called: `datetime.now()` is now, `open()` is open, `windows.open` is nothing."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {getattr(call, "attr", None) or getattr(call, "id", "") for call in calls}


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_imports_only_those_it_may_know(package: str) -> None:
    for path in sources(package):
        assert tops(path) & OURS <= MAY_IMPORT[package], path


@pytest.mark.parametrize("package", sorted(OURS))
def test_no_package_imports_tests(package: str) -> None:
    for path in sources(package):
        assert not tops(path) & {"tests", "pytest", "hypothesis"}, path


def test_schemas_is_a_leaf() -> None:
    for path in sources("schemas"):
        assert foreign(path) <= LEAF | LEAF_EXCEPTIONS.get(path, set()), path


OUTSIDE_AGENTS = [path for path in sources(*OURS) if not path.startswith("streams/agents/")]


@pytest.mark.parametrize("path", OUTSIDE_AGENTS)
def test_faust_is_known_only_to_the_agents(path: str) -> None:
    assert not tops(path) & {"faust", "mode", "aiokafka"}


@pytest.mark.parametrize("path", core())
def test_the_streams_core_is_pure(path: str) -> None:
    tree = parsed(path)
    modules = {name.partition(".")[0] for name in imported(tree)}
    assert modules - sys.stdlib_module_names <= CORE_MAY_IMPORT
    assert not modules & NOT_PURE
    assert not called(tree) & (CLOCKS | REACHES_OUT)
    inner = {name.split(".")[1] for name in imported(tree) if name.startswith(("streams.", "schemas."))}
    assert not inner & {"agents", "cli", "settings"}
    assert {name.split(".")[1] for name in imported(tree) if name.startswith("schemas.")} <= CORE_SCHEMAS


def test_the_core_is_where_it_is_looked_for() -> None:
    names = {Path(path).stem for path in core()}
    assert names >= {
        "pipeline",
        "validation",
        "calibration",
        "windows",
        "sequences",
        "lifecycle",
        "state",
        "plan",
        "judge",
    }


def test_reading_the_clock_is_found() -> None:
    assert called(ast.parse("x = datetime.now(UTC)")) & CLOCKS


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def f():\n    import sinks.timescale", "sinks.timescale"),
        ("from producers.spool import x", "producers.spool.x"),
    ],
)
def test_an_import_is_found_wherever_it_stands(text: str, name: str) -> None:
    assert list(imported(ast.parse(text))) == [name]
