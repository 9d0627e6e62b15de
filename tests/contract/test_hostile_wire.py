"""Every entry of the hostile corpus is refused with its reason, in bounded time and memory; nothing else happens."""

import json
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hostile_wire import BEAT, FRAMES_CORPUS, GOOD, GOOD_BYTES, HEARTBEATS_CORPUS, RAW, Hostile, beat, frame
from hypothesis import given
from hypothesis import strategies as st
from wire_examples import comparable, example

from schemas.alarms import read_action, read_alarm
from schemas.bundle import BUNDLE
from schemas.codec import HEADER, Codec
from schemas.columnar import Unread, Unreadable, write_long
from schemas.devices import Device
from schemas.frames import FRAMES, RawFrame
from schemas.records import Heartbeat, ImportStatus, Rejected

SECONDS_MAX = 3.0
"""The slowest entry takes some 0.1 s on an idle core: a million strings. Twenty times that is no loop gone wild."""

PEAK_FACTOR = 64
"""Bytes of memory for each byte of the record, at most: longs of one byte as int64, with what takes them apart."""


def refuse(read: Callable[[], Any], entry: Hostile) -> None:
    tracemalloc.start()
    started = time.perf_counter()
    try:
        with pytest.raises(Unreadable) as refused:
            read()
        took_s, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refused.value.reason in entry.reasons
    assert refused.value.detail
    assert took_s < SECONDS_MAX
    assert peak < PEAK_FACTOR * len(entry.data or b"") + 1_000_000


@pytest.mark.parametrize("entry", FRAMES_CORPUS, ids=str)
def test_hostile_frame_is_refused(entry: Hostile) -> None:
    refuse(lambda: Codec().decode_frame(RawFrame, entry.data), entry)


@pytest.mark.parametrize("entry", HEARTBEATS_CORPUS, ids=str)
def test_hostile_heartbeat_is_refused(entry: Hostile) -> None:
    refuse(lambda: Codec().decode(Heartbeat, entry.data), entry)


def test_the_parts_of_the_corpus_are_good_where_nothing_is_broken() -> None:
    assert comparable(Codec().decode_frame(RawFrame, GOOD_BYTES)) == comparable(GOOD)
    assert Codec().decode_frame(RawFrame, frame()).values.shape == (3, 2)
    assert Codec().decode(Heartbeat, beat()).device_id == "mast-7"


def test_largest_frame_of_one_byte_numbers_stays_within_bounds() -> None:
    count = 1_000_000
    data = frame(times=write_long(count) + b"\x80\x01" * (count // 2) + b"\x02" * (count // 2) + b"\0")
    refuse(
        lambda: Codec().decode_frame(RawFrame, data), Hostile("longs of mixed width", data, frozenset({Unread.RAGGED}))
    )


def test_remembered_channel_names_do_not_grow_without_bound() -> None:
    from schemas import columnar

    for n in range(300):
        columnar.read_strings(columnar.write_strings((f"{n}", "x" * 100_000)), 0)
        columnar.read_strings(columnar.write_strings((f"{n:040d}", "x" * 16_000)), 0)
        columnar.read_strings(columnar.write_strings((f"{n + 1000:040d}", "x" * 16_000)), 0)
    held = sum(len(raw) for raw, _ in columnar._seen.arrays.values())
    assert held <= columnar.SEEN_BYTES_MAX


RECORDS = (Heartbeat, Device, Rejected, ImportStatus)


@given(st.binary(max_size=300), st.sampled_from(RECORDS))
def test_random_bytes_are_a_record_or_unreadable(body: bytes, record: Any) -> None:
    codec = Codec()
    header = HEADER.pack(0, BUNDLE.newest(record.schema_name).id)
    with suppress(Unreadable):
        codec.decode(record, header + body)


@given(st.binary(max_size=300), st.sampled_from(list(FRAMES.values())))
def test_random_bytes_are_a_frame_or_unreadable(body: bytes, expected: Any) -> None:
    codec = Codec()
    header = HEADER.pack(0, BUNDLE.newest(expected.schema_name).id)
    with suppress(Unreadable):
        codec.decode_frame(expected, header + body)


@given(st.data())
def test_a_flipped_bit_is_a_record_or_unreadable(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from([GOOD_BYTES, beat(sources=write_long(1) + b"\2a" * 3 + b"\0")]))
    place = data.draw(st.integers(HEADER.size * 8, len(good) * 8 - 1))
    flipped = bytearray(good)
    flipped[place // 8] ^= 1 << place % 8
    with suppress(Unreadable):
        if good is GOOD_BYTES:
            Codec().decode_frame(RawFrame, bytes(flipped))
        else:
            Codec().decode(Heartbeat, bytes(flipped))


@pytest.mark.parametrize("data", [None, b"", b"{", b"\xff", b"[]", b"{}", b"null", b"[" * 100_000, RAW, BEAT])
@pytest.mark.parametrize("read", [read_alarm, read_action])
def test_what_is_no_event_is_unreadable(read: Callable[[bytes | None], object], data: bytes | None) -> None:
    with pytest.raises(Unreadable) as refused:
        read(data)
    assert "pydantic" not in refused.value.detail


@pytest.mark.parametrize(
    ("read", "name"), [(read_alarm, "alarm.v1.silent.json"), (read_action, "alarm_action.v1.shelve.json")]
)
@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_an_event_of_a_time_that_utc_does_not_have_is_unreadable(
    read: Callable[[bytes | None], object], name: str, time: str
) -> None:
    event = example(name) | {"time": time}
    with pytest.raises(Unreadable, match="time: "):
        read(json.dumps(event).encode())


def test_numbers_of_any_width_mean_the_same_alone_and_in_a_row() -> None:
    """The vectorised reader refuses exactly what the plain one refuses."""
    from schemas.columnar import read_long, read_longs

    dice = np.random.default_rng(3)
    for _ in range(3000):
        octets = dice.integers(0, 256, int(dice.integers(1, 13)), np.uint8)
        octets[:-1] |= 128
        octets[-1] &= 127
        one = octets.tobytes()
        try:
            expected = read_long(one, 0)[0]
        except Unreadable as error:
            with pytest.raises(Unreadable, match=error.reason):
                read_longs(write_long(6) + b"\1\2\3\4\5" + one + b"\0", 0)
        else:
            assert read_longs(write_long(6) + b"\1\2\3\4\5" + one + b"\0", 0)[0][-1] == expected


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1, (1 << 64) - 2])
def test_a_number_that_nobody_could_read_again_is_not_written(number: int) -> None:
    with pytest.raises(OverflowError):
        write_long(number)
