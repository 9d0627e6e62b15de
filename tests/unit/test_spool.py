"""The spool: what accepted means, and what it survives."""

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from fix_edge import some_rows

from producers.spool import Damaged, DiskTrouble, FileMark, Limits, Rows, Spool, SpoolFull, WhenFull, database, recovery
from producers.spool.export import export
from producers.spool.kept import ask
from producers.spool.look import look
from schemas.errors import Refused

FRAME = 1 << 18


@pytest.fixture
def clock() -> list[int]:
    """One number: now, in microseconds."""
    return [1_700_000_000_000_000]


@pytest.fixture
def make(tmp_path: Path, clock: list[int]) -> Iterator[Callable[..., Spool]]:
    made: list[Spool] = []

    def open_spool(**limits: object) -> Spool:
        made.append(Spool(tmp_path / "spool", clock_us=lambda: clock[0], limits=Limits(**limits)))  # type: ignore[arg-type]  # as Limits says
        return made[-1]

    yield open_spool
    for spool in made:
        spool.close()


def cut(spool: Spool, *, frame_bytes_max: int = FRAME) -> list:  # type: ignore[type-arg]  # of cuts
    return spool.turn(room_bytes=1 << 24, frame_bytes_max=frame_bytes_max)


def test_accepted_rows_are_there_after_a_reopening(make: Callable[..., Spool]) -> None:
    spool = make()
    spool.accept([some_rows(5), some_rows(3, channels=("c",))])
    spool.close()
    assert make().counts("mast-7").accepted == 13


def test_rows_of_one_stream_become_one_frame_in_the_order_accepted(make: Callable[..., Spool]) -> None:
    spool = make()
    for first in range(0, 50, 10):
        spool.accept([some_rows(10, first=first), some_rows(1, channels=("c",), first=first)])
    frames = [spool.read(each.key) for each in cut(spool)]
    assert [(len(f.times), f.channels, f.sequence) for f in frames] == [(50, ("a", "b"), 0), (5, ("c",), 1)]
    assert np.array_equal(frames[0].values, some_rows(50).values)


def test_a_frame_keeps_identity_and_content_until_acknowledged(make: Callable[..., Spool]) -> None:
    spool = make()
    spool.accept([some_rows(10)])
    (one,) = cut(spool)
    before = spool.read(one.key)
    spool.accept([some_rows(10, first=10)])
    spool.close()
    again = make()
    assert again.unacknowledged() == [one]
    after = again.read(one.key)
    assert np.array_equal(before.values, after.values)
    assert np.array_equal(before.times, after.times)
    assert [each.key.sequence for each in cut(again)] == [1]


def test_only_acknowledged_frames_leave(make: Callable[..., Spool]) -> None:
    spool = make()
    spool.accept([some_rows(10), some_rows(2, channels=("c",))])
    first, second = cut(spool)
    spool.turn([first.key, first.key], frame_bytes_max=FRAME)
    assert spool.unacknowledged() == [second]
    counts = spool.counts("mast-7")
    assert (counts.accepted, counts.sent, counts.groups) == (22, 20, 1)


def test_large_rows_become_frames_of_bounded_size(make: Callable[..., Spool]) -> None:
    spool = make()
    spool.accept([some_rows(50_000)])
    cuts = cut(spool)
    assert max(each.bytes for each in cuts) <= FRAME
    assert sum(each.rows for each in cuts) == 50_000


def test_what_is_cut_is_bounded_by_the_room(make: Callable[..., Spool]) -> None:
    spool = make()
    for first in range(100):
        spool.accept([some_rows(1, first=first)])
    cuts = spool.turn(room_bytes=240, frame_bytes_max=48)
    assert [each.rows for each in cuts] == [2] * 5
    assert spool.unframed == 90


def test_a_second_writer_is_refused_until_the_first_closes(make: Callable[..., Spool]) -> None:
    first = make()
    with pytest.raises(Refused, match="in use"):
        make()
    first.close()
    make()


def test_a_full_spool_refuses_and_counts(make: Callable[..., Spool]) -> None:
    spool = make(bytes_max=1000)
    spool.accept([some_rows(20)])
    with pytest.raises(SpoolFull, match="full"):
        spool.accept([some_rows(50, first=20)])
    counts = spool.counts("mast-7")
    assert (counts.accepted, counts.refused) == (40, 100)
    spool.turn([each.key for each in cut(spool)], frame_bytes_max=FRAME)
    spool.accept([some_rows(30)])
    spool.close()
    assert make().counts("mast-7").refused == 100


