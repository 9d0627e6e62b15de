"""Alarm events from this machine that cannot come through Kafka: the watchdog's, while the broker is away.

Each is a file of its own, written whole, taken away once it is in the ledger.
"""

from collections.abc import Iterator
from pathlib import Path

import structlog

from schemas.alarms import AlarmEvent, read_alarm
from schemas.columnar import Unreadable

log = structlog.get_logger(__name__)


def arrived(folder: Path) -> Iterator[tuple[Path, AlarmEvent]]:
    """What lies there, oldest first. What is no event is set aside under another name."""
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, read_alarm(path.read_bytes())
        except Unreadable as trouble:
            log.warning("no_alarm", file=path.name, detail=str(trouble))
            path.rename(path.with_suffix(".unreadable"))
        except OSError as error:
            log.warning("inbox", file=path.name, detail=error.strerror)
