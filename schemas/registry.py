"""Schema ids from a Confluent-compatible Schema Registry instead of the bundle. Knows its client; asks it once per id.

Registers the bundle's schemas under `<name>-value` where the registry does not know them; the registry's own
compatibility rule then applies. What it cannot tell is unreadable, what it does not answer is `Unavailable`.
"""

import json
from typing import Any

from confluent_kafka.schema_registry import Schema as RegisteredSchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.bundle import BUNDLE, Schema
from schemas.columnar import Unread, Unreadable
from schemas.errors import Refused, Unavailable

NOT_FOUND = 404
ANSWER_S = 10
RETRIES = 2
"""A registry is asked when a process starts, not for each record; half a minute is the most that it may hold us up."""

LATER = 0
"""The number of a version that came after this Telltale: which one it is, only its own bundle knows."""

UNKNOWN_MAX = 4_096
"""Ids that are nobody's: more than versions ever made, few enough to forget about."""


class RegistrySource:
    """A `SchemaSource` over a registry's URL (`mock://` works within one process)."""

    def __init__(self, url: str) -> None:
        try:
            self._client = SchemaRegistryClient.new_client({"url": url, "timeout": ANSWER_S, "max.retries": RETRIES})
        except ValueError as error:
            raise Refused(f"schema registry {url}: {error}") from None
        self._url = url
        self._unknown: dict[int, str] = {}

    def written_as(self, name: str) -> int:
        registered = RegisteredSchema(BUNDLE.newest(name).text, "AVRO")
        try:
            return int(self._client.register_schema(f"telltale.{name}-value", registered))
        except Exception as error:  # noqa: BLE001 - the client lets its HTTP library's errors through, whichever it is
            raise Unavailable(f"schema registry {self._url}: {error}") from None

    def by_id(self, schema_id: int) -> Schema:
        if schema_id in self._unknown:
            raise Unreadable(Unread.UNKNOWN_SCHEMA, self._unknown[schema_id])
        try:
            text = self._client.get_schema(schema_id).schema_str
        except Exception as error:  # noqa: BLE001 - as above
            if isinstance(error, SchemaRegistryError) and error.http_status_code == NOT_FOUND:
                raise self._not_ours(schema_id, f"the registry has no schema {schema_id}") from None
            raise Unavailable(f"schema registry {self._url}: {error}") from None
        try:
            parsed = json.loads(text)
        except (TypeError, ValueError):  # a schema of another kind
            parsed = None
        for known in BUNDLE.schemas:
            if json.loads(known.text) == parsed:
                return known
        if (later := self._later(schema_id, text, parsed)) is not None:
            return later
        raise self._not_ours(schema_id, f"schema {schema_id} of the registry is none of Telltale's")

    def _later(self, schema_id: int, text: str, parsed: Any) -> Schema | None:
        """A version of one of ours that a newer Telltale has registered, if we can walk it: its writer was updated
        before its reader. What our version lacks is left out; whether the rest fits, the registry's own rule says."""
        if not isinstance(parsed, dict):
            return None
        for ours in (BUNDLE.newest(name) for name in {known.name for known in BUNDLE.schemas}):
            mine = json.loads(ours.text)
            if (mine["namespace"], mine["name"]) != (parsed.get("namespace"), parsed.get("name")):
                continue
            later = Schema(ours.name, LATER, schema_id, text)
            try:
                _ = later.walk, later.parsed, later.plain
            except Exception:  # noqa: BLE001 - whatever somebody has registered under our name
                return None
            return later
        return None

    def _not_ours(self, schema_id: int, detail: str) -> Unreadable:
        """Remembers the answer: a writer registers before it writes, and nobody may make us ask for each record."""
        if len(self._unknown) < UNKNOWN_MAX:
            self._unknown[schema_id] = detail
        return Unreadable(Unread.UNKNOWN_SCHEMA, detail)