def test_drop_oldest_makes_room_and_counts(make: Callable[..., Spool]) -> None:
    spool = make(bytes_max=1000, when_full=WhenFull.DROP_OLDEST)
    for first in range(0, 100, 10):
        spool.accept([some_rows(10, first=first)])
    counts = spool.counts("mast-7")
    assert counts.accepted == counts.dropped + 20 * counts.groups == 200
    frame = spool.read(cut(spool)[0].key)
    assert frame.times[-1] == 99_000_000  # the newest stay


def test_frames_on_their_way_are_not_dropped(make: Callable[..., Spool]) -> None:
    spool = make(bytes_max=1000, when_full=WhenFull.DROP_OLDEST)
    spool.accept([some_rows(30)])
    (one,) = cut(spool)
    with pytest.raises(SpoolFull):
        spool.accept([some_rows(30)])
    assert spool.unacknowledged() == [one]
    assert spool.counts("mast-7").dropped == 0


def test_old_readings_are_dropped_by_age(make: Callable[..., Spool], clock: list[int]) -> None:
    spool = make(age_s_max=60, when_full=WhenFull.DROP_OLDEST)
    spool.accept([some_rows(5)])
    clock[0] += 61_000_000
    spool.accept([some_rows(5, first=5)])
    assert (spool.counts("mast-7").dropped, spool.counts("mast-7").groups) == (10, 1)


def test_a_file_does_not_push_out_what_nobody_else_has(make: Callable[..., Spool]) -> None:
    spool = make(bytes_max=1000, when_full=WhenFull.DROP_OLDEST)
    while not spool.counts("mast-7").dropped:
        spool.accept([some_rows(1)])
    dropped = spool.counts("mast-7").dropped
    with pytest.raises(SpoolFull):
        spool.accept([some_rows(20)], waits=True)
    assert (spool.counts("mast-7").dropped, spool.counts("mast-7").refused) == (dropped, 0)
    spool.turn([each.key for each in cut(spool)], frame_bytes_max=FRAME)
    spool.accept([some_rows(20)], waits=True)


def test_a_full_disk_refuses_and_keeps_what_was_accepted(make: Callable[..., Spool]) -> None:
    spool = make()
    spool.accept([some_rows(10)])
    pages = spool._ledger.db.execute("pragma page_count").fetchone()[0]
    spool._ledger.db.execute(
        f"pragma max_page_count = {pages + 4}"
    )  # SQLite says "disk is full" just as for a real one
    with pytest.raises(DiskTrouble, match="full"):
        spool.accept([some_rows(5000, first=10)])
    assert (spool.counts("mast-7").accepted, spool.counts("mast-7").refused) == (20, 10_000)
    (one,) = cut(spool)
    assert one.rows == 10
    spool._ledger.db.execute("pragma max_page_count = 1000000")
    spool.accept([some_rows(5000, first=10)])
    assert spool.counts("mast-7").accepted == 10_020


