"""Bytes for PostgreSQL, rows of records, the order of keys, stretches of batches, meanings of errors."""

import struct

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Refused
from schemas.frames import CleanFrame
from schemas.records import ImportStatus
from sinks.timescale import rows as rows_of
from sinks.timescale import schema
from sinks.timescale.batch import Batch, Entry, Part, Pile, Stretch
from sinks.timescale.packing import FLOAT8, READINGS, TIMESTAMPTZ, array_bytes, copy_bytes
from sinks.timescale.trouble import Trouble, trouble
from sinks.timescale.watermarks import NEVER, Watermarks


def frame(times, channels=("a", "b"), **replaced):
    cells = len(times) * len(channels)
    columns = {
        "logged": np.arange(cells) / 2,
        "values": np.arange(cells) * 1.0,
        "quality": np.ones(cells, np.int64),
        "tests": np.zeros(cells, np.int64),
    }
    return CleanFrame("mast", 0, np.array(times, np.int64), channels, **(columns | replaced))


def made(*frames, ids=((1, 2),)):
    return rows_of.readings(frames, [np.array(each, np.int32) for each in ids])


def entry(offset, number=0):
    body = ImportStatus(sha256="0", name="f", state="sent", time="2020-01-01T00:00:00Z")
    return Entry(Part("imports", number), offset, b"0", b"", 0, body)


def test_copy_row_is_sixty_bytes_as_the_manual_says():
    packed = copy_bytes(READINGS, made(frame([946_684_800_000_001], ("a",)), ids=[(7,)]))
    row = struct.unpack(">h ii iq id id ih ii", packed[19:-2])
    assert packed.startswith(b"PGCOPY\n\xff\r\n\0")
    assert packed.endswith(b"\xff\xff")
    assert row == (6, 4, 7, 8, 1, 8, 0.0, 8, 0.0, 2, 1, 4, 0)


def test_array_counts_time_from_2000():
    packed = array_bytes(TIMESTAMPTZ, np.array([946_684_800_000_005]))
    assert struct.unpack(">iiiii iq", packed) == (1, 0, 1184, 1, 1, 8, 5)
    assert array_bytes(FLOAT8, np.empty(0))[12:16] == bytes(4)


def test_each_cell_of_a_frame_is_one_row_in_order():
    rows = made(frame([10, 20]), frame([30], ("c",)), ids=[(1, 2), (9,)])
    assert rows["sensor_id"].tolist() == [1, 2, 1, 2, 9]
    assert rows["time"].tolist() == [10, 10, 20, 20, 30]
    assert rows["value"].tolist() == [0, 1, 2, 3, 0]


def test_frame_without_rows_makes_none():
    assert len(made(frame([]))["time"]) == 0


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_last_of_each_key_is_what_a_dict_keeps(keys):
    rows = {"sensor_id": np.array([k[0] for k in keys], np.int32), "time": np.array([k[1] for k in keys])}
    rows["value"] = np.arange(len(keys))
    kept = rows_of.last_of_each_key(READINGS, rows)
    expected = {key: place for place, key in enumerate(keys)}
    assert list(zip(kept["sensor_id"].tolist(), kept["time"].tolist(), kept["value"].tolist(), strict=True)) == [
        (*key, expected[key]) for key in sorted(expected)
    ]


@pytest.mark.parametrize(
    ("column", "value"), [("quality", 70_000), ("tests", 1 << 31), ("time", -(1 << 62)), ("time", rows_of.TIME_US_MAX)]
)
def test_number_that_no_column_holds_names_its_record(column, value):
    rows = made(frame([10, 20]), frame([30]), frame([40]), ids=[(1, 2)] * 3)
    rows[column][5] = value
    [misfit] = rows_of.misfits(READINGS, rows, [4, 2, 2])
    assert misfit.place == 1
    assert str(value) in misfit.detail


def test_months_are_utc():
    assert rows_of.months(np.array([1_483_228_799_999_999, 1_483_228_800_000_000])) == {"2016-12", "2017-01"}


