"""decode(encode(x)) == x for every record, and fastavro is the oracle in both directions."""

import io
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_examples import comparable, framed

from schemas import columnar
from schemas.bundle import BUNDLE, IDS, Bundle, Schema
from schemas.codec import HEADER, Codec
from schemas.columnar import Unreadable
from schemas.devices import Calibration, Device, Logger, Sensor, Station
from schemas.frames import CleanFrame, DeviceState, Frame, RawFrame, WindowFrame
from schemas.limits import GrossRange, Limits
from schemas.records import Heartbeat, ImportStatus, Rejected, SourceState

LONG = st.integers(-(1 << 63), (1 << 63) - 1)
INT = st.integers(-(1 << 31), (1 << 31) - 1)
SMALL = st.integers(0, 127)
MICROS = st.integers(1_400_000_000_000_000, 1_900_000_000_000_000)
DOUBLE = st.floats(allow_nan=True, allow_infinity=True)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def longs(size: int) -> st.SearchStrategy[Any]:
    """Rows of one kind and of mixed kinds, because each width has a way of its own."""
    kinds = st.sampled_from([LONG, INT, SMALL, MICROS, st.one_of(SMALL, LONG)])
    return kinds.flatmap(lambda kind: st.lists(kind, min_size=size, max_size=size)).map(
        lambda values: np.array(values, np.int64)
    )


def doubles(size: int) -> st.SearchStrategy[Any]:
    return st.lists(DOUBLE, min_size=size, max_size=size).map(lambda values: np.array(values, np.float64))


def names(size: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(TEXT, min_size=size, max_size=size).map(tuple)


@st.composite
def raw_frames(draw: st.DrawFn) -> RawFrame:
    rows, columns = draw(st.integers(0, 30)), draw(st.integers(0, 4))
    return RawFrame(
        draw(TEXT),
        draw(TEXT),
        draw(LONG),
        draw(longs(rows)),
        draw(names(columns)),
        draw(doubles(rows * columns)),
        draw(st.none() | longs(rows).map(lambda words: words % 1000)),
    )


@st.composite
def clean_frames(draw: st.DrawFn) -> CleanFrame:
    rows, columns = draw(st.integers(0, 20)), draw(st.integers(0, 4))
    size = rows * columns
    flags = st.lists(st.sampled_from([1, 2, 3, 4, 9]), min_size=size, max_size=size).map(np.array)
    return CleanFrame(
        draw(TEXT),
        draw(LONG),
        draw(longs(rows)),
        draw(names(columns)),
        draw(doubles(size)),
        draw(doubles(size)),
        draw(flags).astype(draw(st.sampled_from(["i1", "i4", "i8"]))),
        draw(st.lists(st.integers(0, 1 << 20), min_size=size, max_size=size).map(lambda v: np.array(v, np.int32))),
    )


@st.composite
def window_frames(draw: st.DrawFn) -> WindowFrame:
    n = draw(st.integers(0, 12))
    counts = [draw(longs(n)) % (1 << 31) for _ in range(7)]
    return WindowFrame(
        draw(TEXT), draw(LONG), draw(names(n)), draw(longs(n)), *counts, *(draw(doubles(n)) for _ in range(4))
    )


@st.composite
def device_states(draw: st.DrawFn) -> DeviceState:
    spools, windows, alarms, judged, sensors = (draw(st.integers(0, 6)) for _ in range(5))
    rows, tracks, records, holes, lists, runs, beats = (draw(st.integers(0, 6)) for _ in range(7))
    return DeviceState(
        draw(TEXT),
        *(draw(LONG) for _ in range(7)),
        draw(names(spools)),
        *(draw(longs(spools)) for _ in range(2)),
        draw(names(windows)),
        draw(longs(windows)),
        draw(longs(windows)) % (1 << 31),
        *(draw(longs(windows)) for _ in range(4)),
        *(draw(doubles(windows)) for _ in range(4)),
        *(draw(names(alarms)) for _ in range(4)),
        draw(longs(alarms)),
        draw(names(alarms)),
        *(draw(longs(alarms)) for _ in range(2)),
        draw(doubles(alarms)),
        *(draw(longs(alarms)) for _ in range(5)),
        draw(names(judged)),
        draw(longs(judged)),
        draw(doubles(judged)),
        draw(longs(judged)),
        draw(names(sensors)),
        draw(longs(sensors)),
        *(draw(LONG) for _ in range(3)),
        draw(TEXT),
        *(draw(LONG) for _ in range(4)),
        draw(names(rows)),
        draw(longs(rows)),
        *(draw(doubles(rows)) for _ in range(3)),
        *(draw(longs(rows)) for _ in range(3)),
        draw(names(tracks)),
        *(draw(longs(tracks)) for _ in range(3)),
        draw(longs(records)),
        draw(doubles(records)),
        draw(longs(windows)),
        draw(names(holes)),
        *(draw(longs(holes)) for _ in range(5)),
        draw(names(lists)),
        *(draw(longs(lists)) for _ in range(3)),
        *(draw(longs(runs)) for _ in range(2)),
        draw(names(beats)),
        *(draw(longs(beats)) for _ in range(2)),
    )


FRAMES = st.one_of(raw_frames(), clean_frames(), window_frames(), device_states())


@given(FRAMES)
def test_frame_survives_the_wire(frame: Frame) -> None:
    codec = Codec()
    assert comparable(codec.decode_frame(type(frame), codec.encode(frame))) == comparable(frame)  # type: ignore[type-var]


@given(FRAMES)
def test_fastavro_reads_what_we_write(frame: Frame) -> None:
    schema = BUNDLE.newest(frame.schema_name)
    body = io.BytesIO(Codec().encode(frame)[HEADER.size :])
    assert comparable(fastavro.schemaless_reader(body, schema.plain, None)) == comparable(frame)
    assert body.read() == b""


def as_lists(frame: Frame) -> dict[str, Any]:
    """The frame as fastavro wants it."""
    plain = {}
    for name in frame.__slots__:
        value = getattr(frame, name)
        value = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else value
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain


@given(FRAMES)
def test_we_read_what_fastavro_writes(frame: Frame) -> None:
    schema = BUNDLE.newest(frame.schema_name)
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema.plain, as_lists(frame))
    assert comparable(Codec().decode_frame(type(frame), framed(schema, body.getvalue()))) == comparable(frame)  # type: ignore[type-var]


