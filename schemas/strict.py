"""Whether bytes are exactly what a schema says, by walking them once. Knows Avro's encoding; builds no record.

fastavro takes a number of eleven bytes, a negative branch of a union and a boolean of 7 without a word. What comes
from outside is walked here first, so that a record is either read as it was written or refused with its reason, and
hostile counts cost no more than their bytes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from schemas import columnar
from schemas.columnar import Unread, Unreadable

Walk = Callable[[bytes, int], int]

ITEMS_MAX = 65_536
"""Records in one array. A device has some hundred sensors; a million empty ones would hold a worker for seconds."""


def walker(schema_text: str) -> Walk:
    """A function `(buf, at) -> end` for records of a schema; it raises `Unreadable`."""
    return _walk(json.loads(schema_text), {})


def _walk(schema: Any, named: dict[str, Walk]) -> Walk:
    if isinstance(schema, list):
        return _union([_walk(branch, named) for branch in schema])
    if isinstance(schema, str):
        return _PRIMITIVES.get(schema) or named[schema]
    kind = schema["type"]
    if kind == "array":
        return _array(schema["items"], named)
    if kind == "record":
        named[schema["name"]] = walk = _record([_walk(field["type"], named) for field in schema["fields"]])
        return walk
    if kind == "enum":
        named[schema["name"]] = walk = _enum(schema["symbols"])
        return walk
    return _walk(kind, named)


def _null(buf: bytes, at: int) -> int:
    return at


def _boolean(buf: bytes, at: int) -> int:
    _left(buf, at, 1)
    if buf[at] > 1:
        raise Unreadable(Unread.BAD_VALUE, f"a boolean is {buf[at]} at byte {at}")
    return at + 1


def _int(buf: bytes, at: int) -> int:
    value, end = columnar.read_long(buf, at)
    if not -(1 << 31) <= value < 1 << 31:
        raise Unreadable(Unread.BAD_VALUE, f"{value} does not fit into 32 bits at byte {at}")
    return end


def _long(buf: bytes, at: int) -> int:
    return columnar.read_long(buf, at)[1]


def _double(buf: bytes, at: int) -> int:
    _left(buf, at, 8)
    return at + 8


def _bytes(buf: bytes, at: int) -> int:
    return columnar.read_bytes(buf, at)[1]


def _string(buf: bytes, at: int) -> int:
    return columnar.read_string(buf, at)[1]


_PRIMITIVES: Mapping[str, Walk] = {
    "null": _null,
    "boolean": _boolean,
    "int": _int,
    "long": _long,
    "double": _double,
    "bytes": _bytes,
    "string": _string,
}


def _left(buf: bytes, at: int, size: int) -> None:
    if len(buf) - at < size:
        raise Unreadable(Unread.TRUNCATED, f"ends inside a value at byte {at}")


def _record(fields: Sequence[Walk]) -> Walk:
    def walk(buf: bytes, at: int) -> int:
        for field in fields:
            at = field(buf, at)
        return at

    return walk


def _enum(symbols: Sequence[str]) -> Walk:
    def walk(buf: bytes, at: int) -> int:
        index, end = columnar.read_long(buf, at)
        if not 0 <= index < len(symbols):
            raise Unreadable(Unread.BAD_VALUE, f"no symbol {index} among {len(symbols)} at byte {at}")
        return end

    return walk


def _union(branches: Sequence[Walk]) -> Walk:
    by_byte = {2 * index: branch for index, branch in enumerate(branches[:64])}  # a sensor has forty, most of them null

    def walk(buf: bytes, at: int) -> int:
        usual = by_byte.get(buf[at]) if at < len(buf) else None
        if usual is _null:
            return at + 1
        if usual is not None:
            return usual(buf, at + 1)
        branch, end = columnar.read_long(buf, at)
        if not 0 <= branch < len(branches):
            raise Unreadable(Unread.BAD_VALUE, f"no branch {branch} in a union of {len(branches)} at byte {at}")
        return branches[branch](buf, end)

    return walk


def _array(items: Any, named: dict[str, Walk]) -> Walk:
    kind = items if isinstance(items, str) else items.get("type") if isinstance(items, dict) else None
    if kind == "double":
        return lambda buf, at: columnar.read_doubles(buf, at)[1]
    if kind in ("int", "long"):
        return lambda buf, at: columnar.read_longs(buf, at)[1]
    if kind == "string":
        return lambda buf, at: columnar.read_strings(buf, at)[1]
    item = _walk(items, named)

    def block(buf: bytes, at: int, count: int) -> tuple[int, int]:
        for _ in range(count):
            at = item(buf, at)
        return count, at

    return lambda buf, at: columnar.read_blocks(buf, at, block, item_bytes_min=1, items_max=ITEMS_MAX)[1]