def test_watermark_is_the_newest_stored_time():
    marks = Watermarks()
    marks.learn(marks.unknown(np.array([5, 3, 5])), np.array([100, NEVER]))
    marks.learn(marks.unknown(np.array([4, 5])), np.array([7]))
    assert marks.newer(np.array([3, 4, 4, 5]), np.array([0, 100, 7, 8])).tolist() == [False, True, False, True]
    assert marks.newer(np.array([3]), np.array([101])).tolist() == [True]
    marks.reach(np.array([5, 5]), np.array([300, 200]))
    assert marks.newer(np.array([5]), np.array([300])).tolist() == [False]


def tile(batch):
    """Stretches by partition, of a batch halved until nothing can be halved."""
    if len(batch.entries) < 2:
        return [batch]
    former, later = batch.halves()
    return tile(former) + tile(later)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=30), st.integers(0, 2))
def test_halves_tile_what_they_were_cut_from(steps, tail):
    reached, entries = {}, []
    for number, gap in steps:
        reached[number] = reached.get(number, 0) + gap
        entries.append(entry(reached[number] - 1, number))
    whole = Batch(entries, {Part("imports", n): Stretch(0, end + tail) for n, end in reached.items()})
    stands = dict.fromkeys(whole.stretches, 0)
    for piece in tile(whole):
        for part, stretch in piece.stretches.items():
            assert stretch.start == stands[part] < stretch.end
            stands[part] = stretch.end
        assert all(piece.stretches[e.part].start <= e.offset < piece.stretches[e.part].end for e in piece.entries)
    assert stands == {part: stretch.end for part, stretch in whole.stretches.items()}


def test_pile_covers_offsets_that_hold_nothing_and_ignores_strangers():
    here, gone = Part("imports", 0), Part("imports", 1)
    pile = Pile(10, 1000, {here: 5})
    pile.add(entry(7))
    pile.add(entry(3, 1))
    pile.reach(here, 9)
    pile.reach(gone, 9)
    assert pile.take().stretches == {here: Stretch(5, 9)}
    assert not pile.moved
    assert pile.positions == {here: 9}


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("08006", Trouble.AWAY), ("57P01", Trouble.AWAY), ("57P03", Trouble.AWAY), ("53100", Trouble.AWAY),
        ("53300", Trouble.AWAY), ("25006", Trouble.AWAY), ("42501", Trouble.AWAY), ("XX001", Trouble.AWAY),
        ("40001", Trouble.BUSY), ("40P01", Trouble.BUSY), ("55P03", Trouble.BUSY), ("57014", Trouble.BUSY),
        ("22003", Trouble.DATA), ("22P05", Trouble.DATA), ("23514", Trouble.DATA), ("54000", Trouble.DATA),
        ("42703", Trouble.BUG), ("42P01", Trouble.BUG), ("25P02", Trouble.BUG),
    ],
)  # fmt: skip
def test_sqlstate_decides(state, meaning):
    error = type("Error", (psycopg.Error,), {"sqlstate": state})()
    assert trouble(error) is meaning


def test_lost_line_is_away_and_nul_is_data():
    assert trouble(psycopg.OperationalError("server closed the connection")) is Trouble.AWAY
    assert trouble(psycopg.DataError("PostgreSQL text fields cannot contain NUL")) is Trouble.DATA


def test_edited_or_newer_schema_is_refused():
    known = [schema.Migration("0001_a.sql", "A"), schema.Migration("0002_b.plain.sql", "B")]
    had = {"0001_a.sql": known[0].checksum}
    assert schema.pending(had, flavours=schema.PLAIN, known=known) == known[1:]
    assert schema.pending(had, flavours=schema.TIMESCALE, known=known) == []
    with pytest.raises(Refused, match="edited"):
        schema.pending({"0001_a.sql": "other"}, flavours=schema.PLAIN, known=known)
    with pytest.raises(Refused, match="newer"):
        schema.pending(had | {"0009_z.sql": "x"}, flavours=schema.PLAIN, known=known)


def test_flavours_of_a_migration_have_the_same_number():
    by_number = {}
    for migration in schema.migrations():
        by_number.setdefault(migration.name[:4], set()).add(migration.flavour)
    only_where_it_compresses = {"aggregates"}
    allowed = [{None}, {"plain", "timescaledb"}, {"views", "aggregates"}, only_where_it_compresses]
    assert all(flavours in allowed for flavours in by_number.values()), by_number
