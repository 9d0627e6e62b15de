"""Arrays of an Avro record, read and written by numpy where they lie. Knows Avro's binary encoding; knows no schema.

Avro writes an array as blocks (count, items; a negative count is followed by a byte size), closed by a count of 0.
Doubles lie there as plain little-endian; longs as zigzag varints, which are taken apart all at once. Any legal
writer's blocks are accepted. Lengths are checked against the bytes that are left before anything is allocated, so
that a hostile count costs nothing.

Every reader takes `(buf, at)` and returns what it read with the position behind it; all raise `Unreadable`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
T = TypeVar("T")

VARINT_BYTES_MAX = 10  # 64 bits in groups of 7


class Unread(StrEnum):
    """Why bytes are not a record. The word is log field, metric label and test id."""

    EMPTY = "empty"
    WRONG_MAGIC = "wrong_magic"
    UNKNOWN_SCHEMA = "unknown_schema"
    WRONG_SCHEMA = "wrong_schema"
    TRUNCATED = "truncated"
    TRAILING_BYTES = "trailing_bytes"
    ABSURD_LENGTH = "absurd_length"
    BAD_VARINT = "bad_varint"
    NOT_TEXT = "not_text"
    RAGGED = "ragged"
    BAD_VALUE = "bad_value"


class Unreadable(ValueError):  # noqa: N818 - named after what an operator reads
    """Bytes that are not the record they should be."""

    def __init__(self, reason: Unread, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def read_long(buf: bytes, at: int) -> tuple[int, int]:
    """One zigzag varint."""
    value = shift = 0
    try:
        while True:
            byte = buf[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift > 63:
                raise Unreadable(Unread.BAD_VARINT, f"more than {VARINT_BYTES_MAX} bytes at byte {at}")
    except IndexError:
        raise Unreadable(Unread.TRUNCATED, f"ends inside a number at byte {at}") from None
    if value >= 1 << 64:
        raise Unreadable(Unread.BAD_VARINT, f"does not fit into 64 bits at byte {at}")
    return (value >> 1) ^ -(value & 1), at


def read_bytes(buf: bytes, at: int) -> tuple[bytes, int]:
    """A length and as many bytes."""
    size, at = read_long(buf, at)
    if size < 0 or size > len(buf) - at:
        raise Unreadable(Unread.ABSURD_LENGTH, f"{size} bytes announced at byte {at}, {len(buf) - at} left")
    return buf[at : at + size], at + size


def read_string(buf: bytes, at: int) -> tuple[str, int]:
    """A length and as many bytes of UTF-8."""
    raw, at = read_bytes(buf, at)
    try:
        return raw.decode(), at
    except UnicodeDecodeError as error:
        raise Unreadable(Unread.NOT_TEXT, f"{error.reason} before byte {at}") from None


BLOCKS_MAX = 4_096
"""Blocks of one array. Writers cut at 64 kB or not at all; a block per item would cost a million Python steps."""


def read_blocks(
    buf: bytes,
    at: int,
    read: Callable[[bytes, int, int], tuple[T, int]],
    *,
    item_bytes_min: int,
    items_max: int | None = None,
) -> tuple[list[T], int]:
    """Every block of an array, each read by `read(buf, at, count)`."""
    blocks: list[T] = []
    items = 0
    while True:
        count, at = read_long(buf, at)
        if count == 0:
            return blocks, at
        if len(blocks) == BLOCKS_MAX:
            raise Unreadable(Unread.ABSURD_LENGTH, f"more than {BLOCKS_MAX} blocks in an array at byte {at}")
        if count < 0:  # a byte size follows, which we do not need
            count = -count
            _, at = read_long(buf, at)
        if count * item_bytes_min > len(buf) - at:
            raise Unreadable(Unread.ABSURD_LENGTH, f"{count} items announced at byte {at}, {len(buf) - at} bytes left")
        items += count
        if items_max is not None and items > items_max:
            raise Unreadable(Unread.ABSURD_LENGTH, f"more than {items_max} items in an array at byte {at}")
        block, at = read(buf, at, count)
        blocks.append(block)


_NO_DOUBLES: Doubles = np.empty(0)
_NO_LONGS: Longs = np.empty(0, np.int64)


def _doubles(buf: bytes, at: int, count: int) -> tuple[Doubles, int]:
    return np.frombuffer(buf, "<f8", count, at), at + 8 * count


def read_doubles(buf: bytes, at: int) -> tuple[Doubles, int]:
    """An array of doubles. One block is a read-only view into `buf`, without a copy."""
    blocks, at = read_blocks(buf, at, _doubles, item_bytes_min=8)
    if len(blocks) == 1:
        return blocks[0], at
    return np.concatenate(blocks) if blocks else _NO_DOUBLES, at


def read_longs(buf: bytes, at: int) -> tuple[Longs, int]:
    """An array of longs (or ints, or timestamps)."""
    blocks, at = read_blocks(buf, at, _longs, item_bytes_min=1)
    if len(blocks) == 1:
        return blocks[0], at
    return np.concatenate(blocks) if blocks else _NO_LONGS, at


FEW = 4  # below this, a loop in Python is faster than the numpy calls


def _longs(buf: bytes, at: int, count: int) -> tuple[Longs, int]:
    if count <= FEW:
        values = []
        for _ in range(count):
            value, at = read_long(buf, at)
            values.append(value)
        return np.array(values, np.int64), at
    raw = np.frombuffer(buf, np.uint8, min(len(buf) - at, VARINT_BYTES_MAX * count), at)
    width = int(np.argmax(raw[:VARINT_BYTES_MAX] < 128)) + 1
    if width * count <= len(raw):
        same = raw[: width * count].reshape(count, width)
        if (same[:, :-1] >= 128).all() and (same[:, -1] < 128).all():
            if width == 1:
                return unzigzag(same[:, 0].astype(np.uint64)), at + count
            if width == 8:  # each time stamp between 1979 and 3111 has this width
                return unzigzag(join_eight(same.reshape(-1).view("<u8"))), at + 8 * count
    ends = np.flatnonzero(raw < 128)[:count]
    if len(ends) < count:
        if len(raw) == VARINT_BYTES_MAX * count:
            raise Unreadable(Unread.BAD_VARINT, f"more than {VARINT_BYTES_MAX} bytes after byte {at}")
        raise Unreadable(Unread.TRUNCATED, f"ends inside a number after byte {at}")
    size = int(ends[-1]) + 1
    starts = np.empty(count, np.int64)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    lengths = ends - starts + 1
    longest = int(lengths.max())
    if longest > VARINT_BYTES_MAX or (longest == VARINT_BYTES_MAX and (raw[ends[lengths == longest]] > 1).any()):
        raise Unreadable(Unread.BAD_VARINT, f"does not fit into 64 bits after byte {at}")
    place = np.arange(size) - np.repeat(starts, lengths)
    groups = (raw[:size] & 127).astype(np.uint64) << (place * 7).astype(np.uint64)
    return unzigzag(np.add.reduceat(groups, starts)), at + size


def join_eight(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Eight groups of seven bits, lowest first, into 56 bits: 7+7, 14+14, 28+28."""
    u = np.uint64
    x = (x & u(0x007F007F007F007F)) | ((x & u(0x7F007F007F007F00)) >> u(1))
    x = (x & u(0x00003FFF00003FFF)) | ((x & u(0x3FFF00003FFF0000)) >> u(2))
    return (x & u(0x000000000FFFFFFF)) | ((x & u(0x0FFFFFFF00000000)) >> u(4))


