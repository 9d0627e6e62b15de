"""Lines of readings as home-made programs print them, to rows. Pure: text in, arrays out.

    2024-05-01T12:00:00Z,temperature,21.5        time, channel, value
    1714564800.25,temperature,21.5               seconds since 1970
    temperature,21.5                             no time: the edge's clock
    {"time": "2024-05-01T12:00:00Z", "channel": "temperature", "value": 21.5}
    {"values": {"temperature": 21.5, "humidity": 48}, "device": "pi-2"}

A time without a zone is refused, an empty value or NaN is a missing reading. Empty lines and those with # are passed.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

import numpy as np
import orjson

from producers.edge import EPOCH, MICROSECOND
from producers.spool import Rows

Odd = Callable[[str], None]
Cell = tuple[str, int | None, str, float]  # device, time_us, channel, value

KEYS = frozenset({"time", "channel", "value", "values", "device"})
TIME_US_MAX = 253_402_300_800_000_000  # the year 10000
SHOWN_MAX = 60


def rows_of(lines: Iterable[str], *, device_id: str, now_us: int, odd: Odd) -> list[Rows]:
    """Readings in the order of their lines. Neighbours of a moment share a row, rows of the same channels an array."""
    cells: list[Cell] = []
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            cells += _json(text, device_id) if text.startswith("{") else [_comma(text, device_id)]
        except ValueError as error:
            odd(f"{error}: {text[:SHOWN_MAX]!r}")
    return arrays(cells, now_us=now_us)


def arrays(cells: Iterable[Cell], *, now_us: int) -> list[Rows]:
    """Cells without a time get `now_us`, and a microsecond more each time their channel comes again."""
    moments: list[tuple[str, int, dict[str, float]]] = []
    last: tuple[str, int | None] | None = None
    for device, at, channel, value in cells:
        if moments and (device, at) == last and channel not in moments[-1][2]:
            moments[-1][2][channel] = value
            continue
        again = at is None and (device, at) == last
        time_us = (moments[-1][1] + 1 if again else now_us) if at is None else at
        moments.append((device, time_us, {channel: value}))
        last = (device, at)
    out: list[Rows] = []
    start = 0
    for stop in range(1, len(moments) + 1):
        here = moments[start]
        if stop < len(moments) and (moments[stop][0], moments[stop][2].keys()) == (here[0], here[2].keys()):
            continue
        channels = tuple(here[2])
        times = np.array([moment[1] for moment in moments[start:stop]], np.int64)
        values = np.array([[moment[2][name] for name in channels] for moment in moments[start:stop]], np.float64)
        out.append(Rows(here[0], times, channels, values))
        start = stop
    return out


def _comma(text: str, device_id: str) -> Cell:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (2, 3):
        raise ValueError(f"expected time,channel,value or channel,value, got {len(parts)} parts")
    *at, channel, value = parts
    return device_id, _time(at[0]) if at and at[0] else None, _channel(channel), _value(value)


def _json(text: str, device_id: str) -> Iterator[Cell]:
    try:
        record = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is no JSON ({error})") from None
    if unknown := sorted(record.keys() - KEYS):
        raise ValueError(f"unknown key {unknown[0]!r}, known are {', '.join(sorted(KEYS))}")
    values = record.get("values")
    if values is None:
        if "channel" not in record or "value" not in record:
            raise ValueError('expected "channel" and "value", or "values"')
        values = {record["channel"]: record["value"]}
    device = record.get("device", device_id)
    if not isinstance(values, dict) or not isinstance(device, str) or not device:
        raise ValueError('"values" must be an object and "device" a name')
    at = record.get("time")
    time_us = None if at is None else _time(at)
    return iter([(device, time_us, _channel(channel), _value(value)) for channel, value in values.items()])


def _channel(name: object) -> str:
    if not isinstance(name, str) or not name:
        raise ValueError("the channel has no name")
    return name


def _value(value: object) -> float:
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{value!r} is no number") from None
    return number if math.isfinite(number) else math.nan


def _time(at: object) -> int:
    """UTC microseconds of an ISO 8601 time with its zone, or of seconds since 1970."""
    if isinstance(at, str):
        try:
            at = float(at)
        except ValueError:
            return _iso(str(at))
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        raise ValueError(f"{at!r} is no time")
    time_us = round(at * 1_000_000)
    if not 0 <= time_us < TIME_US_MAX:
        raise ValueError(f"{at!r} is no time in seconds since 1970")
    return time_us


def _iso(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time") from None
    if moment.utcoffset() is None:
        raise ValueError(f"time {text!r} has no zone (end it with Z or +01:00)")
    return (moment - EPOCH) // MICROSECOND
