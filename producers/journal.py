"""Events of a running edge on standard output, one logfmt line each, as every service's log has them (infra.events).

Written here in a few lines because structlog, with what it imports, takes five of the eighty megabytes that
an edge may have.
"""

import sys
import threading
from datetime import UTC, datetime

_lock = threading.Lock()


def info(event: str, **fields: object) -> None:
    _say("info", event, fields)


def warning(event: str, **fields: object) -> None:
    _say("warning", event, fields)


def error(event: str, **fields: object) -> None:
    _say("error", event, fields)


def line(level: str, event: str, fields: dict[str, object], *, now: datetime) -> str:
    """One event; values with blanks, quotes or equal signs are quoted, and nothing breaks the line."""
    stamp = now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    every = {"timestamp": stamp, "level": level, "event": event, **fields}
    return " ".join(f"{name}={_value(value)}" for name, value in every.items())


def _say(level: str, event: str, fields: dict[str, object]) -> None:
    text = line(level, event, fields, now=datetime.now(UTC))
    with _lock:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def _value(value: object) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if any(each in text for each in ' ="\\\n\r'):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        return f'"{escaped}"'
    return text
