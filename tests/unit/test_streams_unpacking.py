"""Batches that unpack to more than is taken are told from others without unpacking them; no broker."""

import gzip
import os
import struct

import cramjam
import pytest
from aiokafka import TopicPartition, codec
from aiokafka.consumer.fetcher import READ_COMMITTED
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy as PlainBuilder
from aiokafka.record.memory_records import MemoryRecords

from streams.agents import unpacking
from streams.agents.driver import TakenRecords
from streams.agents.unpacking import UNPACKED_BYTES_MAX, Fetched, TooLargeError

PACK = {
    "gzip": lambda data: gzip.compress(data, 1),
    "snappy": codec.snappy_encode,
    "snappy_raw": lambda data: codec.snappy_encode(data, xerial_compatible=False),
    "lz4": codec.lz4_encode,
    "zstd": codec.zstd_encode,
}
UNPACK = {name: getattr(unpacking, f"{name.partition('_')[0]}_decode") for name in PACK}


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("size", [1, 70_000, unpacking.USUAL_BYTES + 1])
def test_what_is_not_too_large_is_unpacked_as_it_was(name, size):
    data = os.urandom(min(size, 1_000)) * (size // 1_000 + 1)
    data = data[:size]
    assert UNPACK[name](memoryview(PACK[name](data))) == data


@pytest.mark.parametrize("name", PACK)
def test_a_bomb_is_refused(name):
    packed = PACK[name](bytes(UNPACKED_BYTES_MAX + 1))
    assert len(packed) < 4 << 20
    with pytest.raises(TooLargeError):
        UNPACK[name](packed)


@pytest.mark.parametrize("name", ["lz4", "zstd", "gzip"])
def test_damage_is_no_bomb(name):
    packed = bytearray(PACK[name](os.urandom(5_000)))
    del packed[len(packed) // 2 :]
    with pytest.raises((cramjam.DecompressionError, EOFError)):
        UNPACK[name](bytes(packed))


def test_each_record_of_a_bomb_is_handed_on_without_content_and_the_others_whole(monkeypatch):
    unpacking.install()
    monkeypatch.setattr(unpacking, "UNPACKED_BYTES_MAX", 10_000)
    monkeypatch.setattr(unpacking, "USUAL_BYTES", 1_000)
    monkeypatch.setattr(unpacking, "_kept", unpacking.threading.local())
    batches = []
    for values in ([b"a", b"b"], [bytes(9_000), bytes(9_000)], [b"c"]):
        made = DefaultRecordBatchBuilder(2, DefaultRecordBatch.CODEC_ZSTD, False, -1, -1, -1, 1 << 20)
        for number, value in enumerate(values):
            made.append(number, 1_000, b"key", value, [])
        batches.append(bytes(made.build()))
    records = unpacking.Bounded(MemoryRecords(b"".join(batches)), check_crcs=True)
    found = []
    while records.has_next():
        found.append([(record.value, getattr(record, "oversized", False)) for record in records.next_batch()])
    assert found == [[(b"a", False), (b"b", False)], [(None, True), (None, True)], [(b"c", False)]]


@pytest.mark.parametrize("kind", [DefaultRecordBatch.CODEC_NONE, DefaultRecordBatch.CODEC_LZ4])
def test_a_header_whose_name_is_no_text_stops_nothing(kind):
    """To the broker it is bytes; aiokafka threw on it whenever the batch was fetched, in every worker."""
    unpacking.install()
    batches = []
    for first in (0, 4):
        made = PlainBuilder(2, kind, False, -1, -1, -1, 1 << 20)
        for number in range(4):
            headers = [(NoText(), b"x"), ("signature", b"s"), ("null", None)] if first + number == 5 else [("a", b"b")]
            made.append(number, 1_000 + number, b"key" if number else None, b"value" * 100, headers)
        batches.append(bytearray(made.build()))
    struct.pack_into("!q", batches[1], 0, 4)  # the broker writes where a batch begins
    records = Fetched(bytes(b"".join(batches)))
    found = list(TakenRecords(TopicPartition("readings.raw", 0), records, None, 0, None, None, True, READ_COMMITTED))
    assert [(taken.offset, taken.timestamp) for taken in found] == [(at, 1_000 + at % 4) for at in range(8)]
    assert {(taken.key, taken.value) for taken in found} == {(b"key", b"value" * 100), (None, b"value" * 100)}
    assert [taken.offset for taken in found if taken.signature] == [5]


class NoText(str):
    """A header's name as a client in C may write it."""

    def encode(self, *_):
        return b"\xff\xfe"
