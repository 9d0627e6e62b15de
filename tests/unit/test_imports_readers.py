"""Files read side by side: the same as one after another; a process that dies costs its file, and not the import."""

import multiprocessing
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fix_imports import HEADER, cells_of, lines, mast, write

from producers.imports.finding import found_in
from producers.imports.one_file import Answer, Asked, Done, Event, Hashed, Mark, Planned, Step
from producers.imports.readers import lost, read_all
from producers.imports.unpacking import Found
from schemas.codec import Codec
from schemas.records import ImportState, ImportStatus


class Taken:
    """Wants everything from its beginning, and keeps what it is told."""

    def __init__(self) -> None:
        self.cells: list[tuple[int, str, float]] = []
        self.ended: dict[str, ImportStatus] = {}

    def __call__(self, found: Found, event: Event) -> Answer:
        if isinstance(event, Step):
            for rows in event.rows:
                for at, row in zip(rows.times.tolist(), rows.values.tolist(), strict=True):
                    self.cells += [(at, name, value) for name, value in zip(rows.channels, row, strict=True)]
        elif isinstance(event, Done):
            self.ended[found.name] = event.status
        if isinstance(event, Hashed):
            return True
        return Mark(None) if isinstance(event, Planned) else None


class Marked(Taken):
    """Keeps the marks, too, as the spool would."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __call__(self, found: Found, event: Event) -> Answer:
        if isinstance(event, Step):
            self.names.add(event.mark.name)
        return super().__call__(found, event)


def found(folder: Path) -> list[Found]:
    return [one for one, why_not in found_in([folder]) if why_not is None]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_file_is_read_to_its_end_however_many_processes_do_it(tmp_path: Path, jobs: int) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(5):
        write(folder / f"mast_{number}.dat", number * 50, 50)
    (folder / "nothing.dat").write_bytes(b"")
    taken = Taken()
    read_all(found(folder), Asked(tmp_path / "archive", {"mast-7": mast()}, {}), jobs=jobs, told=taken)
    assert sorted(taken.cells) == sorted(cells_of(0, 250))
    assert {status.state for name, status in taken.ended.items() if name != "nothing.dat"} == {ImportState.SENDING}
    assert taken.ended["nothing.dat"].state == ImportState.REFUSED
    assert taken.ended["mast_1.dat"].rows == 50


def test_process_that_is_killed_costs_only_its_file_a_status(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(8):
        write(folder / f"mast_{number}.dat", number * 50, 50)
    taken, killed = Taken(), []

    def told(one: Found, event: Event) -> Answer:
        if not killed and isinstance(event, Hashed):
            killed.append(one.name)
            for process in multiprocessing.active_children():
                process.kill()
                process.join()
        return taken(one, event)

    read_all(found(folder), Asked(tmp_path / "archive", {"mast-7": mast()}, {}), jobs=2, told=told)
    assert len(taken.ended) == 8
    ended = {name: status for name, status in taken.ended.items() if status.state == ImportState.REFUSED}
    assert killed[0] in ended
    assert len(ended) <= 2  # what both processes had in hand
    assert all("ended from outside" in (status.reason or "") for status in ended.values())


def test_header_further_down_with_another_program_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    other = (
        HEADER.replace('"Dir78mS"', '"Dir78mS","T2m"')
        .replace('"Deg"', '"Deg","DegC"')
        .replace('"Avg"\r\n', '"Avg","Avg"\r\n')
    )
    (folder / "mast.dat").write_text(HEADER + lines(0, 5) + other, newline="")
    taken = Taken()
    read_all(found(folder), Asked(tmp_path / "archive", {"mast-7": mast()}, {}), jobs=1, told=taken)
    status = taken.ended["mast.dat"]
    assert status.state == ImportState.UNKNOWN
    assert "no channel for T2m" in (status.reason or "")
    assert not taken.cells


def test_password_is_asked_for_and_the_archive_has_no_half_file(tmp_path: Path) -> None:
    import pyzipper

    path = tmp_path / "mast.zip"
    with pyzipper.AESZipFile(path, "w", encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(b"secret")
        archive.writestr("mast.dat", HEADER + lines(0, 5))
    asked = Asked(tmp_path / "archive", {"mast-7": mast()}, {})
    taken = Taken()
    read_all(found(path), asked, jobs=1, told=taken)
    assert taken.ended["mast.dat"].state == ImportState.NEEDS_AN_ANSWER
    assert not [each for each in (tmp_path / "archive").rglob("*") if each.is_file()]


def test_names_of_any_bytes_are_told_as_text(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder / os.fsdecode(b"m\xe4st.dat"), 0, 50)
    (folder / os.fsdecode(b"m\xe4st.zip")).write_bytes(b"PK\x03\x04")
    taken = Marked()
    read_all(found(folder), Asked(tmp_path / "archive", {"mast-7": mast()}, {}), jobs=1, told=taken)
    refused = [lost(one, why, now=datetime.now(UTC)) for one, why in found_in([folder]) if why is not None]
    statuses = [*taken.ended.values(), *refused]
    assert [(each.name, each.state) for each in statuses] == [("m?st.dat", "sending"), ("m?st.zip", "refused")]
    assert all(Codec().encode(each) for each in statuses)
    assert taken.names == {"m?st.dat"}
