"""A look at a spool from outside, while its writer works. Knows SQLite; changes nothing."""

import sqlite3
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from producers.spool import database, queries
from producers.spool.ledger import GROUP_OVERHEAD_BYTES, Waits, waiting
from producers.spool.policy import Counts
from schemas.errors import Unavailable

LINK = "link.json"
"""What the edge at work says of its link, in the spool's folder."""


@dataclass(frozen=True, slots=True)
class Look:
    """One device of one spool."""

    folder: Path
    spool_id: str
    counts: Counts
    waiting: int  # readings
    file_bytes: int  # of the whole spool on disk
    kept: int = 0  # acknowledged readings that stay
    kept_bytes: int = 0
    link: str | None = None  # as the edge at work last told; None: none is at work, or it has not told
    link_detail: str = ""


def look(folder: Path) -> list[Look]:
    """Raises `Refused` where there is no spool, `Unavailable` where it cannot be read."""
    try:
        connection = database.reader(folder)
        try:
            spool_id = connection.execute(queries.SPOOL_ID).fetchone()[0]
            devices = connection.execute(f"{queries.DEVICES} order by device_id").fetchall()
            streams = {number: device for number, device, _ in connection.execute(queries.STREAMS)}
            waits = waiting(connection, streams)
            kept: dict[int, list[int]] = defaultdict(lambda: [0, 0])
            for device, readings, body_bytes in connection.execute(queries.KEPT) if database.keeps(connection) else ():
                kept[device][0] += readings
                kept[device][1] += body_bytes + GROUP_OVERHEAD_BYTES
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise Unavailable(f"spool {folder} cannot be read: {error}") from None
    size = sum(path.stat().st_size for path in folder.glob(f"{database.NAME}*"))
    found = []
    for number, *counts in devices:
        of = waits.get(number, Waits())
        seen = replace(Counts(*counts), groups=of.groups, bytes=of.bytes, oldest_us=of.oldest_us)
        readings, kept_bytes = kept[number]
        link, detail = _link(folder)
        found.append(Look(folder, spool_id, seen, of.readings, size, readings, kept_bytes, link, detail))
    return found


def _link(folder: Path) -> tuple[str | None, str]:
    try:
        said = orjson.loads((folder / LINK).read_bytes())
        return str(said["link"]), str(said["detail"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, ""


def spools(below: Path) -> list[Path]:
    """Folders with a spool in them, directly below."""
    return sorted(path.parent for path in below.glob(f"*/{database.NAME}"))
