"""The parts' log files: bounds them and shows them, each line with its part's name. Writes nothing of its own."""

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TextIO

SIZE_BYTES_MAX = 50_000_000
"""Per part, and as much again for the one before. A day of a busy broker's log."""
SHOWN_BYTES_MAX = 1_000_000
COLOURS = (36, 35, 33, 32, 34, 96, 95, 93, 92, 94)


def log_file(folder: Path, name: str) -> Path:
    return folder / "logs" / f"{name}.log"


def appended(path: Path) -> BinaryIO:
    """Open at its end; made for its owner's eyes alone, since the dashboard's first line is a way in."""
    return open(path, "ab", opener=_private)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def shorten(path: Path) -> None:
    """Keeps a copy and empties the file when it is full. Its writer appends, so it goes on at the beginning."""
    if not path.exists() or path.stat().st_size <= SIZE_BYTES_MAX:
        return
    before = path.with_suffix(".log.1")
    with path.open("r+b") as full:
        try:
            before.unlink(missing_ok=True)
            with open(before, "xb", opener=_private) as kept:
                shutil.copyfileobj(full, kept)
        except OSError:  # a full disk above all: no reason to end, and emptying makes room
            with suppress(OSError):
                before.unlink(missing_ok=True)
        full.truncate(0)


def last_line(path: Path) -> str:
    """What a part that ended said last, leaving out the frames of a traceback."""
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 10_000))
        lines = log.read().decode(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip() and not line.startswith((" ", "\t"))]
    # PostgreSQL and Java explain first and then say that they end.
    telling = [line for line in said if "FATAL" in line or " ERROR " in line or line.startswith(("Error", "ERROR"))]
    return (telling or said or [""])[-1][:500]


class Follower:
    """Shows what is appended to one log from now on, as `name | line`."""

    def __init__(self, name: str, path: Path, *, width: int, colour: int | None, out: TextIO = sys.stdout) -> None:
        prefix = f"{name:<{width}} | "
        self._prefix = prefix if colour is None else f"\x1b[{colour}m{prefix}\x1b[0m"
        self._path, self._out = path, out
        self._position = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def show(self) -> None:
        """Prints whole lines; bounded, so that one talkative part does not hold up the others."""
        if not self._path.exists():
            return
        size = self._path.stat().st_size
        if size < self._position:  # it was shortened
            self._position = 0
        with self._path.open("rb") as log:
            log.seek(self._position)
            new = log.read(SHOWN_BYTES_MAX)
        self._position += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            self._out.write(f"{self._prefix}{line.decode(errors='replace')}\n")
        if lines:
            self._out.flush()


def followers(folder: Path, names: list[str], *, out: TextIO = sys.stdout) -> list[Follower]:
    width = max(map(len, names), default=0)
    colours = COLOURS if out.isatty() else (None,)
    return [
        Follower(name, log_file(folder, name), width=width, colour=colours[i % len(colours)], out=out)
        for i, name in enumerate(names)
    ]
