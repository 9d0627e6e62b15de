"""Every example payload says the same to every reader: our codec, fastavro and the `avro` package."""

import io
import json
from typing import Any

import avro.io
import avro.schema
import fastavro
import pytest
from wire_examples import AVRO, EXAMPLES, JSON_SCHEMAS, avro_value, comparable, example, framed, schema_of

from schemas.alarms import read_action, read_alarm
from schemas.bundle import BUNDLE
from schemas.codec import HEADER, Codec
from schemas.devices import Device
from schemas.frames import FRAMES
from schemas.records import Heartbeat, ImportStatus, Record, Rejected
from schemas.topics import TOPICS

RECORDS: dict[str, type[Record]] = {
    record.schema_name: record for record in (Heartbeat, Device, Rejected, ImportStatus)
}


def test_every_version_of_every_schema_has_an_example() -> None:
    assert {(schema_of(name).name, schema_of(name).version) for name in AVRO} == {
        (schema.name, schema.version) for schema in BUNDLE.schemas
    }
    assert {name.partition(".")[0] for name in EXAMPLES} == {topic.schema for topic in TOPICS.values()}


def said(read: Any, value: Any) -> Any:
    """Of what was read, the fields that the example has: an older version's has fewer."""
    if isinstance(value, dict):
        return {name: said(read[name], part) for name, part in value.items()}
    if isinstance(value, list):
        return [said(one, part) for one, part in zip(read, value, strict=True)]
    return read


@pytest.mark.parametrize("name", AVRO)
def test_three_readers_agree(name: str) -> None:
    schema = schema_of(name)
    value = avro_value(json.loads(schema.text), example(name))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema.parsed, value)
    data = framed(schema, body.getvalue())
    if schema.name in FRAMES:
        ours = Codec().decode_frame(FRAMES[schema.name], data)  # type: ignore[type-var]  # any of the four
    else:
        ours = Codec().decode(RECORDS[schema.name], data)
    newest = BUNDLE.newest(schema.name)
    by_fastavro = fastavro.schemaless_reader(io.BytesIO(body.getvalue()), schema.parsed, newest.parsed)
    decoder = avro.io.BinaryDecoder(io.BytesIO(body.getvalue()))
    by_avro = avro.io.DatumReader(avro.schema.parse(schema.text), avro.schema.parse(newest.text)).read(decoder)
    assert comparable(ours) == comparable(by_fastavro) == comparable(by_avro)
    assert said(comparable(ours), comparable(value)) == comparable(value)


@pytest.mark.parametrize("name", AVRO)
def test_what_we_write_every_reader_reads(name: str) -> None:
    schema = schema_of(name)
    value = avro_value(json.loads(schema.text), example(name))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema.parsed, value)
    codec = Codec()
    expected = FRAMES.get(schema.name) or RECORDS[schema.name]
    read = codec.decode_frame if schema.name in FRAMES else codec.decode
    written = codec.encode(read(expected, framed(schema, body.getvalue())))  # type: ignore[operator]  # as above
    assert HEADER.unpack_from(written) == (0, BUNDLE.newest(schema.name).id)
    newest = BUNDLE.newest(schema.name)
    rest = written[HEADER.size :]
    by_fastavro = comparable(fastavro.schemaless_reader(io.BytesIO(rest), newest.parsed, None))
    assert said(by_fastavro, comparable(value)) == comparable(value)
    decoder = avro.io.BinaryDecoder(io.BytesIO(rest))
    assert comparable(avro.io.DatumReader(avro.schema.parse(newest.text)).read(decoder)) == by_fastavro


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.partition(".")[0] in JSON_SCHEMAS])
def test_json_examples_are_events(name: str) -> None:
    value = example(name)
    read = read_alarm if name.startswith("alarm.") else read_action
    assert json.loads(read(json.dumps(value).encode()).model_dump_json()) == value
