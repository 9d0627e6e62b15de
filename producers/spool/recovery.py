"""What can be read of a damaged spool goes into the new one. Knows SQLite; knows no network.

A frame of which every group can be read keeps its old identity, since the broker may have it already; groups of other
frames are accepted anew. What the old counters say was waiting and is not found counts as dropped.
"""

import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from producers.spool import database

GROUPS = "select id, stream, accepted_us, rows, readings, has_status, file, crc32, body from groups"
PUT_GROUP = """insert into groups (id, stream, accepted_us, rows, readings, has_status, file, crc32, body)
    values (?, ?, ?, ?, ?, ?, null, ?, ?)"""
PUT_DEVICE = """insert into devices (number, device_id, accepted, sent, dropped, refused, acknowledged_us)
    values (?, ?, ?, ?, ?, ?, ?)"""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a damaged spool. Readings; `lost` is None where its counters could not be read either."""

    aside: Path
    readings: int
    lost: int | None

    def __str__(self) -> str:
        lost = "an unknown number of" if self.lost is None else str(self.lost)
        return f"spool was damaged: {self.readings} readings recovered, {lost} lost, set aside in {self.aside}"


def recover(aside: Path, into: sqlite3.Connection) -> Recovered:
    """Copy what can be read from the database in `aside`. Within the caller's transaction."""
    old = sqlite3.connect(aside / database.NAME, isolation_level=None)
    try:
        return _Recovery(old, into).run(aside)
    finally:
        old.close()


class _Recovery:
    def __init__(self, old: sqlite3.Connection, into: sqlite3.Connection) -> None:
        self._old = old
        self._into = into

    def run(self, aside: Path) -> Recovered:
        counted = "select number, device_id, accepted, sent, dropped, refused, acknowledged_us from devices"
        devices = list({row[1]: row for row in self._rows(counted, "itiiiim")}.values())
        known = {row[0] for row in devices}
        channels = self._rows("select number, device, channels from streams", "iit")
        streams = {row[0]: row for row in channels if row[1] in known and _are_names(row[2])}
        spools = {row[0]: row[1:] for row in self._rows("select number, spool_id, created_us from spools", "iti")}
        frames = defaultdict(list)
        for group, *identity in self._rows("select group_id, spool, device, sequence from framed", "iiii"):
            frames[tuple(identity)].append(group)
        self._into.executemany(PUT_DEVICE, devices)
        self._into.executemany("insert or ignore into streams values (?, ?, ?)", streams.values())
        streams = {row[0]: row for row in self._into.execute("select number, device, channels from streams")}
        places = self._rows("select source, place from places", "tt")
        self._into.executemany("insert or ignore into places (source, place) values (?, ?)", places)
        found: dict[int, int] = {}
        by_device: dict[int, int] = defaultdict(int)
        for row in self._groups():
            group, stream, accepted_us, rows, readings, has_status, _, crc32, body = row
            if group in found or stream not in streams or zlib.crc32(body) != crc32:
                continue
            self._into.execute(PUT_GROUP, (group, stream, accepted_us, rows, readings, has_status, crc32, body))
            found[group] = readings
            by_device[streams[stream][1]] += readings
        self._identities(frames, spools, found)
        lost = 0
        for number, _, accepted, sent, dropped, *_ in devices:
            missing = max(0, accepted - sent - dropped - by_device[number])
            lost += missing
            self._into.execute("update devices set dropped = dropped + ? where number = ?", (missing, number))
        return Recovered(aside, readings=sum(found.values()), lost=lost if devices else None)

    def _identities(self, frames: dict[Any, list[int]], spools: dict[int, Any], found: dict[int, int]) -> None:
        """Old identities, under the old spool's id, for frames that are whole."""
        numbers: dict[int, int] = {}
        for (spool, device, sequence), groups in frames.items():
            if spool not in spools or not all(group in found for group in groups):
                continue
            if spool not in numbers:
                row = self._into.execute(
                    "insert into spools (spool_id, created_us) values (?, ?) returning number", spools[spool]
                )
                numbers[spool] = row.fetchone()[0]
            self._into.executemany(
                "insert or ignore into framed (group_id, spool, device, sequence) values (?, ?, ?, ?)",
                [(group, numbers[spool], device, sequence) for group in groups],
            )

    def _groups(self) -> Iterator[Any]:
        """From the front up to the damage, then from the back up to it."""
        yield from self._rows(f"{GROUPS} order by id", "iiiiiimib")
        yield from self._rows(f"{GROUPS} order by id desc", "iiiiiimib")

    def _rows(self, query: str, kinds: str) -> Iterator[Any]:
        """As many as can be read, and are what was written: `kinds` has a letter for each column."""
        try:
            for row in self._old.execute(query):
                if all(isinstance(value, KINDS[kind]) for value, kind in zip(row, kinds, strict=True)):
                    yield row
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # what SQLite says of a damaged schema may be no text
            return


KINDS: dict[str, Any] = {"i": int, "t": str, "b": bytes, "m": int | None}
"""A damaged record's columns may be of any kind."""


def _are_names(channels: str) -> bool:
    """Whether a stream's channels can be read."""
    try:
        names = orjson.loads(channels)
    except ValueError:
        return False
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