@st.composite
def blocks(draw: st.DrawFn, items: list[bytes]) -> bytes:
    """The items as some legal writer may have cut them: several blocks, with and without a byte size."""
    out = b""
    while items:
        count = draw(st.integers(1, len(items)))
        body = b"".join(items[:count])
        if draw(st.booleans()):
            out += columnar.write_long(-count) + columnar.write_long(len(body)) + body
        else:
            out += columnar.write_long(count) + body
        items = items[count:]
    return out + b"\0"


@given(st.data())
def test_arrays_cut_into_blocks_read_the_same(data: st.DataObject) -> None:
    frame = data.draw(raw_frames())
    pieces = [columnar.write_string(frame.device_id), columnar.write_string(frame.spool_id)]
    pieces.append(columnar.write_long(frame.sequence))
    pieces.append(data.draw(blocks([columnar.write_long(int(t)) for t in frame.times])))
    pieces.append(data.draw(blocks([columnar.write_string(name) for name in frame.channels])))
    pieces.append(data.draw(blocks([np.float64(v).tobytes() for v in frame.values.reshape(-1)])))
    status = None if frame.status is None else [columnar.write_long(int(word)) for word in frame.status]
    pieces.append(b"\0" if status is None else b"\2" + data.draw(blocks(status)))
    schema = BUNDLE.newest("raw_frame")
    body = b"".join(pieces)
    assert comparable(Codec().decode_frame(RawFrame, framed(schema, body))) == comparable(frame)
    assert comparable(fastavro.schemaless_reader(io.BytesIO(body), schema.plain, None)) == comparable(frame)


UTC_TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by the strategy's wish
SOME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
IDS_TEXT = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
COUNT = st.integers(0, (1 << 63) - 1)

