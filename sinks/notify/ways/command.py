"""By a program of one's own."""

import os
import subprocess

from sinks.notify import words
from sinks.notify.config import Command
from sinks.notify.notices import Notice
from sinks.notify.ways.port import Undelivered

SAID_CHARACTERS_MAX = 200


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
            done = subprocess.run(
                self._way.command,
                input=words.batch(notice.events),
                env=env,
                capture_output=True,
                timeout=self._way.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Undelivered(f"{program} did not end within {self._way.timeout_s:g} s") from None
        except OSError as error:
            raise Undelivered(f"{program}: {error.strerror}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-SAID_CHARACTERS_MAX:]
            raise Undelivered(f"{program} ended with {done.returncode}: {said}".rstrip(": "))
