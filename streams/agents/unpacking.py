"""Compressed batches, unpacked into bounded memory. Knows aiokafka's records; knows nothing of what they hold.

A batch of a few kilobytes can unpack to gigabytes. The broker bounds what it takes by its compressed size, and aiokafka
unpacks a batch as a whole; so its decoders are replaced by such that stop at a bound. Of a batch beyond it each record
is handed on without its content, to be rejected as any other that cannot be read.

The names of a record's headers are bytes to the broker and UTF-8 to aiokafka, which throws on others whenever it meets
them: one record would end all workers. Such a batch is taken apart here.
"""

import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cramjam
from aiokafka import codec
from aiokafka.errors import CorruptRecordException
from aiokafka.record import default_records
from aiokafka.record._crecords import default_records as compiled
from aiokafka.record.default_records import _DefaultRecordBatchPy as PlainBatch
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

UNPACKED_BYTES_MAX = 64 << 20
"""Of one batch. Producers put 1 MB into a batch, or one record of up to the topic's 4 MB, which pack to no less than
themselves. Below it a worker's memory is bounded by a few of these; above, one device could end all workers."""
USUAL_BYTES = 4 << 20
"""What is kept for unpacking; a batch that needs more gets the bound's memory for itself."""

_kept = threading.local()


class TooLargeError(Exception):
    """A batch unpacks to more than is taken."""


class Withheld(NamedTuple):
    """A record of such a batch, as far as it is known."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: None = None
    value: None = None
    headers: tuple[()] = ()
    oversized: bool = True


def install() -> None:
    """Has aiokafka unpack with the bound, in this process."""
    for module in (default_records, compiled):
        module.gzip_decode = gzip_decode
        module.snappy_decode = snappy_decode
        module.lz4_decode = lz4_decode
        module.zstd_decode = zstd_decode


def lz4_decode(data: Any) -> bytes:
    return _into(cramjam.lz4.decompress_into, data)


def zstd_decode(data: Any) -> bytes:
    return _into(cramjam.zstd.decompress_into, data)


def gzip_decode(data: Any) -> bytes:
    made, rest = b"", bytes(data)
    while rest:
        one = zlib.decompressobj(wbits=31)
        made += one.decompress(rest, UNPACKED_BYTES_MAX + 1 - len(made))
        if len(made) > UNPACKED_BYTES_MAX:
            raise TooLargeError
        if not one.eof:
            raise EOFError("gzip: the batch is cut short")
        rest = one.unused_data
    return made


def snappy_decode(data: Any) -> bytes:
    """Its blocks say how long they become."""
    raw = bytes(data)
    at = 16 if codec._detect_xerial_stream(raw) else None
    total = 0
    while at is not None and at + 4 <= len(raw):
        (length,) = struct.unpack_from("!i", raw, at)
        total += cramjam.snappy.decompress_raw_len(raw[at + 4 : at + 4 + max(0, length)])
        at += 4 + max(0, length)
    if (total if at is not None else cramjam.snappy.decompress_raw_len(raw)) > UNPACKED_BYTES_MAX:
        raise TooLargeError
    made: bytes = codec.snappy_decode(raw)
    return made


def _into(unpack: Callable[[bytes, bytearray], int], data: bytes) -> bytes:
    usual = getattr(_kept, "usual", None)
    if usual is None:
        usual = _kept.usual = bytearray(USUAL_BYTES)
    for room in (usual, None):
        target = usual if room is not None else bytearray(UNPACKED_BYTES_MAX)
        try:
            return bytes(memoryview(target)[: unpack(data, target)])
        except cramjam.DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
    raise TooLargeError


class Fetched(MemoryRecords):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's batches of one answer, and their bytes."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class Bounded:
    """aiokafka's batches of one answer, those that are too large without their content."""

    def __init__(self, records: Fetched, *, check_crcs: bool) -> None:
        self._records = records
        self._check_crcs = check_crcs
        self._taken = 0  # batches
        self._again = False

    def has_next(self) -> bool:
        return self._again or self._records.has_next()

    def again(self) -> None:
        """The batch taken last comes next once more, whatever the names of its headers are."""
        self._again = True

    def next_batch(self) -> Any:
        if self._again:
            self._again = False
            return _AnyNames(self._last())
        self._taken += 1
        batch = self._records.next_batch()
        if self._check_crcs and not batch.validate_crc():
            raise CorruptRecordException("invalid CRC of a batch")  # as aiokafka does, which fetches it again then
        if batch.is_control_batch:
            return batch
        try:
            iter(batch)  # unpacks it, once
        except TooLargeError:
            return _Oversized(batch)
        return batch

    def _last(self) -> memoryview:
        """The bytes of the batch taken last; each says behind its offset how long the rest of it is."""
        data = memoryview(self._records.data)
        begin = end = 0
        for _ in range(self._taken):
            begin, end = end, end + LENGTH_ENDS + struct.unpack_from("!i", data, end + LENGTH_BEGINS)[0]
        return data[begin:end]


LENGTH_BEGINS, LENGTH_ENDS = 8, 12  # in a batch


class _AnyNames(PlainBatch):  # type: ignore[misc]
    """A batch of which some header's name is no UTF-8: there half characters stand for its bytes."""

    _pos: int

    def _read_msg(self, *_: Any) -> Any:
        """KIP-98's record: length, attributes, deltas of time and offset, key, value, headers."""
        length, self._pos = decode_varint(self._buffer, self._pos)
        end = self._pos + length
        self._pos += 1
        later_ms, after = self._number(), self._number()
        key, value = self._bytes(), self._bytes()
        headers = [(self._name(), self._bytes()) for _ in range(self._number())]
        if self._pos != end:
            raise CorruptRecordException(f"a record of {length} bytes ends {self._pos - end} bytes behind its end")
        stamp = self.max_timestamp if self.timestamp_type else self.first_timestamp + later_ms
        return _Record(self.base_offset + after, stamp, self.timestamp_type, key, value, headers)

    def _name(self) -> str:
        return (self._bytes() or b"").decode(errors="surrogateescape")

    def _number(self) -> int:
        number, self._pos = decode_varint(self._buffer, self._pos)
        return int(number)

    def _bytes(self) -> bytes | None:
        size = self._number()
        if size < 0:
            return None
        self._pos += size
        return bytes(self._buffer[self._pos - size : self._pos])


class _Record(NamedTuple):
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class _Oversized:
    """A batch of which only its header is known."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Withheld]:
        one = self._batch
        for offset in range(one.base_offset, one.next_offset):
            yield Withheld(offset, one.max_timestamp, one.timestamp_type)
