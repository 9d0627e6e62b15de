"""A spool's content as lines that `telltale edge run` reads on standard input. Knows SQLite; changes nothing.

Reads what can be read, also of a spool that was set aside as damaged.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import orjson

from producers.spool import database
from producers.spool.rows import Damaged, Rows, unpacked

TIME_US_MIN, TIME_US_MAX = -62_135_596_800_000_000, 253_402_300_800_000_000  # the years 1 and 10000

GROUPS = """select g.id, d.device_id, s.channels, g.body, g.rows, g.has_status, g.crc32 from groups g
    join streams s on s.number = g.stream join devices d on d.number = s.device order by g.id"""


@dataclass(slots=True)
class Exported:
    """What was written, and how many groups could not be read where that is known."""

    rows: int = 0
    readings: int = 0
    damaged: int = 0
    dateless: int = 0  # rows with a time that no calendar has, so that no line can say it; no stage takes them
    cut_short: bool = False  # by damage behind which nothing could be read


def export(folder: Path, into: IO[bytes]) -> Exported:
    """Raises `Refused` where there is no spool."""
    done = Exported()
    with closing(database.reader(folder)) as connection:
        for rows in _readable(connection, done):
            dated = (rows.times >= TIME_US_MIN) & (rows.times < TIME_US_MAX)
            done.dateless += int((~dated).sum())
            into.writelines(_lines(rows, dated))
            done.rows += int(dated.sum())
            done.readings += int(dated.sum()) * len(rows.channels)
    return done


def _readable(connection: sqlite3.Connection, done: Exported) -> Iterator[Rows]:
    """From the front up to the damage, then from the back up to it."""
    seen: set[int] = set()
    for query in (GROUPS, f"{GROUPS} desc"):
        done.cut_short = False
        try:
            for group, device_id, channels, body, rows, has_status, crc32 in connection.execute(query):
                if group in seen:
                    return
                seen.add(group)
                try:
                    names = tuple(orjson.loads(channels))
                    yield unpacked(device_id, names, body, rows=rows, has_status=bool(has_status), crc32=crc32)
                except (Damaged, ValueError):
                    done.damaged += 1
        except sqlite3.DatabaseError:
            done.cut_short = True


def _lines(rows: Rows, dated: npt.NDArray[np.bool_]) -> Iterator[bytes]:
    for at, values in zip(rows.times[dated].tolist(), rows.values[dated], strict=True):
        time = datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)
        readings = {name: None if np.isnan(v) else v for name, v in zip(rows.channels, values.tolist(), strict=True)}
        yield orjson.dumps({"device": rows.device_id, "time": time, "values": readings}) + b"\n"
