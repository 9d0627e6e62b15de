"""The one shape of every service's log: `ts` (UTC), `level`, `event`, `service`, then the event's own fields.

As logfmt, or as JSON where TELLTALE_LOG_FORMAT says so; one line each in any case. Light: the edge imports it.
"""

import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType

import orjson

from infra.printable import storable
from schemas.errors import Refused

FORMAT = "TELLTALE_LOG_FORMAT"
FIRST = ("ts", "level", "event", "service")


class Format(StrEnum):
    """How a line is written."""

    LOGFMT = "logfmt"
    JSON = "json"


def chosen() -> Format:
    """As the environment says. Raises `Refused`."""
    said = os.environ.get(FORMAT) or Format.LOGFMT
    try:
        return Format(said)
    except ValueError:
        raise Refused(f'{FORMAT}: expected {" or ".join(Format)}, got "{said}"') from None


def stamp(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def render(fields: Mapping[str, object], how: Format) -> str:
    """One line. In logfmt, values with blanks, quotes or equal signs are quoted; nothing breaks the line, or steers the
    terminal on which it is read."""
    every = {name: fields[name] for name in FIRST if name in fields}
    every |= {name: value for name, value in fields.items() if name not in every}
    if how is Format.JSON:
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        try:
            return orjson.dumps(every, default=str, option=options).decode()
        except orjson.JSONEncodeError:  # halves of characters, of a file's name: a log line must not stop the work
            told = {str(name): storable(str(value)) for name, value in every.items()}
            return orjson.dumps(told).decode()
    return " ".join(f"{name}={_value(value)}" for name, value in every.items())


def _value(value: object) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    if text.isprintable() and not any(each in text for each in ' ="\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        escaped = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in escaped)
    return f'"{escaped}"'


Say = Callable[..., None]
_says: list[Say] = []


def speak_by(say: Say) -> None:
    """This process has a log from now on: what ends it is said there, too, by `say(event, **fields)`."""
    _says[:] = [say]

    def uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error or kind(), trace)
            return
        told = "".join(traceback.format_exception(kind, error, trace)).rstrip()
        say("crashed", error=f"{kind.__name__}: {error}", exception=told)

    sys.excepthook = uncaught
    threading.excepthook = lambda of: uncaught(of.exc_type, of.exc_value, of.exc_traceback)


def last_words(error: str) -> None:
    """Why the process ends, for a person at a terminal or, in JSON, for whoever reads its log."""
    if _says and chosen() is Format.JSON:
        _says[0]("ends", error=error)
    else:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 - what a command says of its end
