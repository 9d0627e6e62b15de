"""kill -9 of a process that accepts: what it was told is on disk, is; nothing is there twice."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from fix_edge import some_rows
from fix_faultbook import Book
from small_disk import small_disk

from producers.spool import DiskTrouble, Spool
from schemas.errors import Refused

pytestmark = pytest.mark.fault

# Accepts one row after another and prints its number when the accept has returned; cuts and acknowledges now and then.
ACCEPTING = """
import sys, time
from pathlib import Path
from fix_edge import some_rows
from producers.spool import Spool
first = int(sys.argv[2])
with Spool(Path(sys.argv[1]), clock_us=lambda: time.time_ns() // 1000) as spool:
    for number in range(first, first + 1_000_000):
        spool.accept([some_rows(1, channels=("a",), first=number)])
        print("accepted", number, flush=True)
        if number % 7 == 0:
            for cut in spool.turn(room_bytes=200, frame_bytes_max=64):
                at = spool.read(cut.key).times // 1_000_000
                print("cut", cut.key.sequence, *at, flush=True)
        if number % 11 == 0:
            keys = [cut.key for cut in spool.unacknowledged()][:2]
            print("sending", *[key.sequence for key in keys], flush=True)
            spool.turn(keys, frame_bytes_max=64)
            print("sent", *[key.sequence for key in keys], flush=True)
"""


def run_and_kill(folder: Path, first: int, *, after_s: float) -> list[list[str]]:
    """What a process said until it was killed."""
    tests = Path(__file__).parent.parent
    command = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(tests)!r})\n{ACCEPTING}",
        str(folder),
        str(first),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tests.parent) as running:
        assert running.stdout is not None
        lines = [running.stdout.readline()]
        time.sleep(after_s)
        running.send_signal(signal.SIGKILL)
        lines += running.stdout.readlines()
    return [line.split() for line in lines if line.endswith("\n") and line.strip()]


def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, book: Book) -> None:
    kills = book.kills if book.is_long else 10
    chance = random.Random(7)
    folder = tmp_path / "spool"
    told: set[int] = set()
    meant: dict[int, list[int]] = {}
    sent: set[int] = set()
    perhaps_sent: set[int] = set()
    last = -1
    for _ in range(kills):
        for word, *numbers in run_and_kill(folder, last + 1, after_s=chance.uniform(0, 0.15)):
            if word == "accepted":
                told.add(int(numbers[0]))
            elif word == "cut":
                assert int(numbers[0]) not in meant
                meant[int(numbers[0])] = list(map(int, numbers[1:]))
            elif word == "sending":
                perhaps_sent |= set(map(int, numbers))
            else:
                sent |= set(map(int, numbers))
        with Spool(folder, clock_us=lambda: 0) as spool:
            waiting = {
                cut.key.sequence: [int(at) // 1_000_000 for at in spool.read(cut.key).times]
                for cut in spool.unacknowledged()
            }
            last = max([*told, spool.counts("mast-7").accepted - 1])
        assert not sent & set(waiting)
        for sequence, content in waiting.items():
            assert meant.setdefault(sequence, content) == content
    with Spool(folder, clock_us=lambda: 0) as spool:
        spool.turn(room_bytes=1 << 30, frame_bytes_max=1 << 18)
        there = Counter(int(at) // 1_000_000 for cut in spool.unacknowledged() for at in spool.read(cut.key).times)
        gone = [
            number
            for sequence in perhaps_sent - {c.key.sequence for c in spool.unacknowledged()}
            for number in meant[sequence]
        ]
        counts = spool.counts("mast-7")
    there.update(gone)
    assert max(there.values()) == 1
    assert told <= set(there)
    assert len(there) == counts.accepted
    assert counts.sent == len(gone)
    book.tell(
        "edge crashes: the spool alone",
        f"kill -9 at {kills} random points of accepting, cutting and sending frames; "
        "every frame that was cut is the same afterwards",
        accepted=counts.accepted,
        seed=7,
    )


HOLDING = """
import sys, time
from pathlib import Path
from producers.spool import Spool
Spool(Path(sys.argv[1]), clock_us=lambda: 0)
print("open", flush=True)
time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(Refused, match="in use by another process"):
            Spool(tmp_path, clock_us=lambda: 0)
        other.kill()
    Spool(tmp_path, clock_us=lambda: 0).close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "30m") as place:
        yield place


def fill(spool: Spool, first: int) -> int:
    """Accepts until the disk refuses; how many there are then."""
    with suppress(DiskTrouble):
        while True:
            spool.accept([some_rows(10_000, first=first)])
            first += 10_000
    return first


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(disk: Path, book: Book) -> None:
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(4_000_000))
    with Spool(disk, clock_us=lambda: 0) as spool:
        accepted = fill(spool, 0)
        ballast.unlink()
        accepted = fill(spool, accepted)
    there: list[int] = []
    with Spool(disk, clock_us=lambda: 0) as spool:  # on a disk that is still full
        while cuts := spool.turn(room_bytes=1 << 18, frame_bytes_max=1 << 16):
            there += [int(at) for cut in cuts for at in spool.read(cut.key).times]
            spool.turn([cut.key for cut in cuts], frame_bytes_max=1)
        spool.accept([some_rows(10_000, first=accepted)])
        assert spool.counts("mast-7").refused >= 20_000  # the last ones if there was room to note them
    assert there == [number * 1_000_000 for number in range(accepted)]
    book.tell(
        "disk full: edge", "accepts until the disk refuses, twice; sends, then accepts again", accepted=2 * accepted
    )
