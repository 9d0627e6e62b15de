"""Files of a watched folder are known again: by inode while it lasts, else by what is in them."""

import shutil
from pathlib import Path

import pytest
from fix_imports import HEADER, lines

from producers.imports.archive import Archive
from producers.imports.tails import Inode, Intake, Tail, Tails
from producers.sources.following import SAMPLE_BYTES, Place, digest

ROWS = lines(0, 300).encode()


def read_to(tails: Tails, path: Path, position: int) -> Tail:
    """A tail of the file, read so far."""
    with path.open("rb") as file:
        tail = tails.of(path, file, there=inodes(path.parent).__contains__)
        head = min(SAMPLE_BYTES, position)
        start = max(0, position - SAMPLE_BYTES)
        tails.moved(tail, Place(position, 1, head, digest(file, 0, head), digest(file, start, position - start)))
    return tail


def again(tails: Tails, path: Path) -> Tail:
    with path.open("rb") as file:
        return tails.of(path, file, there=inodes(path.parent).__contains__)


def inodes(folder: Path) -> set[Inode]:
    return {(about.st_dev, about.st_ino) for about in (each.stat() for each in folder.iterdir())}


@pytest.fixture
def mast(tmp_path: Path) -> Path:
    path = tmp_path / "mast.dat"
    path.write_bytes(HEADER.encode() + ROWS)
    return path


def test_file_that_grows_or_is_renamed_goes_on(mast: Path) -> None:
    tails = Tails({})
    tail = read_to(tails, mast, 5000)
    with mast.open("ab") as file:
        file.write(lines(300, 10).encode())
    assert again(tails, mast) is tail
    moved = mast.rename(mast.with_name("mast_1.dat"))
    assert again(tails, moved) is tail
    assert tail.path == str(moved)


def test_file_written_anew_with_more_at_its_end_goes_on(mast: Path) -> None:
    tails = Tails({})
    tail = read_to(tails, mast, 5000)
    longer = mast.with_name("coming")
    longer.write_bytes(mast.read_bytes() + lines(300, 10).encode())
    longer.replace(mast)
    assert again(tails, mast) is tail


def test_copy_begins_where_the_original_was(mast: Path) -> None:
    tails = Tails({})
    tail = read_to(tails, mast, 5000)
    copy = Path(shutil.copy(mast, mast.with_name("copy.dat")))
    other = again(tails, copy)
    assert other is not tail
    assert other.place.position == 5000


def test_truncated_file_is_a_new_one_and_its_copy_goes_on(mast: Path) -> None:
    tails = Tails({})
    tail = read_to(tails, mast, 5000)
    copy = Path(shutil.copy(mast, mast.with_name("mast.dat.1")))
    mast.write_bytes(HEADER.encode() + lines(900, 3).encode())
    fresh = again(tails, mast)
    assert fresh is not tail
    assert fresh.place.position == 0
    assert again(tails, copy).place.position == 5000


def test_files_of_one_logger_are_told_apart_though_they_begin_alike(mast: Path) -> None:
    tails = Tails({})
    for number in range(50):
        path = mast.with_name(f"day_{number:02}.dat")
        path.write_bytes(HEADER.encode() + lines(number * 300, 300).encode())
        assert again(tails, path).place.position == 0
        read_to(tails, path, path.stat().st_size)
    assert len(tails.all) == 50


def test_places_come_back_from_the_spool(mast: Path) -> None:
    tails = Tails({})
    tail = read_to(tails, mast, 5000)
    tail.device_id = "mast-7"
    tail.span(3, 9)
    back = Tails({tail.source: tail.text(tail.place)})
    found = again(back, mast)
    assert (found.key, found.place, found.device_id) == (tail.key, tail.place, "mast-7")
    assert (found.first_us, found.last_us) == (3, 9)


def test_a_place_of_a_file_whose_name_is_no_text_is_written() -> None:
    tail = Tail("key", "/in/m\udce4st.dat", (1, 2), Place(position=7))
    assert Tail.read("key", tail.text(tail.place)).path == "/in/m?st.dat"


def test_copy_of_a_file_that_was_taken_for_gone_is_whole(mast: Path, tmp_path: Path) -> None:
    """It was being renamed while the folder was listed."""
    archive = Archive(tmp_path / "archive")
    tails = Tails({})
    tail = again(tails, mast)
    with mast.open("rb") as file:
        intake = Intake(tail, file, archive, lambda *_: None, tails.moved, "mast-7")
        intake.keep([], place=Place(5000, 1).text())
        first = archive.finish(tail.key)
        tail.archived = 0
        intake.keep([], place=Place(9000, 2).text())
    second = archive.finish(tail.key)
    assert first is not None
    assert second is not None
    assert (first.path.read_bytes(), second.path.read_bytes()) == (mast.read_bytes()[:5000], mast.read_bytes()[:9000])
