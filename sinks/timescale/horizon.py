"""Rows that are older than what the database keeps: refused visibly, never stored and then dropped. The rest of their
record is stored."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg

from schemas.frames import CleanFrame, WindowFrame
from schemas.rejection import Rejection
from sinks.timescale.batch import Body, Entry, Refusal

HORIZON = """
SELECT (extract(epoch FROM horizon) * 1000000)::int8, horizon::text FROM retention
WHERE series = %s AND horizon IS NOT NULL"""

RECENT_US = 30 * 86_400 * 1_000_000
"""Retention keeps at least 31 days, so that for newer rows, which is to say nearly always, nobody has to be asked."""


class Outdated(Exception):  # noqa: N818
    """Entries that hold rows older than retention."""

    def __init__(self, found: Sequence[tuple[Entry, Refusal, int, Body | None]]) -> None:
        super().__init__(found[0][1].detail)
        self.found = found

    def refuse(self) -> None:
        """Makes refusals of those rows; what is left of an entry waits behind the refusal."""
        for entry, refusal, rows, remainder in self.found:
            entry.body, entry.rows, entry.told, entry.remainder = refusal, rows, False, remainder


def check(connection: psycopg.Connection[Any], series: str, entries: Sequence[Entry], *, oldest_us: int) -> None:
    """Raises `Outdated` for entries (frames of one kind) with rows before the horizon of their series.

    `oldest_us` is the time of the oldest row of all.
    """
    if oldest_us >= time.time_ns() // 1000 - RECENT_US:
        return
    row = connection.execute(HORIZON, (series,)).fetchone()
    if row is None or oldest_us >= row[0]:
        return
    horizon_us, said = row
    found = []
    for entry in entries:
        is_kept = _times(entry) >= horizon_us
        if is_kept.all():
            continue
        kept = _kept(entry.body, is_kept) if is_kept.any() else None
        rows = entry.rows - (Entry.rows_of(kept) if kept else 0)
        detail = f"{rows} rows are older than {said}, before which {series} are not kept"
        found.append((entry, Refusal(Rejection.OLDER_THAN_RETENTION, detail), rows, kept))
    raise Outdated(found)


def _times(entry: Entry) -> Any:
    if isinstance(entry.body, WindowFrame):
        return entry.body.starts
    assert isinstance(entry.body, CleanFrame)  # noqa: S101 - a series is made of frames
    return entry.body.times


def _kept(body: Body, is_kept: "np.ndarray[Any, np.dtype[np.bool_]]") -> Body:
    if isinstance(body, CleanFrame):
        grids = {name: getattr(body, name)[is_kept] for name in ("times", "logged", "values", "quality", "tests")}
        return replace(body, **grids)
    assert isinstance(body, WindowFrame)  # noqa: S101 - as above
    columns = {name: value[is_kept] for name in body.__slots__ if isinstance(value := getattr(body, name), np.ndarray)}
    channels = tuple(channel for channel, keep in zip(body.channels, is_kept.tolist(), strict=True) if keep)
    return replace(body, channels=channels, **columns)
