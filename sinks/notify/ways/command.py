"""By a program of one's own."""

import os
import subprocess
import sys
import tempfile
from typing import IO

from sinks.notify import words
from sinks.notify.config import Command
from sinks.notify.notices import Notice
from sinks.notify.ways.port import Undelivered

SAID_BYTES_MAX = 200


class Program:
    """Gets the notice's id and subject in its environment, the CloudEvents batch on standard input."""

    once = False

    def __init__(self, way: Command) -> None:
        self._way = way

    def carry(self, notice: Notice) -> None:
        env = os.environ | {
            "TELLTALE_NOTICE_ID": notice.notice_id,
            "TELLTALE_NOTICE_SUBJECT": words.subject(notice),
            "TELLTALE_NOTICE_REPEAT": "1" if notice.repeat else "",
        }
        program = self._way.command[0]
        try:
            code, said = self._run(words.batch(notice.events), env)
        except subprocess.TimeoutExpired:
            raise Undelivered(f"{program} did not end within {self._way.timeout_s:g} s") from None
        except OSError as error:
            raise Undelivered(f"{program}: {error.strerror}") from None
        if code:
            raise Undelivered(f"{program} ended with {code}: {said}".rstrip(": "))

    def _run(self, spoken: bytes, env: dict[str, str]) -> tuple[int, str]:
        """Its exit code, and the end of what it wrote to standard error.

        There through no pipe: what the program leaves running would keep it open, and the program would seem not to
        have ended. And into no file on a disk, which may be what is full.
        """
        with _memory() as errors:
            done = subprocess.run(
                self._way.command,
                input=spoken,
                env=env,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=self._way.timeout_s,
                check=False,
            )
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - SAID_BYTES_MAX))
            return done.returncode, errors.read().decode(errors="replace").strip()


def _memory() -> IO[bytes]:
    if sys.platform == "linux":
        return os.fdopen(os.memfd_create("errors"), "w+b")
    return tempfile.TemporaryFile()
