"""A rolling upgrade on the wire: what was released before is read, and what comes after is read or refused by name.

Old bytes are frozen in `released.json`; a later version is planted in a Schema Registry, as a newer Telltale would.
"""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest
from wire_examples import avro_value, comparable, example, schema_of

from schemas.bundle import BUNDLE, IDS
from schemas.codec import HEADER, MAGIC, Codec
from schemas.columnar import Unread, Unreadable
from schemas.devices import Device
from schemas.frames import FRAMES, RawFrame
from schemas.records import Heartbeat, ImportStatus, Rejected

RELEASED: dict[str, str] = json.loads((Path(__file__).parent / "released.json").read_text())["bytes"]
RECORDS = {record.schema_name: record for record in (Heartbeat, Device, Rejected, ImportStatus)}
SECOND = ("device", "import_status", "device_state")
"""Schemas that have got another version since."""


def read(codec: Codec, name: str, data: bytes) -> Any:
    """As today's reader of the schema does."""
    return codec.decode_frame(FRAMES[name], data) if name in FRAMES else codec.decode(RECORDS[name], data)


@pytest.mark.parametrize("name", RELEASED)
def test_what_an_older_writer_wrote_means_the_same_today(name: str) -> None:
    schema = schema_of(f"{name}.json")
    data = bytes.fromhex(RELEASED[name])
    assert HEADER.unpack_from(data) == (MAGIC, IDS[schema.name, 1])
    ours = comparable(read(Codec(), schema.name, data))
    meant = comparable(avro_value(json.loads(schema.text), example(f"{name}.json")))
    for field, value in meant.items():
        if not isinstance(value, (dict, list)):
            assert ours[field] == value, field
    by_fastavro = fastavro.schemaless_reader(
        io.BytesIO(data[HEADER.size :]), schema.parsed, BUNDLE.newest(schema.name).parsed
    )
    assert ours == comparable(by_fastavro)


def test_a_reader_of_then_reads_what_is_written_today() -> None:
    """By Avro's rules, with the schema behind the id at hand: fields that are new since are left out."""
    for name in SECOND:
        former, newest = BUNDLE.versions(name)[0], BUNDLE.newest(name)
        assert former.version < newest.version
        old = next(data for known, data in RELEASED.items() if known.startswith(f"{name}."))
        today = Codec().encode(read(Codec(), name, bytes.fromhex(old)))
        assert HEADER.unpack_from(today)[1] == newest.id
        seen = fastavro.schemaless_reader(io.BytesIO(today[HEADER.size :]), newest.parsed, former.parsed)
        was = fastavro.schemaless_reader(io.BytesIO(bytes.fromhex(old)[HEADER.size :]), former.parsed, former.parsed)
        assert comparable(seen) == comparable(was)


def later_frame(**added: Any) -> str:
    """The schema of raw frames as a later release may have it."""
    schema = json.loads(BUNDLE.newest("raw_frame").text)
    schema["fields"].append({"name": "firmware", "doc": "New.", **added})
    return json.dumps(schema)


def written_later(schema_id: int, text: str, **values: Any) -> tuple[bytes, RawFrame]:
    """A frame by an edge of that release, and what it has for us."""
    before = bytes.fromhex(RELEASED["raw_frame.v1.two_rows"])
    frame = Codec().decode_frame(RawFrame, before)
    record = fastavro.schemaless_reader(io.BytesIO(before[HEADER.size :]), BUNDLE.newest("raw_frame").plain, None)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(json.loads(text)), record | values)
    return HEADER.pack(MAGIC, schema_id) + body.getvalue(), frame


def test_a_frame_of_a_newer_edge_is_refused_by_name_until_the_server_knows_it() -> None:
    data, _ = written_later(max(IDS.values()) + 1, later_frame(type="string", default=""), firmware="9.1")
    with pytest.raises(Unreadable) as refused:
        Codec().decode_frame(RawFrame, data)
    assert refused.value.reason is Unread.UNKNOWN_SCHEMA
    frames, left = Codec().decode_raw([data])
    assert (list(frames), left) == ([], [0])


def test_with_a_registry_a_frame_of_a_newer_edge_is_read_without_what_is_new() -> None:
    from confluent_kafka.schema_registry import Schema as RegisteredSchema

    from schemas.registry import RegistrySource

    registry, text = RegistrySource("mock://telltale-newer"), later_frame(type="string", default="")
    later = registry._client.register_schema("telltale.raw_frame-value", RegisteredSchema(text, "AVRO"))
    data, frame = written_later(later, text, firmware="9.1")
    codec = Codec(registry)
    assert comparable(codec.decode_frame(RawFrame, data)) == comparable(frame)
    assert codec.decode_raw([data])[1] == [0]  # one by one, the slow way
    with pytest.raises(Unreadable, match="expected heartbeat"):
        codec.decode(Heartbeat, data)


def test_a_newer_schema_that_does_not_fit_is_refused_whatever_it_calls_itself() -> None:
    from confluent_kafka.schema_registry import Schema as RegisteredSchema

    from schemas.registry import RegistrySource

    registry = RegistrySource("mock://telltale-broken")
    schema = json.loads(BUNDLE.newest("raw_frame").text)
    schema["fields"] = [field for field in schema["fields"] if field["name"] != "sequence"]
    later = registry._client.register_schema("telltale.raw_frame-value", RegisteredSchema(json.dumps(schema), "AVRO"))
    data, _ = written_later(later, json.dumps(schema))
    with pytest.raises(Unreadable) as refused:
        Codec(registry).decode_frame(RawFrame, data)
    assert refused.value.reason is Unread.UNKNOWN_SCHEMA
