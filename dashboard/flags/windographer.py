"""Windographer's flag log: lines of text to spans. Pure: knows the format; knows no database.

    Data Column <tab> Flag Name <tab> Start Time <tab> End Time <tab> Time Steps

The end is exclusive. Times are local standard time without an offset: the reader must be told which.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from schemas.errors import Refused

HEAD = ("data column", "flag name", "start time", "end time")
BYTES_MAX = 64 * 2**20  # some half a million flags; what is larger is no flag log


@dataclass(frozen=True, slots=True)
class Line:
    """One flag, as it stands in the file, in UTC. `number` is the line's."""

    number: int
    column: str
    category: str
    begin: datetime
    end: datetime


def text_of(data: bytes, *, name: str) -> str:
    """UTF-8, with or without byte order mark, or Latin-1, which real exports are in. Raises `Refused`."""
    if len(data) > BYTES_MAX:
        raise Refused(f"{name}: more than {BYTES_MAX} bytes; a flag log has no more")
    if b"\0" in data:
        raise Refused(f"{name}: not a text file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def lines(text: str, *, name: str, utc_offset: timedelta) -> list[Line]:
    """All flags of a log. Raises `Refused` at the first line that cannot be read."""
    zone, found, has_head = timezone(utc_offset), [], False
    for number, raw in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in raw.split("\t")]
        if tuple(cell.lower() for cell in cells[: len(HEAD)]) == HEAD:
            has_head = True
        elif has_head and any(cells):
            found.append(_line(cells, number, name=name, zone=zone))
    if not has_head:
        raise Refused(
            f'{name}: no line "Data Column<tab>Flag Name<tab>Start Time<tab>End Time": no Windographer flag log'
        )
    return found


def _line(cells: list[str], number: int, *, name: str, zone: timezone) -> Line:
    where = f"{name}, line {number}"
    if len(cells) < len(HEAD) or not all(cells[: len(HEAD)]):
        raise Refused(f"{where}: expected column, flag, start and end with tabs between")
    begin, end = (_time(cell, where=where, zone=zone) for cell in cells[2:4])
    if begin >= end:
        raise Refused(f"{where}: start {cells[2]} must be before end {cells[3]}")
    return Line(number, cells[0], cells[1], begin, end)


def _time(text: str, *, where: str, zone: timezone) -> datetime:
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):  # UTC overflows within a day of the years 1 and 9999
        raise Refused(
            f"{where}: time {text}: expected such as 2016-12-20 10:00 (other orders cannot be told)"
        ) from None


def channel_of(column: str, channels: Iterable[str], named: Mapping[str, str]) -> str | None:
    """The channel that a column means: as named, else the channel of that name, units in brackets left out."""
    bare = column.partition("[")[0].strip()
    for name in (column, bare):
        if name in named:
            return named[name]
    there = set(channels)
    return next((name for name in (column, bare) if name in there), None)