def _split_eight(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The reverse of `join_eight`."""
    u = np.uint64
    x = (x & u(0x000000000FFFFFFF)) | ((x & u(0x00FFFFFFF0000000)) << u(4))
    x = (x & u(0x00003FFF00003FFF)) | ((x & u(0x0FFFC0000FFFC000)) << u(2))
    return (x & u(0x007F007F007F007F)) | ((x & u(0x3F803F803F803F80)) << u(1))


def unzigzag(z: npt.NDArray[np.uint64]) -> Longs:
    one = np.uint64(1)
    return (z >> one).view(np.int64) ^ -(z & one).view(np.int64)


def _strings(buf: bytes, at: int, count: int) -> tuple[list[str], int]:
    strings = []
    for _ in range(count):
        text, at = read_string(buf, at)
        strings.append(text)
    return strings, at


STRINGS_MAX = 1 << 20
"""Strings of one array: a second's work. A frame has tens of channels, a burst of closed windows some ten thousand."""

SEEN_BYTES_MAX = 8 << 20
"""Of arrays of strings that are remembered: the channels of 30,000 devices. Beyond it the memory starts anew."""

REMEMBERED_BYTES_MAX = 16 << 10
"""Longer arrays are parsed each time: nobody's channel names repeat at that length."""


class _Seen:
    """Arrays of strings by their first bytes. Threads may share it: what one loses is parsed again."""

    def __init__(self) -> None:
        self.arrays: dict[bytes, tuple[bytes, tuple[str, ...]]] = {}
        self.size = 0

    def remember(self, head: bytes, raw: bytes, strings: tuple[str, ...]) -> None:
        if len(raw) > REMEMBERED_BYTES_MAX:
            return
        if self.size + len(raw) > SEEN_BYTES_MAX:
            self.arrays, self.size = {}, 0
        self.arrays[head] = (raw, strings)
        self.size += len(raw)


_seen = _Seen()


def read_strings(buf: bytes, at: int) -> tuple[tuple[str, ...], int]:
    """An array of strings. The channel names of a device repeat in each of its frames: known bytes are not parsed."""
    head = buf[at : at + 32]
    known = _seen.arrays.get(head)
    if known is not None and buf.startswith(known[0], at):
        return known[1], at + len(known[0])
    start = at
    blocks, at = read_blocks(buf, at, _strings, item_bytes_min=1, items_max=STRINGS_MAX)
    strings = tuple(text for block in blocks for text in block)
    _seen.remember(head, buf[start:at], strings)
    return strings, at


def write_long(value: int) -> bytes:
    """One zigzag varint. Raises `OverflowError` for a number that nobody could read again."""
    return _SHORT[value] if 0 <= value < len(_SHORT) else _write_long(value)


def _write_long(value: int) -> bytes:
    if not -1 << 63 <= value < 1 << 63:
        raise OverflowError(f"{value} does not fit into 64 bits")
    z = (value << 1) ^ (value >> 63)
    if 1 << 49 <= z < 1 << 56:  # as `split_eight`; each time stamp between 1979 and 3111
        z = (z & 0x000000000FFFFFFF) | ((z & 0x00FFFFFFF0000000) << 4)
        z = (z & 0x00003FFF00003FFF) | ((z & 0x0FFFC0000FFFC000) << 2)
        z = (z & 0x007F007F007F007F) | ((z & 0x3F803F803F803F80) << 1)
        return (z | 0x0080808080808080).to_bytes(8, "little")
    out = bytearray()
    while z > 127:
        out.append(z & 127 | 128)
        z >>= 7
    out.append(z)
    return bytes(out)


_SHORT: tuple[bytes, ...] = ()
_SHORT = tuple(_write_long(value) for value in range(1 << 13))
"""Numbers of one or two bytes, ready made: counts, flags, and the lengths of almost everything."""


def write_bytes(value: bytes) -> bytes:
    return write_long(len(value)) + value


def write_string(value: str) -> bytes:
    return write_bytes(value.encode())


def _one_block(count: int, items: bytes) -> bytes:
    return write_long(count) + items + b"\0" if count else b"\0"


def write_doubles(values: Doubles) -> bytes:
    """An array of doubles, of any shape, row-major."""
    return _one_block(values.size, np.ascontiguousarray(values, "<f8").tobytes())


def write_longs(values: npt.NDArray[np.integer]) -> bytes:
    """An array of longs (or ints, or timestamps), of any shape, row-major."""
    if not values.size:
        return b"\0"
    flat = values.reshape(-1)
    if flat.size <= FEW:
        return _one_block(flat.size, b"".join(map(write_long, flat.tolist())))
    return _one_block(flat.size, _varints(flat)[0])


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """An array field of many records: their arrays one behind the other, and the size of each."""

    flat: npt.NDArray[Any]
    sizes: Sequence[int]


Column = Ragged | npt.NDArray[Any] | list[Any] | tuple[str, ...] | str | int
"""A field of many records: one value for each, or one that all have. An array of numbers has one for each; one without
any is the array of all."""


def write_longs_each(values: npt.NDArray[np.integer], sizes: Sequence[int]) -> list[bytes]:
    """Arrays of longs of so many items, which stand one behind the other in `values`, each as `write_longs` has it."""
    if not values.size:
        return [b"\0"] * len(sizes)
    items = _cut(*_varints(values.reshape(-1)), sizes)
    return [write_long(size) + part + b"\0" if size else b"\0" for size, part in zip(sizes, items, strict=True)]


def write_long_each(values: npt.NDArray[np.integer]) -> list[bytes]:
    """Each as `write_long` has it."""
    return _cut(*_varints(values), [1] * len(values)) if len(values) else []


def write_doubles_each(values: Doubles, sizes: Sequence[int]) -> list[bytes]:
    """Arrays of doubles of so many items, which stand one behind the other, each as `write_doubles` has it."""
    items = _cut(np.ascontiguousarray(values, "<f8").tobytes(), 8, sizes)
    return [write_long(size) + part + b"\0" if size else b"\0" for size, part in zip(sizes, items, strict=True)]


def _cut(items: bytes, widths: int | npt.NDArray[np.intp], sizes: Sequence[int]) -> list[bytes]:
    """Bytes of the items, so many in each part; their widths, or the one they all have."""
    ends = np.cumsum(sizes)
    ends = ends * widths if isinstance(widths, int) else np.concatenate(([0], np.cumsum(widths)))[ends]
    at = [0, *ends.tolist()]
    return [items[begin:end] for begin, end in pairwise(at)]


def _varints(flat: npt.NDArray[np.integer]) -> tuple[bytes, int | npt.NDArray[np.intp]]:
    """Zigzag varints of some numbers, one behind the other; how wide each is, or all are."""
    if flat.dtype == np.uint8 and flat.max() < 64:
        return (flat << np.uint8(1)).tobytes(), 1
    if not flat.any():
        return bytes(flat.size), 1
    flat = flat.astype(np.int64, copy=False)
    z = ((flat << 1) ^ (flat >> 63)).view(np.uint64)
    low, high = int(z.min()), int(z.max())
    if high < 1 << 7:
        return z.astype(np.uint8).tobytes(), 1
    if low >= 1 << 49 and high < 1 << 56:
        marked = _split_eight(z) | np.uint64(0x0080808080808080)
        return marked.astype("<u8").tobytes(), 8
    width = (high.bit_length() + 6) // 7
    shifts = np.arange(0, 7 * width, 7, dtype=np.uint64)
    groups = (z[:, None] >> shifts).astype(np.uint64)
    later = np.zeros(groups.shape, bool)  # whether a group follows
    later[:, :-1] = groups[:, 1:] > 0
    used = np.ones(groups.shape, bool)
    used[:, 1:] = groups[:, 1:] > 0
    octets = ((groups & np.uint64(127)) | (later * np.uint64(128))).astype(np.uint8)
    return octets[used].tobytes(), used.sum(axis=1)


NAMES_MAX = 256
"""Longer arrays are written anew each time, so that what is remembered stays below some 100 MB."""


def write_strings(values: tuple[str, ...]) -> bytes:
    """An array of strings."""
    return _write_names(values) if len(values) <= NAMES_MAX else _write_strings(values)


def _write_strings(values: tuple[str, ...]) -> bytes:
    return _one_block(len(values), b"".join(map(write_string, values)))


# The channel names of a device repeat in each of its frames.
_write_names = lru_cache(maxsize=16_384)(_write_strings)
