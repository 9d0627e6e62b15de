"""The Avro schemas that come with Telltale, and their ids on the wire. Knows files; knows no registry.

An id stands for one version of one schema for ever: a new version gets a new file and a new id, and the old ones
stay, so that a reader of today understands a writer of then.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Protocol

import fastavro

from schemas.columnar import Unread, Unreadable
from schemas.strict import Walk, walker


@dataclass(frozen=True)
class Schema:
    """One version of one schema."""

    name: str
    version: int
    id: int
    text: str

    @cached_property
    def parsed(self) -> Any:
        """As fastavro wants it."""
        return fastavro.parse_schema(json.loads(self.text))

    @cached_property
    def plain(self) -> Any:
        """The same without logical types: times stay numbers, also those that no calendar has."""
        return fastavro.parse_schema(_without_logical_types(json.loads(self.text)))

    @cached_property
    def walk(self) -> Walk:
        """Checks that bytes are exactly one record of it."""
        return walker(self.text)


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_logical_types(part) for name, part in schema.items() if name != "logicalType"}
    return [_without_logical_types(part) for part in schema] if isinstance(schema, list) else schema


class SchemaSource(Protocol):
    """Where ids come from: the bundle, or a Schema Registry (`schemas.registry`)."""

    def written_as(self, name: str) -> int:
        """The id that a writer of the newest `name` puts in front."""

    def by_id(self, schema_id: int) -> Schema:
        """The schema behind an id. Raises `Unreadable(UNKNOWN_SCHEMA)`."""


# (name, version): id. Never change a line; add one.
IDS: Mapping[tuple[str, int], int] = MappingProxyType(
    {
        ("raw_frame", 1): 1,
        ("clean_frame", 1): 2,
        ("window_frame", 1): 3,
        ("heartbeat", 1): 4,
        ("device", 1): 5,
        ("rejected", 1): 6,
        ("import_status", 1): 7,
        ("device_state", 1): 8,
        ("device", 2): 9,
        ("import_status", 2): 10,
        ("device_state", 2): 11,
        ("device_state", 3): 12,
        ("import_status", 3): 13,
    }
)


class Bundle:
    """All schemas of the package."""

    def __init__(self) -> None:
        folder = files("schemas") / "avro"
        self.schemas = tuple(
            Schema(name, version, schema_id, (folder / f"{name}.v{version}.avsc").read_text())
            for (name, version), schema_id in IDS.items()
        )
        self._by_id = {schema.id: schema for schema in self.schemas}
        self._newest = {s.name: s for s in sorted(self.schemas, key=lambda s: s.version)}

    def newest(self, name: str) -> Schema:
        return self._newest[name]

    def versions(self, name: str) -> tuple[Schema, ...]:
        """Oldest first."""
        return tuple(sorted((s for s in self.schemas if s.name == name), key=lambda s: s.version))

    def written_as(self, name: str) -> int:
        return self._newest[name].id

    def by_id(self, schema_id: int) -> Schema:
        try:
            return self._by_id[schema_id]
        except KeyError:
            raise Unreadable(Unread.UNKNOWN_SCHEMA, f"schema id {schema_id} is not in the bundle") from None


BUNDLE = Bundle()
