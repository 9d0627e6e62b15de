"""What the broker's log says of refused logins and denied writes. Pure but for `LogEnd`, which reads a file that grows.

Kafka's clients cannot ask for these; the broker's network and authorizer loggers are the source.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

LOGIN = re.compile(r"Failed authentication with /?(?P<address>[0-9A-Fa-f.:]+) \(channelId=[^)]*\) \((?P<why>[^)]*)\)")
DENIED = re.compile(
    r"Principal = User:(?P<who>\S+) is Denied operation = (?P<operation>\w+) from host = (?P<address>\S+) "
    r"on resource = (?P<resource>\S+)"
)
CALM = timedelta(minutes=10)
"""So long after the last try an alarm stands: a device that tries again each minute is one alarm."""
SOURCES_MAX = 50
"""Told apart; who comes beyond is counted under one name, so that a scan of the port is no flood."""
OTHERS = "address/others"
READ_BYTES_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Try:
    """Somebody who was refused."""

    source: str  # of the alarm
    reason: str
    said: str


def tries(lines: Iterable[str]) -> Iterator[Try]:
    """What the lines of a broker's log tell of refusals."""
    for line in lines:
        if found := LOGIN.search(line):
            address = found["address"]
            why = found["why"].removeprefix("Authentication failed during authentication due to ")
            yield Try(f"address/{address}", "refused_login", f"A login from {address} was refused: {why}")
        elif found := DENIED.search(line):
            who = found["who"]
            resource = found["resource"].replace(":LITERAL:", " ").lower()
            what = f"{found['operation'].lower()} {resource}"
            yield Try(f"device/{who}", "denied", f'"{who}" at {found["address"]} may not {what}')


@dataclass(slots=True)
class Seen:
    """One source's tries of late."""

    reason: str
    said: str
    last: datetime
    count: int = 0


@dataclass(slots=True)
class Strangers:
    """Who was refused of late, at the door or by the stage and the sink."""

    calm: timedelta = CALM
    others: str = OTHERS
    _seen: dict[str, Seen] = field(default_factory=dict)

    def note(self, found: Iterable[Try], now: datetime) -> None:
        """More tries."""
        for one in found:
            known = one.source in self._seen or len(self._seen) < SOURCES_MAX
            source = one.source if known else self.others
            seen = self._seen.setdefault(source, Seen(one.reason, one.said, now))
            seen.reason, seen.said, seen.last, seen.count = one.reason, one.said, now, seen.count + 1

    def standing(self, now: datetime) -> Iterator[tuple[str, Seen, bool]]:
        """(source, what was seen, whether it is recent); one that has calmed down is given a last time."""
        for source, seen in list(self._seen.items()):
            recent = now - seen.last < self.calm
            if not recent:
                del self._seen[source]
            yield source, seen, recent


@dataclass(slots=True)
class LogEnd:
    """What is appended to a log from the first look on, in whole lines; once emptied, it is read from its start."""

    path: Path
    _at: int | None = None
    _rest: bytes = b""

    def lines(self) -> list[str]:
        """New lines, at most a megabyte's."""
        try:
            size = self.path.stat().st_size
            if self._at is None or size < self._at:
                self._at, self._rest = (size if self._at is None else 0), b""
            with self.path.open("rb") as log:
                log.seek(self._at)
                new = log.read(READ_BYTES_MAX)
        except OSError:
            return []
        self._at += len(new)
        *whole, self._rest = (self._rest + new).split(b"\n")
        return [line.decode(errors="replace") for line in whole]
