"""Events of a running edge on standard output, in the one shape of every service's log (infra.log_lines).

Written here in a few lines because structlog, with what it imports, takes five of the eighty megabytes that
an edge may have.
"""

import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime

from infra import log_lines

SERVICE = "edge"

_lock = threading.Lock()


def info(event: str, **fields: object) -> None:
    _say("info", event, fields)


def warning(event: str, **fields: object) -> None:
    _say("warning", event, fields)


def error(event: str, **fields: object) -> None:
    _say("error", event, fields)


def line(level: str, event: str, fields: dict[str, object], *, now: datetime) -> str:
    """One event."""
    every = {"ts": log_lines.stamp(now), "level": level, "event": event, "service": SERVICE, **fields}
    return log_lines.render(every, log_lines.chosen())


def _say(level: str, event: str, fields: dict[str, object]) -> None:
    text = line(level, event, fields, now=datetime.now(UTC))
    with _lock, suppress(OSError, ValueError):  # a full disk, a reader that is gone: no reason to lose readings, too
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
