"""What the spool may hold, and what it says of itself. Frozen data."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from schemas.errors import Refused, Unavailable


class WhenFull(StrEnum):
    """What happens to new readings when the spool holds all that it may."""

    REFUSE = "refuse"
    DROP_OLDEST = "drop-oldest"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a spool, and of what stays in it after acknowledgement.

    Bytes are those of the groups, with their overhead; age is that of the oldest group.
    """

    bytes_max: int = 1 << 30
    age_s_max: float | None = None
    when_full: WhenFull = WhenFull.REFUSE
    keep_s: float | None = None  # how long acknowledged frames stay, and
    keep_bytes: int | None = None  # how much of them; both None: not at all

    @property
    def keeps(self) -> bool:
        return self.keep_s is not None or self.keep_bytes is not None

    @property
    def kept_bytes_max(self) -> int:
        """Kept for a time only: as much again as may wait."""
        return self.bytes_max if self.keep_bytes is None else self.keep_bytes


class SpoolFull(Refused):
    """The spool holds all that it may, and its policy is to refuse. Nothing of the call was accepted."""


class DiskTrouble(Unavailable):
    """The disk is full or sick. Nothing of the call was accepted; what was accepted before is safe."""


class FrameKey(NamedTuple):
    """Identifies a frame for ever."""

    device_id: str
    spool_id: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Counts:
    """What one device has gone through since the spool was made, in readings; `groups` and `bytes` wait now."""

    device_id: str
    next_sequence: int = 0
    accepted: int = 0
    sent: int = 0
    dropped: int = 0
    refused: int = 0
    acknowledged_us: int | None = None
    groups: int = 0
    bytes: int = 0
    oldest_us: int | None = None


@dataclass(frozen=True, slots=True)
class FileMark:
    """How far a file has come. `options` says how it was read: rows count only while it is read in the same way."""

    sha256: str
    device_id: str
    name: str
    format: str
    options: str
    rows_accepted: int = 0
    readings_accepted: int = 0
    rows_acknowledged: int = 0
    readings_acknowledged: int = 0
    complete: bool = False
    last_sequence: int | None = None
