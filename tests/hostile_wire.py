"""Bytes that are no record, as data: every way to break the wire that we have met or thought of is one entry.

The codec meets them in tests/contract; the stage and the sink may be fed the same corpus. Each entry says what it
breaks, the bytes, and the reason that a reader must give.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from schemas.bundle import BUNDLE
from schemas.codec import HEADER, Codec
from schemas.columnar import (
    BLOCKS_MAX,
    STRINGS_MAX,
    Unread,
    write_doubles,
    write_long,
    write_longs,
    write_string,
    write_strings,
)
from schemas.frames import RawFrame
from schemas.strict import ITEMS_MAX


@dataclass(frozen=True)
class Hostile:
    """One entry. `reasons`: any of these is right."""

    name: str
    data: bytes | None
    reasons: frozenset[Unread]

    def __str__(self) -> str:
        return self.name


def _one(name: str, data: bytes | None, *reasons: Unread) -> Hostile:
    return Hostile(name, data, frozenset(reasons))


ANY = tuple(Unread)
TIMES = np.array([1_483_552_200_000_000, 1_483_552_800_000_000, 1_483_553_400_000_000])
GOOD = RawFrame("mast-7", "9f0c", 3, TIMES, ("Spd80mN", "T2m"), np.array([1.0, 2.0, 3.0, 4.0, 5.0, np.nan]))
GOOD_BYTES = Codec().encode(GOOD)
RAW = HEADER.pack(0, BUNDLE.newest("raw_frame").id)
BEAT = HEADER.pack(0, BUNDLE.newest("heartbeat").id)
TOO_LONG = b"\x80" * 10 + b"\x00"
TOO_LARGE = b"\xff" * 9 + b"\x02"
HUGE = 1 << 62


def frame(
    *,
    device_id: bytes = write_string("mast-7"),
    sequence: bytes = write_long(3),
    times: bytes = write_longs(TIMES),
    channels: bytes = write_strings(("a", "b")),
    values: bytes = write_doubles(np.zeros(6)),
    status: bytes = b"\0",
) -> bytes:
    """A raw frame out of its parts, one of which is replaced."""
    return RAW + device_id + write_string("9f0c") + sequence + times + channels + values + status


def beat(
    *,
    device_id: bytes = write_string("mast-7"),
    next_sequence: bytes = write_long(0),
    time: bytes = write_long(0),
    oldest: bytes = b"\0",
    synchronised: bytes = b"\0",
    sources: bytes = b"\0",
    counts: bytes = write_long(0) * 5,
) -> bytes:
    """A heartbeat out of its parts: what fastavro reads, and is lenient about."""
    head = BEAT + device_id + write_string("s") + time + write_long(0) + write_string("v") + next_sequence
    return head + write_long(0) * 2 + oldest + counts + b"\0" + synchronised + sources + b"\0"


def _framing() -> Iterator[Hostile]:
    yield _one("null", None, Unread.EMPTY)
    yield _one("empty", b"", Unread.EMPTY)
    yield _one("only a magic byte", b"\0", Unread.TRUNCATED)
    yield _one("magic and half an id", b"\0\0\0", Unread.TRUNCATED)
    yield _one("only a header", RAW, Unread.TRUNCATED)
    yield _one("magic 1", b"\1" + GOOD_BYTES[1:], Unread.WRONG_MAGIC)
    yield _one("magic -128", b"\x80" + GOOD_BYTES[1:], Unread.WRONG_MAGIC)
    yield _one("json", b'{"device_id": "mast-7"}', Unread.WRONG_MAGIC)
    yield _one("an Avro container file", b"Obj\1" + GOOD_BYTES, Unread.WRONG_MAGIC)
    yield _one("id 0", HEADER.pack(0, 0) + GOOD_BYTES[5:], Unread.UNKNOWN_SCHEMA)
    yield _one("id of nobody", HEADER.pack(0, 0xFFFFFFFF) + GOOD_BYTES[5:], Unread.UNKNOWN_SCHEMA)
    yield _one("id in the wrong byte order", b"\0\1\0\0\0" + GOOD_BYTES[5:], Unread.UNKNOWN_SCHEMA)
    yield _one("id of another schema", HEADER.pack(0, 6) + GOOD_BYTES[5:], Unread.WRONG_SCHEMA)
    yield _one("one byte behind", GOOD_BYTES + b"\0", Unread.TRAILING_BYTES)
    yield _one("two records in one", GOOD_BYTES + GOOD_BYTES[5:], Unread.TRAILING_BYTES)
    for size in range(HEADER.size, len(GOOD_BYTES)):
        yield _one(f"cut at byte {size}", GOOD_BYTES[:size], Unread.TRUNCATED, Unread.ABSURD_LENGTH)


def _numbers() -> Iterator[Hostile]:
    yield _one("number of eleven bytes", frame(sequence=TOO_LONG), Unread.BAD_VARINT)
    yield _one("number of 65 bits", frame(sequence=TOO_LARGE), Unread.BAD_VARINT)
    yield _one("number without end", frame(sequence=b"\xff" * 5000), Unread.BAD_VARINT)
    many = write_long(9) + write_long(0) * 8
    yield _one("time of eleven bytes among nine", frame(times=many + TOO_LONG + b"\0"), Unread.BAD_VARINT)
    yield _one("time of 65 bits among nine", frame(times=many + TOO_LARGE + b"\0"), Unread.BAD_VARINT)
    yield _one("time without end among nine", frame(times=many + b"\xff" * 200), Unread.BAD_VARINT)
    yield _one("time of eleven bytes among two", frame(times=write_long(2) + b"\0" + TOO_LONG), Unread.BAD_VARINT)
    yield _one("length of eleven bytes", frame(device_id=TOO_LONG), Unread.BAD_VARINT)


def _lengths() -> Iterator[Hostile]:
    for size in (HUGE, (1 << 63) - 1, 1 << 31, 1000):
        yield _one(f"text of {size} bytes", frame(device_id=write_long(size) + b"abc"), Unread.ABSURD_LENGTH)
    for size in (-1, -3, -HUGE, -(1 << 63)):
        yield _one(f"text of {size} bytes", frame(device_id=write_long(size) + b"abc"), Unread.ABSURD_LENGTH)
    for field in ("times", "channels", "values"):
        for count in (HUGE, (1 << 63) - 1, 1 << 31, -HUGE, -(1 << 63)):
            size = write_long(8) if count < 0 else b""
            broken = frame(**{field: write_long(count) + size + b"\0" * 8})
            yield _one(f"{count} {field}", broken, Unread.ABSURD_LENGTH)
    yield _one("status of 2**62 words", frame(status=b"\2" + write_long(HUGE)), Unread.ABSURD_LENGTH)
    yield _one("array without its end", frame(status=b"\2" + write_long(1) + b"\0"), Unread.TRUNCATED)
    one_each = write_long(1) + b"\0"
    yield _one("a block for each time", frame(times=one_each * (BLOCKS_MAX + 1) + b"\0"), Unread.ABSURD_LENGTH)
    many = write_long(STRINGS_MAX + 1) + b"\0" * (STRINGS_MAX + 1)
    yield _one("a million empty channels", frame(channels=many + b"\0"), Unread.ABSURD_LENGTH)


def _contents() -> Iterator[Hostile]:
    yield _one("device id is no UTF-8", frame(device_id=write_long(2) + b"\xff\xfe"), Unread.NOT_TEXT)
    yield _one("device id is half a character", frame(device_id=write_long(3) + b"\xed\xa0\x80"), Unread.NOT_TEXT)
    yield _one("channel is no UTF-8", frame(channels=write_long(1) + write_long(1) + b"\xe9\0"), Unread.NOT_TEXT)
    yield _one("a value too few", frame(values=write_doubles(np.zeros(5))), Unread.RAGGED)
    yield _one("a value too many", frame(values=write_doubles(np.zeros(7))), Unread.RAGGED)
    yield _one("values without times", frame(times=b"\0"), Unread.RAGGED)
    yield _one("values without channels", frame(channels=b"\0"), Unread.RAGGED)
    yield _one("status for two of three rows", frame(status=b"\2" + write_longs(TIMES[:2])), Unread.RAGGED)
    yield _one("third branch of two", frame(status=b"\4"), Unread.BAD_VALUE)
    yield _one("branch -1 of two", frame(status=b"\1\0"), Unread.BAD_VALUE)
    dice = random.Random(7)
    for size in (5, 16, 100, 1000, 10_000):
        yield _one(f"{size} random bytes", b"\xff" + dice.randbytes(size), Unread.WRONG_MAGIC)
        yield _one(f"{size} random bytes behind a header", RAW + b"\xff" + dice.randbytes(size), *ANY)


FRAMES_CORPUS = (*_framing(), *_numbers(), *_lengths(), *_contents())
"""Sent as `readings.raw`."""


def _heartbeats() -> Iterator[Hostile]:
    good = beat(oldest=b"\2" + write_long(1), sources=write_long(1) + write_string("a") * 3 + b"\0" * 4)
    yield _one("null", None, Unread.EMPTY)
    yield _one("empty", b"", Unread.EMPTY)
    yield _one("a raw frame", GOOD_BYTES, Unread.WRONG_SCHEMA)
    yield _one("one byte behind", good + b"\0", Unread.TRAILING_BYTES)
    for size in range(HEADER.size, len(good)):
        yield _one(f"cut at byte {size}", good[:size], Unread.TRUNCATED, Unread.ABSURD_LENGTH)
    yield _one("number of eleven bytes", beat(next_sequence=TOO_LONG), Unread.BAD_VARINT)
    yield _one("number of 65 bits", beat(next_sequence=TOO_LARGE), Unread.BAD_VARINT)
    for size in (HUGE, (1 << 63) - 1, -1, -3, -(1 << 63)):
        yield _one(f"text of {size} bytes", beat(device_id=write_long(size) + b"abc"), Unread.ABSURD_LENGTH)
        count = write_long(size) + (write_long(3) if size < 0 else b"") + b"\0"
        if size not in (-1, -3):
            yield _one(f"{size} sources", beat(sources=count), Unread.ABSURD_LENGTH)
    yield _one("device id is no UTF-8", beat(device_id=write_long(2) + b"\xff\xfe"), Unread.NOT_TEXT)
    yield _one("third branch of two", beat(oldest=b"\4"), Unread.BAD_VALUE)
    yield _one("branch -1 of two", beat(oldest=b"\1"), Unread.BAD_VALUE)
    yield _one("boolean of 7", beat(synchronised=b"\2\7"), Unread.BAD_VALUE)
    yield _one("year 148108", beat(time=write_long(HUGE)), Unread.BAD_VALUE)
    yield _one("year before Christ", beat(time=write_long(-(1 << 63))), Unread.BAD_VALUE)
    for count in (-1, HUGE, (1 << 63) - 1):  # two of them are added up in the device's state
        yield _one(f"{count} readings dropped", beat(counts=write_long(count) * 5), Unread.BAD_VALUE)
    several = write_long(ITEMS_MAX + 1) + b"\0" * 6 * (ITEMS_MAX + 1) + b"\0"
    yield _one("too many sources", beat(sources=several), Unread.ABSURD_LENGTH)
    single = (write_long(1) + b"\0" * 6) * (BLOCKS_MAX + 1) + b"\0"
    yield _one("a block for each source", beat(sources=single), Unread.ABSURD_LENGTH)
    dice = random.Random(11)
    for size in (16, 100, 1000):
        yield _one(f"{size} random bytes behind a header", BEAT + b"\xff" + dice.randbytes(size), *ANY)


HEARTBEATS_CORPUS = tuple(_heartbeats())
"""Sent as `heartbeats`."""
