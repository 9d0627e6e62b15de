"""kill -9 in the middle of an import and of a watch: what files hold arrives, each row once."""

import gzip
import random
import threading
import time
import zipfile
from pathlib import Path

import pytest
from fix_imports import HEADER, arrived, cells_of, configure, every_status, lines, mast, statuses, write
from fix_services import Start, await_true

pytestmark = [pytest.mark.integration, pytest.mark.fault]


@pytest.fixture
def device_partitions() -> int:
    return 3


def folder_of_files(folder: Path, files: int, rows: int) -> None:
    """Plain, compressed, in an archive, twice, and with rows that overlap those of the file before."""
    folder.mkdir()
    for number in range(files):
        path = write(folder / f"mast_{number:03}.dat", max(0, number * rows - 7), rows + min(7, number * rows))
        if number % 5 == 1:
            (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
        if number % 5 == 2:
            (folder / f"again_{number:03}.dat").write_bytes(path.read_bytes())
    with zipfile.ZipFile(folder / "more.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(files, files + 5):
            archive.writestr(f"mast_{number:03}.dat", HEADER + lines(number * rows, rows))


@pytest.mark.timeout(240)
def test_killed_import_goes_on_and_every_row_arrives_once(cluster: str, start: Start, tmp_path: Path) -> None:
    configure(cluster, mast())
    folder_of_files(tmp_path / "files", 40, 300)
    chance = random.Random(3)
    env = {"TELLTALE_KAFKA": cluster, "TELLTALE_DIR": str(tmp_path / "stack"), "TELLTALE_IMPORT_JOBS": "2"}
    command = ("import", "files", "--wait", "0", "--timeout", "30")  # run in tmp_path
    for _ in range(2):
        running = start(*command, **env)
        time.sleep(chance.uniform(1.0, 2.5))
        running.kill()
    last = start(*command, **env)
    await_true(lambda: not last.lives, what="the last import ends", within_s=120)
    assert last.stop() == 0, last.log.read_text()
    found = arrived(cluster)
    assert set(found) == cells_of(0, 45 * 300)
    overlapping = {cell for number in range(1, 40) for cell in cells_of(number * 300 - 7, 7)}
    assert {cell for cell, count in found.items() if count > 1} == overlapping  # two files' rows; one in the database
    told = statuses(cluster)
    assert {status.state for status in told.values()} == {"sent"}
    assert {status.device_id for status in told.values()} == {"mast-7"}


class Logger(threading.Thread):
    """Writes as LoggerNet does: in pieces that end anywhere, with headers in between, rotating now and then."""

    def __init__(self, folder: Path, *, rows: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._folder, self._rows, self._chance = folder, rows, random.Random(seed)

    def run(self) -> None:
        path, row, rotations = self._folder / "mast.dat", 0, 0
        path.write_bytes(HEADER.encode())
        while row < self._rows:
            count = min(self._chance.randint(1, 40), self._rows - row)
            data = lines(row, count).encode()
            if self._chance.random() < 0.2:
                data = HEADER.encode() + data
            cut = self._chance.randint(0, len(data))
            for piece in (data[:cut], data[cut:]):
                with path.open("ab") as file:
                    file.write(piece)
                time.sleep(0.01)
            row += count
            if self._chance.random() < 0.08:
                rotations += 1
                path.replace(self._folder / f"mast_{rotations}.dat")
                path.write_bytes(HEADER.encode())


@pytest.mark.timeout(240)
def test_killed_watch_goes_on_and_every_row_arrives_once(cluster: str, start: Start, tmp_path: Path) -> None:
    configure(cluster, mast())
    folder = tmp_path / "loggernet"
    folder.mkdir()
    env = {"TELLTALE_KAFKA": cluster, "TELLTALE_DIR": str(tmp_path / "stack")}
    command = ("import", "watch", "loggernet", "--every", "0.2")
    chance = random.Random(5)
    logger = Logger(folder, rows=5_000, seed=11)
    logger.start()
    for _ in range(2):
        running = start(*command, **env)
        time.sleep(chance.uniform(1.0, 2.5))
        running.kill()
    logger.join()
    expected = cells_of(0, 5_000)
    last = start(*command, **env)
    await_true(lambda: len(arrived(cluster)) >= len(expected) or not last.lives, what="all rows", within_s=120)
    assert last.stop() == 0, last.log.read_text()
    found = arrived(cluster)
    assert set(found) == expected
    assert set(found.values()) == {1}
    told = every_status(cluster)
    assert sum(status.rows for status in told) == 5_000
    assert not [status for status in told if status.state not in ("sent", "sending")]
    # Every line that was read; a file that a listing missed while it was renamed has its copy under its hash, too.
    archived = [path for path in (tmp_path / "stack" / "archive").rglob("*") if path.is_file()]
    kept = {line for path in archived for line in path.read_text().splitlines()}
    assert set(lines(0, 5_000).splitlines()) <= kept
