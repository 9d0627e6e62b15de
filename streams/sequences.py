"""Which frames of a device have been received. Pure: numbers in, numbers out.

An edge sends live data before its backlog, so sequences arrive in runs that interleave; a frame that was sent again
after a crash carries its old sequence. Both are told apart by remembering ranges, not the last number.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

RANGES_MAX = 64
"""Ranges remembered per spool. An edge has two runs under way (live, backlog) and a hole for each frame that it
dropped. Beyond the bound the lowest range is forgotten: a frame of it sent once more would then pass again, and the
sink writes it over itself. Forgetting the hole instead would lose what may still come."""

SPOOLS_MAX = 8
"""Spools remembered per device: a new one comes with a new SD card, or with another machine that sends its files.
Beyond the bound the one unused for longest is forgotten."""

HOLES_MAX = (1 << 63) - 1
"""Missing frames that are counted: as many as a device's state can say. Sequences are 64 bits wide, and whatever a
device sends in them, its state must be readable again."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Received:
    """Ranges (first, last) of sequences per spool, both ends included, ascending and apart."""

    spools: dict[str, tuple[Range, ...]] = field(default_factory=dict)

    def add(self, frames: Iterable[tuple[str, int]]) -> "tuple[Received, list[bool]]":
        """With frames (spool, sequence) added, and for each of them whether it is new."""
        spools = {spool: list(ranges) for spool, ranges in self.spools.items()}
        fresh = []
        for spool, sequence in frames:
            ranges = spools.pop(spool, None)
            if ranges is None:
                ranges = []
                while len(spools) >= SPOOLS_MAX:
                    del spools[next(iter(spools))]
            spools[spool] = ranges  # last: the one unused for longest is forgotten first
            fresh.append(_add(ranges, sequence))
        return Received({spool: tuple(ranges) for spool, ranges in spools.items()}), fresh

    def follow(self, spool: str, first: int, last: int) -> "Received | None":
        """With the frames `first` to `last` of a spool added, if they are its first or come right behind its last.

        None: they do not.
        """
        ranges = self.spools.get(spool)
        if ranges is None and len(self.spools) < SPOOLS_MAX:
            return Received({**self.spools, spool: ((first, last),)})
        if ranges is None or ranges[-1][1] != first - 1:
            return None
        ranges = (*ranges[:-1], (ranges[-1][0], last))
        if len(self.spools) == 1:
            return Received({spool: ranges})
        spools = {name: others for name, others in self.spools.items() if name != spool}
        spools[spool] = ranges
        return Received(spools)

    def may_hold(self, spool: str, sequence: int) -> bool:
        """Whether a frame has been added, as far as is remembered: of ranges beyond `RANGES_MAX` nothing is."""
        ranges = self.spools.get(spool, ())
        is_forgotten = len(ranges) >= RANGES_MAX and sequence < ranges[0][0]
        return is_forgotten or any(first <= sequence <= last for first, last in ranges)

    def holes(self) -> int:
        """Frames missing between the first and the last received, over all spools."""
        missing = sum(later[0] - former[1] - 1 for ranges in self.spools.values() for former, later in pairwise(ranges))
        return min(missing, HOLES_MAX)


def _add(ranges: list[Range], sequence: int) -> bool:
    """Add a sequence in place; False if it is there already."""
    at = len(ranges)
    while at and ranges[at - 1][0] > sequence:
        at -= 1
    if at and ranges[at - 1][1] >= sequence:
        return False
    first = last = sequence
    low, high = at, at
    if at and ranges[at - 1][1] == sequence - 1:
        low, first = at - 1, ranges[at - 1][0]
    if at < len(ranges) and ranges[at][0] == sequence + 1:
        high, last = at + 1, ranges[at][1]
    ranges[low:high] = [(first, last)]
    del ranges[:-RANGES_MAX]
    return True
