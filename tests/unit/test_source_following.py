"""A growing logger file, followed by position and content."""

import shutil
from pathlib import Path

import pytest
from fix_edge import mast_rows, toa5_text
from fix_services import await_true
from fix_sources import Kept, Running

from producers.files.described import read_description
from producers.files.logger_file import Stamping
from producers.sources.following import Following
from schemas.errors import Refused

NAMES = "TIMESTAMP,RECORD,Spd80mN,Spd80mS,T2m,Site"
HEADER = toa5_text([], names=NAMES)
TOLD = Stamping(0, "begin", 600)


def lines(first: int, stop: int) -> str:
    return "".join(f"{row}\r\n" for row in mast_rows(stop)[first:stop])


def append(path: Path, text: str) -> None:
    with path.open("a", newline="") as file:
        file.write(text)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "mast.dat"
    append(path, HEADER + lines(0, 5))
    return path


def follow(path: Path) -> Following:
    return Following(path, lambda _: None, TOLD, every_s=0.02)


def numbers(kept: Kept) -> list[int]:
    """Which rows of `mast_rows` came, in order."""
    return [round((at / 1e6 - 1482192000) / 600) for at in kept.times]


def await_rows(kept: Kept, count: int) -> None:
    await_true(lambda: len(kept.times) >= count, what=f"{count} rows")


def test_rows_come_as_the_file_grows_and_a_cut_line_when_it_is_whole(log: Path, running: Running) -> None:
    kept = Kept()
    running(follow(log), kept)
    await_rows(kept, 5)
    whole = lines(5, 6)
    append(log, whole[:20])
    append(log, whole[20:] + lines(6, 8))
    await_rows(kept, 8)
    assert numbers(kept) == list(range(8))
    assert not kept.oddities


def test_a_restart_goes_on_behind_the_last_row(log: Path, running: Running) -> None:
    kept = Kept()
    stop = running(follow(log), kept)
    await_rows(kept, 5)
    stop.set()
    append(log, lines(5, 9))
    running(follow(log), kept)
    await_rows(kept, 9)
    assert numbers(kept) == list(range(9))


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(log: Path, running: Running) -> None:
    kept = Kept()
    running(follow(log), kept)
    await_rows(kept, 5)
    log.rename(log.with_name("mast.dat.1"))
    append(log.with_name("mast.dat.1"), lines(5, 7))
    append(log, HEADER + lines(7, 9))
    await_rows(kept, 9)
    assert numbers(kept) == list(range(9))


def test_a_file_renamed_while_nobody_looked_is_found_by_its_content(log: Path, running: Running) -> None:
    kept = Kept()
    stop = running(follow(log), kept)
    await_rows(kept, 5)
    stop.set()
    append(log, lines(5, 7))
    log.rename(log.with_name("old-2024.bak"))
    append(log, HEADER + lines(7, 9))
    running(follow(log), kept)
    await_rows(kept, 9)
    assert numbers(kept) == list(range(9))


def test_a_truncated_file_is_read_from_its_start_and_its_copy_to_its_end(log: Path, running: Running) -> None:
    kept = Kept()
    stop = running(follow(log), kept)
    await_rows(kept, 5)
    stop.set()
    append(log, lines(5, 7))
    shutil.copy(log, log.with_name("mast.dat.1"))
    log.write_text("")
    append(log, HEADER + lines(7, 8))
    running(follow(log), kept)
    await_rows(kept, 8)
    assert numbers(kept) == list(range(8))


def test_truncation_while_following(log: Path, running: Running) -> None:
    kept = Kept()
    running(follow(log), kept)
    await_rows(kept, 5)
    with log.open("r+") as file:
        file.truncate(0)
    append(log, HEADER + lines(20, 21))
    await_rows(kept, 6)
    assert numbers(kept) == [0, 1, 2, 3, 4, 20]


def test_a_file_rewritten_whole_with_more_rows_goes_on_where_it_was(log: Path, running: Running) -> None:
    kept = Kept()
    running(follow(log), kept)
    await_rows(kept, 5)
    coming = log.with_name("coming")
    append(coming, HEADER + lines(0, 8))
    shutil.copyfile(coming, log)
    await_rows(kept, 8)
    assert numbers(kept) == list(range(8))


def test_a_header_in_the_middle_with_other_columns_counts_from_there(log: Path, running: Running) -> None:
    kept = Kept()
    running(follow(log), kept)
    await_rows(kept, 5)
    other = toa5_text(['"2016-12-21 00:00:00",9,7.5'], names="TIMESTAMP,RECORD,Gust")
    append(log, other[:30])
    append(log, other[30:])
    await_rows(kept, 6)
    append(log, '"2016-12-21 00:10:00",10,8.5\r\n')
    await_rows(kept, 7)
    assert [cell for cell in kept.cells if cell[1] == "Gust"] == [("mast-7", "Gust", 7.5), ("mast-7", "Gust", 8.5)]


def test_rubbish_is_told_with_its_line_and_passed(log: Path, running: Running) -> None:
    kept = Kept()
    running(follow(log), kept)
    await_rows(kept, 5)
    append(log, "rubbish\r\n")
    await_true(lambda: bool(kept.oddities), what="told")
    append(log, lines(6, 7))
    await_rows(kept, 6)
    assert kept.oddities == ["mast.dat, line 10: 1 cells, the header has 6"]


def test_zeros_that_a_power_cut_left_are_passed_and_room_for_rows_to_come_is_not(log: Path, running: Running) -> None:
    kept = Kept()
    running(follow(log), kept)
    await_rows(kept, 5)
    append(log, "\0" * 300_000 + lines(5, 8))
    await_rows(kept, 7)
    assert numbers(kept) == [0, 1, 2, 3, 4, 6, 7]
    assert [what for what in kept.oddities if "line 10: 3" in what]
    size = log.stat().st_size
    append(log, "\0" * 600_000)
    with log.open("r+b") as file:
        file.seek(size)
        file.write(lines(8, 10).encode())
    await_rows(kept, 9)
    assert numbers(kept)[-2:] == [8, 9]


def test_what_is_not_known_of_its_clock_is_asked(log: Path) -> None:
    import threading

    with pytest.raises(Refused, match="--stamp begin"):
        Following(log, lambda _: None).run(Kept(), threading.Event())


def test_a_described_file_is_followed_too(tmp_path: Path, running: Running) -> None:
    about = tmp_path / "about.toml"
    about.write_text(
        'delimiter = ";"\nutc_offset = "+00:00"\nstamp = "begin"\ninterval_s = 600\n'
        '[time]\ncolumns = ["t"]\nformat = "%Y-%m-%d %H:%M:%S"\n'
    )
    path = tmp_path / "x.csv"
    append(path, "t;speed\n2016-12-20 00:00:00;4\n")
    kept = Kept()
    running(Following(path, lambda _: None, description=read_description(about), every_s=0.02), kept)
    await_rows(kept, 1)
    append(path, "2016-12-20 00:10:00;5\n")
    await_rows(kept, 2)
    assert kept.cells == [("mast-7", "speed", 4.0), ("mast-7", "speed", 5.0)]