heartbeats = st.builds(
    Heartbeat,
    **dict.fromkeys(["device_id", "spool_id", "version"], TEXT),
    **dict.fromkeys(["time", "started"], UTC_TIMES),
    **dict.fromkeys(["next_sequence", "depth", "depth_bytes", "accepted", "sent", "free_disk_bytes"], COUNT),
    **dict.fromkeys(["dropped", "refused"], st.integers(0, (1 << 62) - 1)),
    oldest_unsent=st.none() | UTC_TIMES,
    clock_offset_s=st.none() | FINITE,
    clock_synchronised=st.none() | st.booleans(),
    sources=st.lists(st.builds(SourceState, name=TEXT, state=TEXT, detail=TEXT), max_size=3).map(tuple),
)
rejections = st.builds(
    Rejected,
    **dict.fromkeys(["topic", "reason", "detail"], TEXT),
    partition=st.integers(0, 1000),
    offset=COUNT,
    device_id=st.none() | TEXT,
    rows=COUNT,
    time=UTC_TIMES,
    payload=st.binary(max_size=50),
)
imports = st.builds(
    ImportStatus,
    **dict.fromkeys(["sha256", "name", "state"], TEXT),
    **dict.fromkeys(["device_id", "format", "spool_id", "reason"], st.none() | TEXT),
    **dict.fromkeys(["rows", "readings", "sent"], COUNT),
    **dict.fromkeys(["last_sequence", "line"], st.none() | COUNT),
    time=UTC_TIMES,
)


@st.composite
def intervals(draw: st.DrawFn) -> list[tuple[datetime | None, datetime | None]]:
    edges: list[datetime | None] = sorted(draw(st.lists(UTC_TIMES, min_size=2, max_size=5, unique=True)))  # type: ignore[type-var]
    edges[0] = draw(st.sampled_from([edges[0], None]))
    edges[-1] = draw(st.sampled_from([edges[-1], None]))
    return list(pairwise(edges))


@st.composite
def sensors(draw: st.DrawFn, channel: str) -> Sensor:
    number = st.none() | FINITE
    slope = st.none() | FINITE.filter(lambda value: value != 0)
    calibrations = tuple(
        Calibration(
            valid_from=start,
            valid_to=end,
            logger_slope=draw(slope),
            logger_offset=draw(number),
            slope=draw(slope),
            offset=draw(number),
            dead_band_orientation_deg=draw(number),
            serial=draw(st.none() | TEXT),
            instrument=draw(st.none() | TEXT),
        )
        for start, end in draw(intervals())
    )
    span = st.none() | st.just((-1.0, 1.0))
    gross = draw(st.none() | st.builds(GrossRange, fail=span, suspect=span))
    return Sensor(
        channel=channel,
        point=draw(SOME),
        quantity=draw(SOME),
        unit=draw(TEXT),
        statistic=draw(SOME),
        height_m=draw(number),
        boom_orientation_deg=draw(number),
        calibrations=calibrations,
        limits=Limits(gross_range=gross),
        windows_s=tuple(draw(st.lists(st.integers(1, 86_400), max_size=3))),
    )


@st.composite
def devices(draw: st.DrawFn) -> Device:
    loggers = tuple(
        Logger(
            valid_from=start,
            valid_to=end,
            maker=draw(st.none() | TEXT),
            utc_offset_minutes=draw(st.none() | st.integers(-840, 840)),
            stamp=draw(st.sampled_from([None, "begin", "end"])),
            interval_s=draw(st.none() | st.floats(0.001, 1e6)),
        )
        for start, end in draw(intervals())
    )
    return Device(
        device_id=draw(IDS_TEXT),
        name=draw(SOME),
        station=Station(station_id=draw(IDS_TEXT), name=draw(SOME), latitude_deg=draw(st.none() | st.floats(-90, 90))),
        loggers=loggers,
        exists_from=draw(st.none() | UTC_TIMES),
        sensors=tuple(draw(sensors(channel)) for channel in draw(st.lists(SOME, max_size=2, unique=True))),
        configured_at=draw(UTC_TIMES),
        configured_by=draw(SOME),
    )


@settings(max_examples=60)
@given(st.one_of(heartbeats, rejections, imports, devices()))
def test_record_survives_the_wire(record: Any) -> None:
    codec = Codec()
    assert codec.decode(type(record), codec.encode(record)) == record


