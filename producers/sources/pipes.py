"""Lines from a command or from standard input. Knows pipes and processes; what a line means is told in `text.py`.

All lines that are there at once become one commit: a single line is on disk at once, a flood is not slow.
"""

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from producers.edge import wall_clock_us
from producers.sources.port import Intake
from producers.sources.text import rows_of
from schemas.errors import Refused, Unavailable

READ_BYTES = 65_536
LINE_BYTES_MAX = 1 << 20
LOOK_S = 0.5  # how late a stop is noticed at worst
END_S_MAX = 3.0  # for a command to end by itself when asked to; then it is killed


def lines_of(pipe: IO[bytes], stop: threading.Event, *, quiet_s_max: float | None = None) -> Iterator[list[str]]:
    """Whole lines as they come, those that are there together; the last one also without its end.

    Raises `Unavailable` when nothing came for `quiet_s_max`, `Refused` for a line without an end.
    """
    rest = b""
    heard = time.monotonic()
    while not stop.is_set():
        if not select.select([pipe], [], [], LOOK_S)[0]:
            if quiet_s_max is not None and time.monotonic() - heard > quiet_s_max:
                raise Unavailable(f"said nothing for {quiet_s_max:g} s")
            continue
        heard = time.monotonic()
        raw = os.read(pipe.fileno(), READ_BYTES)
        if not raw:
            if rest:
                yield [rest.decode(errors="replace")]
            return
        whole, newline, rest = (rest + raw).rpartition(b"\n")
        if newline:
            yield whole.decode(errors="replace").split("\n")
        elif len(rest) > LINE_BYTES_MAX:
            raise Refused(f"a line is longer than {LINE_BYTES_MAX} bytes")


def hand_over(lines: list[str], intake: Intake) -> None:
    """One commit for all of them."""
    rows = rows_of(lines, device_id=intake.device_id, now_us=wall_clock_us(), odd=intake.odd)
    if rows:
        intake.offer(rows)


@dataclass(frozen=True, slots=True)
class Stdin:
    """Standard input, to its end."""

    def run(self, intake: Intake, stop: threading.Event) -> None:
        for lines in lines_of(sys.stdin.buffer, stop):
            hand_over(lines, intake)


@dataclass(frozen=True, slots=True)
class Command:
    """A command that prints lines: one that goes on for ever, or one that is called every so often."""

    command: tuple[str, ...]
    every_s: float | None = None  # None: it runs for ever, so its end is a failure
    quiet_s_max: float | None = None

    def run(self, intake: Intake, stop: threading.Event) -> None:
        while not stop.is_set():
            started = time.monotonic()
            said = self._once(intake, stop)
            if stop.is_set():
                return
            if self.every_s is None:
                raise Unavailable(f"{self.command[0]} ended{said}")
            stop.wait(max(0.0, self.every_s - (time.monotonic() - started)))

    def _once(self, intake: Intake, stop: threading.Event) -> str:
        """What it said last on standard error. Raises `Unavailable` where it did not end well."""
        with tempfile.TemporaryFile() as errors:
            try:
                running = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,  # so that what it starts ends with it
                )
            except OSError as error:
                raise Unavailable(f"{self.command[0]} cannot be started: {error.strerror}") from None
            assert running.stdout is not None  # noqa: S101 - asked for three lines above
            try:
                for lines in lines_of(running.stdout, stop, quiet_s_max=self.quiet_s_max):
                    hand_over(lines, intake)
                if not stop.is_set():
                    running.wait(END_S_MAX)
            except subprocess.TimeoutExpired:
                raise Unavailable(f"{self.command[0]} closed its output and did not end") from None
            finally:
                running.stdout.close()
                _end(running)
            said = _last_line(errors)
        if not stop.is_set() and running.returncode:
            raise Unavailable(f"{self.command[0]} ended with {running.returncode}{said}")
        return said


def _end(running: subprocess.Popen[bytes]) -> None:
    """The command and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if running.poll() is not None:
            return
        try:
            os.killpg(running.pid, number)
            running.wait(END_S_MAX)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _last_line(errors: IO[bytes]) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2_000))
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
