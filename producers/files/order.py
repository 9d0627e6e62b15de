"""Whether a file's rows come in order, counted in bounded memory. Pure: arrays of stamps in, counts out."""

from dataclasses import dataclass, field

import numpy as np

from schemas.columnar import Longs

STAMPS_KEPT = 4_000_000
"""Of a file, to tell repeated ones: 32 MB, some 75 years of ten-minute rows or 46 days of seconds."""


@dataclass(slots=True)
class Order:
    """Feed it each chunk's stamps in file order."""

    repeated: int = 0  # rows whose stamp was there before
    out_of_order: int = 0  # rows earlier than the row before them
    first: int | None = None  # earliest
    last: int | None = None  # latest
    kept_max: int = STAMPS_KEPT
    _before: int | None = None
    _kept: list[Longs] = field(default_factory=list)
    _kept_count: int = 0

    def take(self, stamps: Longs) -> None:
        if not len(stamps):
            return
        steps = np.diff(stamps)
        late = self._before is not None and int(stamps[0]) < self._before
        self.out_of_order += int((steps < 0).sum()) + late
        low, high = int(stamps.min()), int(stamps.max())
        if (self.last is not None and low <= self.last) or (steps <= 0).any():
            self.repeated += self._count_repeated(stamps, low, high)
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)
        self._before = int(stamps[-1])
        self._keep(stamps)

    def _count_repeated(self, stamps: Longs, low: int, high: int) -> int:
        unique = np.unique(stamps)
        again = len(stamps) - len(unique)
        near = [kept[kept.searchsorted(low) : kept.searchsorted(high, "right")] for kept in self._kept]
        known = np.concatenate(near) if near else unique[:0]
        return again + (int(np.isin(unique, known).sum()) if len(known) else 0)

    def _keep(self, stamps: Longs) -> None:
        """Sorted runs, each at most half as long as the one before it, so that they stay few."""
        run = np.unique(stamps)
        self._kept_count += len(run)
        while self._kept and 2 * len(run) > len(self._kept[-1]) and len(run) < self.kept_max // 8:
            run = np.concatenate([self._kept.pop(), run])
            run.sort()
        self._kept.append(run)
        while self._kept_count > self.kept_max and len(self._kept) > 1:
            self._kept_count -= len(self._kept.pop(0))