@given(st.datetimes(timezones=st.just(UTC)), st.integers(-840, 840))
def test_time_in_any_zone_is_the_same_instant(instant: datetime, minutes: int) -> None:
    from datetime import timezone

    if not 2 < instant.year < 9998:
        return
    elsewhere = instant.astimezone(timezone(timedelta(minutes=minutes)))
    record = Rejected(
        topic="t", partition=0, offset=0, device_id=None, reason="r", detail="", rows=0, time=elsewhere, payload=b""
    )
    assert record.time == instant
    assert record.time.tzinfo is UTC


class Former(Bundle):
    """A bundle whose raw frames had another version before: without `status`, with a field that has gone since."""

    def __init__(self) -> None:
        super().__init__()
        shape = json.loads(self.newest("raw_frame").text)
        shape["fields"] = [field for field in shape["fields"] if field["name"] != "status"]
        shape["fields"].insert(1, {"name": "firmware", "type": ["null", "string"], "default": None, "doc": "Gone."})
        self.former = Schema("raw_frame", 0, 900, json.dumps(shape))

    def by_id(self, schema_id: int) -> Schema:
        return self.former if schema_id == self.former.id else super().by_id(schema_id)


@pytest.fixture(scope="module")
def former() -> Former:
    return Former()


@given(frame=raw_frames())
def test_frame_of_an_older_writer_is_read_as_ours(former: Former, frame: RawFrame) -> None:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, former.former.plain, {**as_lists(frame), "firmware": "1.2"})
    frame.status = None
    got = Codec(former).decode_frame(RawFrame, framed(former.former, body.getvalue()))
    assert comparable(got) == comparable(frame)
    assert all(isinstance(array, np.ndarray) for array in (got.times, got.values))


def test_ids_are_drawn_once() -> None:
    assert len(set(IDS.values())) == len(IDS)


@st.composite
def clean_fleets(draw: st.DrawFn) -> list[CleanFrame]:
    """Small frames of many devices, most of which lie alike in bytes."""
    rows, columns = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels = tuple(f"ch{number}" for number in range(columns))
    tests = st.sampled_from([0, 0, 0, 1, 32, 63, 64, 1 << 20])
    found = []
    for _ in range(draw(st.integers(1, 20))):
        device = draw(st.sampled_from(["d-1", "d-2", "d-20", "Zähler", "dé", ""]))
        times = np.sort(np.array(draw(st.lists(st.integers(0, 1 << 51), min_size=rows, max_size=rows))))
        size = rows * columns
        found.append(
            CleanFrame(
                device,
                draw(st.sampled_from([0, 0, 1, 300])),
                times + draw(st.sampled_from([0, 1_480_000_000_000_000])),
                channels,
                draw(doubles(size)),
                draw(doubles(size)),
                np.array(draw(st.lists(st.sampled_from([1, 1, 4, 9]), min_size=size, max_size=size))),
                np.array(draw(st.lists(tests, min_size=size, max_size=size))),
            )
        )
    return found + draw(st.lists(clean_frames(), max_size=3))


@settings(deadline=None, max_examples=60)
@given(frames=clean_fleets(), data=st.data())
def test_a_clean_block_holds_what_the_codec_reads_of_whole_and_damaged_bytes(
    frames: list[CleanFrame], data: st.DataObject
) -> None:
    values = [bytearray(Codec().encode(frame)) for frame in data.draw(st.permutations(frames))]
    for _ in range(data.draw(st.integers(0, 6))):
        value = values[data.draw(st.integers(0, len(values) - 1))]
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    blocks, left = Codec().decode_clean([bytes(value) for value in values])
    assert sorted(left + [at for block in blocks for at in block.at.tolist()]) == list(range(len(values)))
    for block in blocks:
        for at, frame in zip(block.at.tolist(), block.frames(), strict=True):
            try:
                expected = Codec().decode_frame(CleanFrame, bytes(values[at]))
            except Unreadable as error:
                pytest.fail(f"the codec refuses it: {error}")
            assert comparable(frame) == comparable(expected)


def test_a_fleet_of_single_readings_is_one_clean_block() -> None:
    one = np.ones((1, 1), np.int64)
    frames = [
        CleanFrame(f"d-{n:03}", 0, np.array([1_480_000_000_000_000 + n]), ("ch0",), one * 1.5, one * 2.5, one, one * 0)
        for n in range(100)
    ]
    [block], left = Codec().decode_clean([Codec().encode(frame) for frame in frames])
    assert (left, len(block.frames())) == ([], 100)
