"""Compressed batches, unpacked into bounded memory. Knows aiokafka's records; knows nothing of what they hold.

A batch of a few kilobytes can unpack to gigabytes. The broker bounds what it takes by its compressed size, and aiokafka
unpacks a batch as a whole; so its decoders are replaced by such that stop at a bound. Of a batch beyond it each record
is handed on without its content, to be rejected as any other that cannot be read.
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


class Bounded:
    """aiokafka's batches of one answer, those that are too large without their content."""

    def __init__(self, records: Any, *, check_crcs: bool) -> None:
        self._records = records
        self._check_crcs = check_crcs
        self.has_next = records.has_next

    def next_batch(self) -> Any:
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