class Sick:
    """A connection whose disk answers nothing more from the commit on, until it is well."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self._fails = db, False

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        self._fails = self._fails or statement == "commit"
        if self._fails and statement != "rollback":
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(statement, *values)

    def __getattr__(self, name: str) -> object:
        return getattr(self._db, name)


def test_what_a_sick_disk_neither_takes_nor_gives_is_asked_again_when_it_is_well(make: Callable[..., Spool]) -> None:
    """Else memory would say that groups have frames which the database has not: they would not be sent any more."""
    spool = make()
    spool.accept([some_rows(10)])
    well = spool._ledger.db
    spool._ledger.db = Sick(well)  # type: ignore[assignment]  # as far as it is used
    with pytest.raises(DiskTrouble, match="I/O"):
        cut(spool)
    with pytest.raises(DiskTrouble, match="I/O"):
        spool.accept([some_rows(10, first=10)])
    spool._ledger.db = well
    assert [each.rows for each in cut(spool)] == [10]
    spool.accept([some_rows(10, first=10)])
    assert (spool.counts("mast-7").accepted, spool.counts("mast-7").groups) == (40, 2)
    assert [each.rows for each in cut(spool)] == [10]


def test_a_damaged_spool_is_set_aside_and_what_can_be_read_goes_on(make: Callable[..., Spool], tmp_path: Path) -> None:
    spool = make()
    for first in range(0, 20_000, 1000):
        spool.accept([some_rows(1000, first=first)])
    old = spool.turn(room_bytes=40_000, frame_bytes_max=16_000)
    spool.close()
    _spoil(tmp_path / "spool" / "spool.db")
    again = make()
    assert again.recovered is not None
    assert again.recovered.lost
    assert again.recovered.readings > 10_000
    assert again.spool_id != old[0].key.spool_id
    counts = again.counts("mast-7")
    assert counts.accepted == 40_000 == counts.dropped + again.recovered.readings
    kept = [each.key for each in again.unacknowledged()]
    assert kept == [each.key for each in old][: len(kept)]  # as they may have been sent
    for each in cut(again):
        again.read(each.key)


@pytest.mark.parametrize("met", ["the disk is full", "killed as it was set aside", "killed behind its commit"])
def test_a_recovery_cut_short_is_made_at_the_next_start(
    make: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, met: str
) -> None:
    spool = make()
    for first in range(0, 20_000, 1000):
        spool.accept([some_rows(1000, first=first)], place=("mast.dat", str(first)))
    spool.close()
    _spoil(tmp_path / "spool" / "spool.db")

    def cut_short(*_: object, **__: object) -> NoReturn:
        raise sqlite3.OperationalError(met)

    with monkeypatch.context() as patch:
        if met == "the disk is full":
            patch.setattr(recovery, "recover", cut_short)
        elif met == "killed as it was set aside":
            (tmp_path / "spool" / "spool.db-wal").touch()
            patch.setattr(database, "_sync_folder", cut_short)
        else:
            patch.setattr(Path, "unlink", cut_short)
        with pytest.raises((DiskTrouble, sqlite3.OperationalError), match=met):
            make()
    again = make()
    counts = again.counts("mast-7")
    assert counts.accepted == 40_000
    assert 10_000 < counts.accepted - counts.dropped == sum(each.readings for each in cut(again))
    assert again.place("mast.dat") == "19000"
    again.close()
    last = make()
    assert (last.recovered, last.counts("mast-7").dropped) == (None, counts.dropped)


def test_damage_that_sqlite_does_not_notice_is_recovered_from(make: Callable[..., Spool], tmp_path: Path) -> None:
    spool = make()
    for first in (0, 10, 20):
        spool.accept([some_rows(10, first=first)])
    spool.close()
    with sqlite3.connect(tmp_path / "spool" / "spool.db") as db:
        db.execute("update groups set stream = 99 where id = 1")
        db.execute("update groups set body = 'text' where id = 2")
    db.close()
    again = make()
    assert again.recovered is not None
    assert (again.recovered.readings, again.recovered.lost) == (20, 40)
    assert [each.rows for each in cut(again)] == [10]


def test_what_waits_is_rescued_beside_times_that_no_calendar_has(make: Callable[..., Spool], tmp_path: Path) -> None:
    """Nanoseconds for microseconds are the year 55840."""
    spool = make()
    odd = np.array([1_700_000_000_000_000_000, -(1 << 63), (1 << 63) - 1])
    spool.accept([some_rows(2), Rows("mast-7", odd, ("a",), np.ones((3, 1))), some_rows(3, first=2)])
    out = io.BytesIO()
    done = export(tmp_path / "spool", out)
    assert (done.rows, done.readings, done.dateless, len(out.getvalue().splitlines())) == (5, 10, 3, 5)


def test_a_schema_of_which_sqlite_can_only_speak_in_bytes_is_set_aside(
    make: Callable[..., Spool], tmp_path: Path
) -> None:
    make().close()
    path = tmp_path / "spool" / "spool.db"
    path.write_bytes(path.read_bytes().replace(b"TABLE places", b"TABL\xff places"))
    again = make()
    assert again.recovered is not None
    assert again.recovered.lost is None
    again.accept([some_rows(1)])


def _spoil(path: Path) -> None:
    """Overwrites some pages in the middle of the table of groups."""
    with sqlite3.connect(path) as db:
        db.execute("pragma wal_checkpoint(truncate)").fetchall()
    db.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * 16_384)


def test_a_file_that_is_no_database_is_set_aside(make: Callable[..., Spool], tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "spool.db").write_bytes(b"no database at all " * 500)
    spool = make()
    spool.accept([some_rows(1)])
    assert spool.recovered is not None
    assert spool.recovered.lost is None


def test_a_frame_that_is_too_large_is_split_without_a_new_identity_for_its_first_half(
    make: Callable[..., Spool],
) -> None:
    spool = make()
    spool.accept([some_rows(10)])
    (one,) = cut(spool)
    assert spool.split(one.key)
    (rest,) = cut(spool)
    assert len(spool.read(one.key).times) + len(spool.read(rest.key).times) == 10
    assert (one.key.sequence, rest.key.sequence) == (0, 1)


def test_a_single_row_cannot_be_split(make: Callable[..., Spool]) -> None:
    spool = make()
    spool.accept([some_rows(1)])
    assert not spool.split(cut(spool)[0].key)


def test_a_file_mark_moves_with_its_rows(make: Callable[..., Spool]) -> None:
    spool = make()
    mark = FileMark("ab" * 32, "mast-7", "f.dat", "toa5", "{}", rows_accepted=10, readings_accepted=20)
    spool.accept([some_rows(10)], mark=mark)
    spool.close()
    again = make()
    assert again.mark("ab" * 32, "mast-7") == mark
    (one,) = cut(again)
    again.turn([one.key], frame_bytes_max=FRAME)
    told = again.mark("ab" * 32, "mast-7")
    assert told is not None
    assert (told.rows_acknowledged, told.readings_acknowledged, told.last_sequence) == (10, 20, 0)


def test_a_spool_can_be_looked_at_while_it_is_in_use(make: Callable[..., Spool], tmp_path: Path) -> None:
    spool = make()
    spool.accept([some_rows(10)])
    (seen,) = look(tmp_path / "spool")
    assert (seen.waiting, seen.counts.groups, seen.spool_id) == (20, 1, spool.spool_id)
    spool.accept([some_rows(1)])


@pytest.mark.parametrize("channels", [(), ("a", "a"), ("",)])
def test_channels_without_a_name_of_their_own_are_refused(channels: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        some_rows(1, channels=channels)


def test_damage_met_while_running_is_recovered_on_the_spot(make: Callable[..., Spool]) -> None:
    spool = make()
    for first in range(0, 4000, 100):
        spool.accept([some_rows(100, first=first)], place=("mast.dat", str(first)))
    spool._ledger.db.execute("pragma wal_checkpoint(truncate)").fetchall()
    spool._ledger.db.execute("pragma cache_size = 0")
    path = spool.folder / "spool.db"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    for each in cut(spool, frame_bytes_max=4000):
        with suppress(KeyError, Damaged):
            spool.read(each.key)
    assert spool.healed == 1
    assert spool.recovered is not None
    assert spool.recovered.readings + (spool.recovered.lost or 0) == 8000
    assert spool.place("mast.dat") == "3900"
    spool.accept([some_rows(1)])


def test_new_readings_go_before_a_backlog_within_their_share(make: Callable[..., Spool], clock: list[int]) -> None:
    spool = make()
    for first in range(40):
        spool.accept([some_rows(1, first=first)])
    clock[0] += 1
    spool.prefer_new()
    for first in range(100, 120):
        spool.accept([some_rows(1, first=first)])
    order = []
    while cuts := spool.turn(room_bytes=96, frame_bytes_max=24, live_share=0.5):
        order += [int(spool.read(cut.key).times[0]) // 1_000_000 for cut in cuts]
    assert order[:4] == [100, 101, 0, 1]
    assert [each for each in order if each < 100] == list(range(40))
    assert [each for each in order if each >= 100] == list(range(100, 120))
    assert not spool.prefers_new


def test_opening_and_looking_at_a_large_spool_takes_little_memory(tmp_path: Path) -> None:
    """In a process of its own, for its largest size at any time."""
    import subprocess
    import sys

    with Spool(tmp_path, clock_us=lambda: 0) as spool:
        for first in range(0, 8_000_000, 500_000):
            spool.accept([some_rows(500_000, channels=("a",), first=first)])
    code = """
