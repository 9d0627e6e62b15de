"""The spool: what an edge has accepted and the broker has not yet acknowledged. Knows SQLite; knows no network."""

from producers.spool.framing import Cut
from producers.spool.policy import Counts, DiskTrouble, FileMark, FrameKey, Limits, SpoolFull, WhenFull
from producers.spool.rows import Damaged, Rows
from producers.spool.store import Spool

__all__ = [
    "Counts",
    "Cut",
    "Damaged",
    "DiskTrouble",
    "FileMark",
    "FrameKey",
    "Limits",
    "Rows",
    "Spool",
    "SpoolFull",
    "WhenFull",
]
