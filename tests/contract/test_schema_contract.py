"""The contract as a whole: schemas against classes, versions against each other, topics against sense, the registry."""

import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import fields
from importlib.resources import files
from itertools import combinations
from typing import Any

import pytest
from pydantic import BaseModel

from schemas.alarms import AlarmActionEvent, AlarmEvent
from schemas.bundle import BUNDLE, IDS
from schemas.codec import HEADER, Codec
from schemas.columnar import Unread, Unreadable
from schemas.compatibility import breaks, bundle_breaks
from schemas.devices import Device
from schemas.errors import Refused, Unavailable
from schemas.frames import FRAMES
from schemas.keys import murmur2
from schemas.records import Heartbeat, ImportStatus, Rejected
from schemas.topics import PARTITIONS, TOPICS

RECORDS = (Heartbeat, Device, Rejected, ImportStatus)


def shape(name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(BUNDLE.newest(name).text)
    return parsed


def records(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record inside a schema."""
    if isinstance(schema, list):
        for part in schema:
            yield from records(part)
    elif isinstance(schema, dict):
        if schema.get("type") == "record":
            yield schema
            for field in schema["fields"]:
                yield from records(field["type"])
        elif schema.get("type") == "array":
            yield from records(schema["items"])


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and every model inside it."""
    yield model
    for field in model.model_fields.values():
        yield from (part for inner in classes(field.annotation) for part in models(inner))


def classes(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from classes(part)


@pytest.mark.parametrize("name", FRAMES)
def test_frame_class_has_the_fields_of_its_schema_in_order(name: str) -> None:
    assert [field.name for field in fields(FRAMES[name])] == [field["name"] for field in shape(name)["fields"]]


@pytest.mark.parametrize("record", RECORDS)
def test_record_model_and_its_parts_have_the_fields_of_their_schemas(record: type[Any]) -> None:
    ours = {model.__name__: list(model.model_fields) for model in models(record)}
    theirs = {part["name"]: [f["name"] for f in part["fields"]] for part in records(shape(record.schema_name))}
    assert ours == theirs


@pytest.mark.parametrize("record", RECORDS)
def test_what_a_schema_defaults_a_model_defaults_too(record: type[Any]) -> None:
    """A record made without a field equals one that an older writer left it out of."""
    by_name = {model.__name__: model for model in models(record)}
    for part in records(shape(record.schema_name)):
        for field in part["fields"]:
            if "default" in field and not by_name[part["name"]].model_fields[field["name"]].is_required():
                default = by_name[part["name"]].model_fields[field["name"]].default
                plain = json.loads(json.dumps(default, default=lambda value: value.model_dump()))
                assert plain == field["default"], (part["name"], field["name"])


@pytest.mark.parametrize("schema", BUNDLE.schemas, ids=lambda schema: f"{schema.name}.v{schema.version}")
def test_every_record_and_every_field_says_what_it_is(schema: Any) -> None:
    for part in records(json.loads(schema.text)):
        assert part["doc"].endswith(".")
        for field in part["fields"]:
            assert len(field.get("doc", "")) > 4, (part["name"], field["name"])
            assert field["doc"].endswith("."), (part["name"], field["name"])


def test_bundle_is_what_lies_in_the_folder() -> None:
    found = {path.name for path in (files("schemas") / "avro").iterdir()}
    assert found == {f"{name}.v{version}.avsc" for name, version in IDS}
    assert len(set(IDS.values())) == len(IDS)


def test_every_two_versions_understand_each_other() -> None:
    assert bundle_breaks(BUNDLE) == ()
    for schema in BUNDLE.schemas:
        assert breaks(schema.text, schema.text) == ()


def without(name: str) -> Callable[[list[dict[str, Any]]], None]:
    def edit(all_fields: list[dict[str, Any]]) -> None:
        all_fields[:] = [field for field in all_fields if field["name"] != name]

    return edit


def changed(which: str, **new: Any) -> Callable[[list[dict[str, Any]]], None]:
    def edit(all_fields: list[dict[str, Any]]) -> None:
        next(field for field in all_fields if field["name"] == which).update(new)

    return edit


def added(**field: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda all_fields: all_fields.append(field)


def edited(edit: Callable[[list[dict[str, Any]]], None]) -> tuple[str, str]:
    later = shape("raw_frame")
    edit(later["fields"])
    return BUNDLE.newest("raw_frame").text, json.dumps(later)


@pytest.mark.parametrize(
    "edit",
    [
        without("sequence"),
        changed("sequence", name="number"),
        changed("sequence", type="int"),
        changed("sequence", type="string"),
        changed("sequence", type=["null", "long"]),
        changed("values", type={"type": "array", "items": "float"}),
        changed("times", type="bytes"),
        changed("status", type="null"),
        added(name="quality", type="int"),
    ],
    ids=["dropped", "renamed", "narrowed", "retyped", "nullable", "less exact", "no array", "less union", "no default"],
)
def test_planted_break_is_refused(edit: Callable[[list[dict[str, Any]]], None]) -> None:
    assert breaks(*edited(edit)) != ()


@pytest.mark.parametrize(
    "edit",
    [
        added(name="firmware", type=["null", "string"], default=None),
        added(name="level", type="int", default=0),
        without("status"),
        changed("sequence", doc="Other words."),
    ],
    ids=["with default", "with number", "had default", "doc"],
)
def test_change_that_breaks_nothing_is_let_pass(edit: Callable[[list[dict[str, Any]]], None]) -> None:
    assert breaks(*edited(edit)) == ()


def test_every_version_of_every_schema_is_newest_or_older() -> None:
    for former, later in combinations(BUNDLE.versions("raw_frame"), 2):
        assert former.version < later.version
    assert BUNDLE.newest("raw_frame") == BUNDLE.versions("raw_frame")[-1]


# topics


def test_every_topic_has_a_schema_that_exists() -> None:
    avro = {schema.name for schema in BUNDLE.schemas}
    assert {topic.schema for topic in TOPICS.values() if topic.format == "avro"} == avro
    json_models = {"alarm": AlarmEvent, "alarm_action": AlarmActionEvent}
    assert {topic.schema for topic in TOPICS.values() if topic.format == "json"} == set(json_models)


def test_every_topic_is_written_read_and_cleaned() -> None:
    for topic in TOPICS.values():
        assert topic.written_by, topic.name
        assert topic.read_by, topic.name
        assert topic.about.endswith(".")
        assert topic.config()["cleanup.policy"], topic.name
        assert re.fullmatch(r"[a-z]+(\.[a-z]+)?", topic.name)


def test_topics_keyed_by_device_share_one_partition_count() -> None:
    for topic in TOPICS.values():
        if topic.key == "device":
            assert topic.own_partitions is None, topic.name
            assert topic.partitions() == PARTITIONS
            assert topic.partitions(3) == 3


def test_sources_of_the_stage_are_stamped_by_the_broker() -> None:
    """Liveness and replay by time must not depend on a device's clock."""
    for topic in TOPICS.values():
        if "streams" in topic.read_by and topic.name not in ("devices", "streams.state", "alarms"):
            assert topic.config()["message.timestamp.type"] == "LogAppendTime", topic.name


def test_a_clean_frame_fits_where_its_raw_frame_fitted() -> None:
    """Logged, value, flag and tests: 8 + 8 + 1 + 3 bytes for 8."""
    assert TOPICS["readings.clean"].max_message_bytes >= 2.5 * TOPICS["readings.raw"].max_message_bytes
    assert TOPICS["readings.rejected"].max_message_bytes > TOPICS["readings.raw"].max_message_bytes


def test_keys_fall_where_kafkas_own_tools_put_them() -> None:
    """Vectors of Kafka's own UtilsTest."""
    vectors = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for key, signed in vectors.items():
        assert murmur2(key) == signed % (1 << 32)


# registry


def test_registry_gives_ids_and_reads_them_back() -> None:
    from schemas.registry import RegistrySource

    registry = RegistrySource("mock://telltale-contract")
    codec = Codec(registry)
    beat = Rejected(
        topic="t",
        partition=0,
        offset=1,
        device_id="a",
        reason="r",
        detail="d",
        rows=0,
        time="2026-01-01T00:00:00Z",
        payload=b"x",
    )
    data = codec.encode(beat)
    assert codec.decode(Rejected, data) == beat
    assert HEADER.unpack_from(data)[1] == registry.written_as("rejected")


def test_registry_tells_what_it_does_not_know() -> None:
    from confluent_kafka.schema_registry import Schema as RegisteredSchema

    from schemas.registry import RegistrySource

    registry = RegistrySource("mock://telltale-unknown")
    with pytest.raises(Unreadable) as refused:
        registry.by_id(4711)
    assert refused.value.reason is Unread.UNKNOWN_SCHEMA
    for text, kind in (('"string"', "AVRO"), ('syntax = "proto3";', "PROTOBUF")):
        foreign = registry._client.register_schema("somebody", RegisteredSchema(text, kind))
        for _ in range(2):
            with pytest.raises(Unreadable, match="none of Telltale's"):
                registry.by_id(foreign)


def test_address_that_is_none_is_refused() -> None:
    from schemas.registry import RegistrySource

    with pytest.raises(Refused, match="schema registry nonsense"):
        RegistrySource("nonsense")


def test_registry_that_is_away_is_unavailable() -> None:
    from schemas.registry import RegistrySource

    registry = RegistrySource("http://127.0.0.1:1")
    for call in (lambda: registry.written_as("rejected"), lambda: registry.by_id(1)):
        with pytest.raises(Unavailable, match=r"schema registry http://127\.0\.0\.1:1"):
            call()


# README


def test_readme_shows_the_topics_of_the_catalogue() -> None:
    from schemas.topics import table

    assert table() in (files("schemas") / "README.md").read_text()


def test_code_in_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (files("schemas") / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), "schemas/README.md", "exec"), {})