import resource, sys
from pathlib import Path
from producers.spool import Spool
from producers.spool import database, recovery
from producers.spool.kept import ask
from producers.spool.look import look
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
look(Path(sys.argv[1]))
with Spool(Path(sys.argv[1]), clock_us=lambda: 0) as spool:
    spool.turn(room_bytes=1 << 20, frame_bytes_max=1 << 18)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert int(done.stdout) < 30_000  # kB, of 128 MB on disk


def sent(spool: Spool) -> None:
    """Everything that waits is cut and acknowledged."""
    spool.turn([each.key for each in cut(spool)], frame_bytes_max=FRAME)


def test_acknowledged_readings_are_kept_apart_until_their_time(make: Callable[..., Spool], clock: list[int]) -> None:
    spool = make(keep_s=60)
    spool.accept([some_rows(10)])
    sent(spool)
    assert (spool.bytes, spool.counts("mast-7").groups, cut(spool)) == (0, 0, [])
    (seen,) = look(spool.folder)
    assert (seen.waiting, seen.kept, seen.kept_bytes) == (0, 20, spool.kept_bytes)
    spool.close()
    again = make(keep_s=60)
    clock[0] += 61_000_000
    assert again.send_again() == []
    assert again.kept_bytes == 0


def test_what_is_kept_has_a_bound_and_the_oldest_frames_go_first(make: Callable[..., Spool]) -> None:
    spool = make(keep_bytes=1000)
    for first in range(0, 100, 10):
        spool.accept([some_rows(10, first=first)])
        sent(spool)
    assert 500 < spool.kept_bytes <= 1000
    with pytest.raises(Refused, match="no readings of that time"):
        ask(spool.folder, from_us=0, to_us=10_000_000, device_id=None)


