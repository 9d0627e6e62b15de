"""Schema ids from a Confluent-compatible Schema Registry instead of the bundle. Knows its client; asks it once per id.

Registers the bundle's schemas under `<name>-value` where the registry does not know them; the registry's own
compatibility rule then applies. What it cannot tell is unreadable, what it does not answer is `Unavailable`.
"""

import json

from confluent_kafka.schema_registry import Schema as RegisteredSchema
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from schemas.bundle import BUNDLE, Schema
from schemas.columnar import Unread, Unreadable
from schemas.errors import Unavailable


class RegistrySource:
    """A `SchemaSource` over a registry's URL (`mock://` works within one process)."""

    def __init__(self, url: str) -> None:
        self._client = SchemaRegistryClient({"url": url})
        self._url = url

    def written_as(self, name: str) -> int:
        try:
            registered = RegisteredSchema(BUNDLE.newest(name).text, "AVRO")
            return int(self._client.register_schema(f"telltale.{name}-value", registered))
        except (SchemaRegistryError, OSError) as error:
            raise Unavailable(f"schema registry {self._url}: {error}") from None

    def by_id(self, schema_id: int) -> Schema:
        try:
            text = self._client.get_schema(schema_id).schema_str
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                raise Unreadable(Unread.UNKNOWN_SCHEMA, f"the registry has no schema {schema_id}") from None
            raise Unavailable(f"schema registry {self._url}: {error}") from None
        except OSError as error:
            raise Unavailable(f"schema registry {self._url}: {error}") from None
        parsed = json.loads(text)
        for known in BUNDLE.schemas:
            if json.loads(known.text) == parsed:
                return known
        raise Unreadable(Unread.UNKNOWN_SCHEMA, f"schema {schema_id} of the registry is none of Telltale's")
