"""Events of the live stream: what they carry, how they are written, where they stand. Knows no broker and no client.

A position is the next offset of every partition that can hold what a client wants, written as `r3:120,a0:7`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import orjson

from dashboard.web.problems import Problem
from schemas.codec import Codec
from schemas.frames import CleanFrame, WindowFrame
from schemas.topics import ALARMS, READINGS_CLEAN, WINDOWS

At = tuple[str, int]
Positions = dict[At, int]


class Kind(StrEnum):
    """Of event."""

    READINGS = "readings"
    WINDOWS = "windows"
    ALARMS = "alarms"


TOPIC = {Kind.READINGS: READINGS_CLEAN, Kind.WINDOWS: WINDOWS, Kind.ALARMS: ALARMS}
LETTER = {READINGS_CLEAN: "r", WINDOWS: "w", ALARMS: "a"}
TOPIC_OF = {letter: topic for topic, letter in LETTER.items()}
KIND_OF = {topic: kind for kind, topic in TOPIC.items()}


def written(positions: Positions) -> str:
    """As an event's id."""
    return ",".join(f"{LETTER[topic]}{part}:{offset}" for (topic, part), offset in sorted(positions.items()))


def read(text: str) -> Positions:
    """From an event's id. Raises `Problem` 422."""
    found: Positions = {}
    for word in filter(None, text.split(",")):
        where, _, offset = word.partition(":")
        is_ours = where[:1] in TOPIC_OF and where[1:].isdecimal() and offset.isdecimal()
        if not is_ours or not (where + offset).isascii() or len(word) > 40 or int(offset) >= 2**63:
            raise Problem(422, f'last event id: "{text[:60]}" is none of ours')
        found[TOPIC_OF[where[0]], int(where[1:])] = int(offset)
    return found


@dataclass(frozen=True, slots=True)
class Event:
    """One record that somebody may want. `device` is None for an alarm about something else."""

    at: At
    offset: int
    kind: Kind
    device: str | None
    data: bytes


def told(codec: Codec, kind: Kind, key: str, value: bytes) -> tuple[str | None, bytes]:
    """A record as an event's device and data. Raises `Unreadable`, `ValueError` for somebody else's record."""
    if kind is Kind.ALARMS:
        said = orjson.loads(value)
        return _device_of(said), orjson.dumps(said)
    if kind is Kind.READINGS:
        return key, orjson.dumps(told_readings(codec.decode_frame(CleanFrame, value)), option=_NUMPY)
    return key, orjson.dumps(told_windows(codec.decode_frame(WindowFrame, value)), option=_NUMPY)


def _device_of(said: Any) -> str | None:
    """Whom an alarm's event is about. Raises `ValueError` for JSON that is none, such as somebody's own record."""
    alarm = said.get("data") if isinstance(said, dict) else None
    if not isinstance(alarm, dict) or not isinstance(alarm.get("device_id", 0), str | None):
        raise ValueError("no alarm event")
    device: str | None = alarm["device_id"]
    return device


_NUMPY = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def _times(micros: Any) -> Any:
    return np.asarray(micros).astype("datetime64[us]")


def told_readings(frame: CleanFrame) -> dict[str, Any]:
    """Rows by time, columns by channel; NaN is null."""
    return {
        "device_id": frame.device_id,
        "channels": list(frame.channels),
        "times": _times(frame.times),
        "values": np.ascontiguousarray(frame.values),
        "quality": np.ascontiguousarray(frame.quality),
    }


def told_windows(frame: WindowFrame) -> dict[str, Any]:
    """Entry i of every array is one window; NaN is null."""
    return {
        "device_id": frame.device_id,
        "channels": list(frame.channels),
        "starts": _times(frame.starts),
        "lengths_s": np.ascontiguousarray(frame.lengths_s),
        "counts": np.ascontiguousarray(frame.counts),
        "expected": np.ascontiguousarray(frame.expected),
        "means": np.ascontiguousarray(frame.means),
        "sds": np.ascontiguousarray(frame.sds),
        "minima": np.ascontiguousarray(frame.minima),
        "maxima": np.ascontiguousarray(frame.maxima),
    }