def test_nothing_is_kept_by_default(make: Callable[..., Spool]) -> None:
    spool = make()
    spool.accept([some_rows(10)])
    sent(spool)
    assert spool.kept_bytes == 0


def test_kept_frames_of_a_time_go_again_as_they_were_and_once(make: Callable[..., Spool]) -> None:
    spool = make(keep_s=60)
    before = {}
    for first in range(0, 50, 10):
        spool.accept([some_rows(10, first=first), some_rows(1, device="other", first=first)])
        (one, other) = cut(spool)
        before[one.key] = spool.read(one.key).values
        spool.turn([one.key, other.key], frame_bytes_max=FRAME)
    asked = ask(spool.folder, from_us=15_000_000, to_us=30_000_000, device_id="mast-7")
    assert (asked.frames, asked.readings) == (2, 40)
    again = spool.send_again()
    assert [each.key.sequence for each in again] == [1, 2]
    assert all(np.array_equal(spool.read(each.key).values, before[each.key]) for each in again)
    assert spool.unacknowledged() == again
    counts = spool.counts("mast-7")
    assert (counts.accepted - counts.sent, counts.next_sequence) == (40, 5)
    spool.turn([each.key for each in again], frame_bytes_max=FRAME)
    assert spool.send_again() == []
    assert spool.bytes == 0


def test_a_request_survives_a_restart_and_waits_for_room(make: Callable[..., Spool]) -> None:
    spool = make(keep_s=60, keep_bytes=1 << 20, bytes_max=1000)
    spool.accept([some_rows(20)])
    sent(spool)
    ask(spool.folder, from_us=0, to_us=1, device_id=None)
    spool.close()
    spool = make(keep_s=60, keep_bytes=1 << 20, bytes_max=1000)
    spool.accept([some_rows(20, first=20)])
    assert spool.send_again() == []
    sent(spool)
    assert [each.rows for each in spool.send_again()] == [20]


def test_a_full_disk_takes_the_kept_before_it_refuses(make: Callable[..., Spool]) -> None:
    spool = make(keep_s=60)
    spool.accept([some_rows(20_000)])
    sent(spool)
    db = spool._ledger.db
    db.execute(f"pragma max_page_count = {db.execute('pragma page_count').fetchone()[0] + 2}")
    spool.accept([some_rows(30_000, first=20_000)])
    assert (spool.kept_bytes, spool.counts("mast-7").refused) == (0, 0)
