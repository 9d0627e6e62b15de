"""The example payloads of the contract as Avro values, and what every reader must make of them."""

import json
import math
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from schemas.bundle import BUNDLE, Schema
from schemas.codec import HEADER, MAGIC

EXAMPLES = sorted(path.name for path in (files("schemas") / "examples").iterdir() if path.name.endswith(".json"))
JSON_SCHEMAS = ("alarm", "alarm_action")
AVRO = [name for name in EXAMPLES if name.partition(".")[0] not in JSON_SCHEMAS]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def example(name: str) -> Any:
    """The file as it stands."""
    return json.loads((files("schemas") / "examples" / name).read_text())


def schema_of(name: str) -> Schema:
    """The schema and version that an example's name says."""
    schema, version = name.split(".")[:2]
    return next(s for s in BUNDLE.versions(schema) if s.version == int(version.removeprefix("v")))


def avro_value(schema: Any, value: Any, named: dict[str, Any] | None = None) -> Any:
    """A readable example as Avro wants it: times as microseconds, "NaN" as a number, hexadecimal as bytes."""
    named = {} if named is None else named
    if isinstance(schema, list):
        return None if value is None else avro_value(next(s for s in schema if s != "null"), value, named)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "record":
        assert set(value) == {field["name"] for field in schema["fields"]}
        return {field["name"]: avro_value(field["type"], value[field["name"]], named) for field in schema["fields"]}
    if kind == "array":
        return [avro_value(schema["items"], item, named) for item in value]
    if kind == "long" and isinstance(value, str):
        since = datetime.fromisoformat(value) - EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if kind == "bytes":
        return bytes.fromhex(value)
    return float(value) if kind == "double" else value


def framed(schema: Schema, body: bytes) -> bytes:
    return HEADER.pack(MAGIC, schema.id) + body


def comparable(value: Any) -> Any:
    """What a reader made of a record, so that results of different readers can be compared."""
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    elif is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif hasattr(value, "tolist"):
        value = value.reshape(-1).tolist()
    if isinstance(value, dict):
        return {name: comparable(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [comparable(part) for part in value]
    if isinstance(value, datetime):
        since = value - EPOCH
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return "NaN" if isinstance(value, float) and math.isnan(value) else value
