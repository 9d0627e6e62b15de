"""One codec for every Avro topic. Knows schemas and bytes; knows no broker.

Wire format: Confluent framing (a zero byte, the schema id in four bytes, the Avro body), so that Kafka's own tools and
user interfaces decode it. Columnar records go through `schemas.columnar`; all others, and records of an older
writer, through fastavro, which resolves the writer's schema to ours.
"""

import io
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from enum import Enum, auto
from itertools import repeat
from operator import attrgetter
from typing import Any, TypeVar, get_type_hints

import fastavro
import numpy as np
from fastavro.read import SchemaResolutionError
from pydantic import BaseModel, ValidationError

from schemas import columnar
from schemas.blocks import CleanBlock, RawBlock, read_blocks, read_clean_blocks
from schemas.bundle import BUNDLE, Schema, SchemaSource
from schemas.columnar import Column, Longs, Ragged, Unread, Unreadable
from schemas.frames import FRAMES, CleanFrame, Frame, RawFrame
from schemas.records import Record

MAGIC = 0
HEADER = struct.Struct(">bI")

R = TypeVar("R", bound=Record)
F = TypeVar("F", RawFrame, Any)


def _read_optional_longs(buf: bytes, at: int) -> tuple[Longs | None, int]:
    branch, at = columnar.read_long(buf, at)
    if branch not in (0, 1):
        raise Unreadable(Unread.BAD_VALUE, f"no branch {branch} in a union of two, before byte {at}")
    return columnar.read_longs(buf, at) if branch else (None, at)


def _write_optional_longs(values: Longs | None) -> bytes:
    return b"\0" if values is None else b"\2" + columnar.write_longs(values)


Reader = Callable[[bytes, int], tuple[Any, int]]
Writer = Callable[[Any], bytes]

# How a field of a frame class is read and written, by its annotation.
_BY_TYPE: dict[Any, tuple[Reader, Writer]] = {
    str: (columnar.read_string, columnar.write_string),
    int: (columnar.read_long, columnar.write_long),
    tuple[str, ...]: (columnar.read_strings, columnar.write_strings),
    columnar.Longs: (columnar.read_longs, columnar.write_longs),
    columnar.Doubles: (columnar.read_doubles, columnar.write_doubles),
    columnar.Longs | None: (_read_optional_longs, _write_optional_longs),
}


class Kind(Enum):
    """Fields that are written many at a time."""

    LONG = auto()
    LONGS = auto()
    DOUBLES = auto()
    OTHER = auto()


_KINDS = {
    columnar.write_long: Kind.LONG,
    columnar.write_longs: Kind.LONGS,
    columnar.write_doubles: Kind.DOUBLES,
}


def _plan(frame: type[Frame]) -> tuple[tuple[str, Kind, Reader, Writer], ...]:
    hints = get_type_hints(frame)
    integers = (columnar.read_longs, columnar.write_longs)
    found = []
    for field in fields(frame):
        read, write = _BY_TYPE.get(hints[field.name], integers)
        found.append((field.name, _KINDS.get(write, Kind.OTHER), read, write))
    return tuple(found)


_PLANS = {name: _plan(frame) for name, frame in FRAMES.items()}
_WRITERS = {
    name: (attrgetter(*(field for field, _, _, _ in plan)), [write for _, _, _, write in plan])
    for name, plan in _PLANS.items()
}

FEW_RECORDS = 4  # below which one by one is as fast


