"""Which frames of a device have been received. Pure: numbers in, numbers out.

An edge sends live data before its backlog, so sequences arrive in runs that interleave; a frame that was sent again
after a crash carries its old sequence. Both are told apart by remembering ranges, not the last number.
"""

from dataclasses import dataclass, field
from itertools import pairwise

RANGES_MAX = 64
"""Ranges remembered per spool. An edge has two runs under way (live, backlog) and a hole for each frame that it
dropped. Beyond the bound the lowest range is forgotten: a frame of it sent once more would then pass again, and the
sink writes it over itself. Forgetting the hole instead would lose what may still come."""

SPOOLS_MAX = 8
"""Spools remembered per device: a new one comes with a new SD card."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Received:
    """Ranges (first, last) of sequences per spool, both ends included, ascending and apart."""

    spools: dict[str, tuple[Range, ...]] = field(default_factory=dict)

    def add(self, spool_id: str, sequence: int) -> "Received | None":
        """With the frame added; None if it is there already."""
        ranges = self.spools.get(spool_id, ())
        at = len(ranges)
        while at and ranges[at - 1][0] > sequence:
            at -= 1
        if at and ranges[at - 1][1] >= sequence:
            return None
        first = last = sequence
        low, high = at, at
        if at and ranges[at - 1][1] == sequence - 1:
            low, first = at - 1, ranges[at - 1][0]
        if at < len(ranges) and ranges[at][0] == sequence + 1:
            high, last = at + 1, ranges[at][1]
        joined = (*ranges[:low], (first, last), *ranges[high:])
        spools = {k: v for k, v in self.spools.items() if k != spool_id}
        spools[spool_id] = joined[-RANGES_MAX:]
        while len(spools) > SPOOLS_MAX:
            del spools[next(iter(spools))]
        return Received(spools)

    def holes(self) -> int:
        """Frames missing between the first and the last received, over all spools."""
        return sum(later[0] - former[1] - 1 for ranges in self.spools.values() for former, later in pairwise(ranges))