class Codec:
    """Encodes and decodes every Avro record of the catalogue.

    One instance per process; safe to share between threads (its caches only ever gain entries).
    """

    def __init__(self, source: SchemaSource = BUNDLE) -> None:
        self._source = source
        self._headers: dict[str, bytes] = {}
        self._names: dict[int, tuple[Schema, bool]] = {}

    def encode(self, record: Frame | Record) -> bytes:
        """The bytes of a record, framed."""
        name = record.schema_name
        header = self._header(name)
        if isinstance(record, BaseModel):
            out = io.BytesIO()
            out.write(header)
            fastavro.schemaless_writer(out, BUNDLE.newest(name).parsed, _plain(record.model_dump()))
            return out.getvalue()
        values, writers = _WRITERS[name]
        return header + b"".join([write(value) for write, value in zip(writers, values(record), strict=True)])

    def encode_each(self, records: Sequence[Frame]) -> list[bytes]:
        """The bytes of columnar records of one kind, as `encode` gives them: field by field, all records at once."""
        if len(records) < FEW_RECORDS:
            return [self.encode(record) for record in records]
        frame = type(records[0])
        columns: dict[str, Column] = {}
        for name, kind, _, _ in _PLANS[frame.schema_name]:
            values = [getattr(record, name) for record in records]
            if kind is Kind.LONGS:
                small = all(value.dtype == np.uint8 for value in values)
                flat = np.concatenate([value.reshape(-1) for value in values], dtype=np.uint8 if small else np.int64)
                columns[name] = Ragged(flat, [value.size for value in values])
            else:
                columns[name] = values
        return self.encode_columns(frame, columns)

    def encode_columns(self, frame: type[Frame], columns: Mapping[str, Column]) -> list[bytes]:
        """The bytes of many columnar records, whose fields are given column by column.

        Args:
            frame: what they are.
            columns: by field, either a value that all have, or one for each of them: a list, for arrays a `Ragged`,
                for numbers an array.
        """
        same = self._header(frame.schema_name)
        parts: list[Iterable[bytes]] = []
        for name, kind, _, write in _PLANS[frame.schema_name]:
            column = columns[name]
            if isinstance(column, Ragged):
                write_each = columnar.write_doubles_each if kind is Kind.DOUBLES else columnar.write_longs_each
                each = write_each(column.flat, column.sizes)
            elif isinstance(column, list):
                each = [write(value) for value in column]
            elif kind is Kind.LONG and isinstance(column, np.ndarray):
                each = columnar.write_long_each(column)
            else:
                same += write(column)
                continue
            parts += [repeat(same), each] if same else [each]
            same = b""
        if same:
            parts.append(repeat(same))
        return [b"".join(record) for record in zip(*parts, strict=False)]  # what all have in common has no end

    def _header(self, name: str) -> bytes:
        header = self._headers.get(name)
        if header is None:
            header = self._headers[name] = HEADER.pack(MAGIC, self._source.written_as(name))
        return header

    def decode_raw(self, values: Sequence[bytes | None]) -> tuple[list[RawBlock], list[int]]:
        """Raw frames that lie alike as arrays, and which of the records are left for `decode_frame`."""
        return read_blocks(values, self._header(RawFrame.schema_name))

    def decode_clean(self, values: Sequence[bytes | None]) -> tuple[list[CleanBlock], list[int]]:
        """The same of clean frames."""
        return read_clean_blocks(values, self._header(CleanFrame.schema_name))

    def decode_frame(self, expected: type[F], data: bytes | None) -> F:
        """The columnar record in `data`. Raises `Unreadable`."""
        data = data or b""
        schema, current = self._schema(expected.schema_name, data)
        if not current:
            return expected(**self._columns(expected, self._resolve(schema, data, plain=True)))
        at = HEADER.size
        values = []
        for _, _, read, _ in _PLANS[expected.schema_name]:
            value, at = read(data, at)
            values.append(value)
        if at != len(data):
            raise Unreadable(Unread.TRAILING_BYTES, f"{len(data) - at} bytes behind the record")
        return expected(*values)

    def decode(self, expected: type[R], data: bytes | None) -> R:
        """The record in `data`. Raises `Unreadable`."""
        data = data or b""
        schema, _ = self._schema(expected.schema_name, data)
        try:
            return expected.model_validate(self._resolve(schema, data, plain=False))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise Unreadable(Unread.BAD_VALUE, f"{where}: {first['msg']}") from None

    def _schema(self, name: str, data: bytes) -> tuple[Schema, bool]:
        """The writer's schema, and whether it is the one that we write."""
        if not data:
            raise Unreadable(Unread.EMPTY, "no bytes")
        if len(data) < HEADER.size:
            raise Unreadable(Unread.TRUNCATED, f"{len(data)} bytes, a header has {HEADER.size}")
        magic, schema_id = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise Unreadable(Unread.WRONG_MAGIC, f"first byte is {magic}, expected {MAGIC}")
        known = self._names.get(schema_id)
        if known is None:
            schema = self._source.by_id(schema_id)
            known = self._names[schema_id] = (schema, schema.text == BUNDLE.newest(schema.name).text)
        if known[0].name != name:
            raise Unreadable(Unread.WRONG_SCHEMA, f"it is a {known[0].name}, expected {name}")
        return known

    @staticmethod
    def _resolve(schema: Schema, data: bytes, *, plain: bool) -> Any:
        """The record as our newest version has it: walked strictly, then read by fastavro."""
        end = schema.walk(data, HEADER.size)
        if end != len(data):
            raise Unreadable(Unread.TRAILING_BYTES, f"{len(data) - end} bytes behind the record")
        ours = BUNDLE.newest(schema.name)
        writer, reader = (schema.plain, ours.plain) if plain else (schema.parsed, ours.parsed)
        try:
            return fastavro.schemaless_reader(io.BytesIO(memoryview(data)[HEADER.size :]), writer, reader)
        except SchemaResolutionError as error:  # a later version that only calls itself compatible
            raise Unreadable(Unread.UNKNOWN_SCHEMA, f"schema id {schema.id} does not fit ours: {error}") from None
        except OverflowError as error:  # a time that no calendar has
            raise Unreadable(Unread.BAD_VALUE, str(error)) from None

    @staticmethod
    def _columns(expected: type[Frame], record: dict[str, Any]) -> dict[str, Any]:
        """fastavro's lists as the frame's arrays."""
        hints = get_type_hints(expected)
        out = {}
        for field in fields(expected):
            value, hint = record[field.name], hints[field.name]
            if hint == tuple[str, ...]:
                value = tuple(value)
            elif isinstance(value, list):
                value = np.array(value, np.float64 if hint == columnar.Doubles else np.int64)
            out[field.name] = value
        return out


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down: fastavro finds no array in a union for a tuple."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value
