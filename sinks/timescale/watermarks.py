"""The newest time stored of each sensor: what is newer cannot be in the table and may go by COPY. Pure.

A watermark is a guess that costs time when it is wrong, never a row: too low sends rows to the upsert, too high (or
another writer's rows) makes COPY meet an existing key, and the batch goes by the upsert.
"""

import numpy as np
import numpy.typing as npt

from schemas.columnar import Longs

NEVER = np.iinfo(np.int64).min


class Watermarks:
    """Newest time by line. A line is a non-negative int64 (such as a sensor id), dense or sparse."""

    def __init__(self) -> None:
        self._lines = np.empty(0, np.int64)  # sorted
        self._times = np.empty(0, np.int64)

    def unknown(self, lines: Longs) -> Longs:
        """Those lines, once each, of which nothing is known yet."""
        each = np.unique(lines)
        return each[~np.isin(each, self._lines, assume_unique=True)]

    def learn(self, lines: Longs, times: Longs) -> None:
        """Say how new the table is for lines that were unknown; `NEVER` where it has no row."""
        order = np.argsort(np.concatenate([self._lines, lines]), kind="stable")
        self._lines, self._times = (
            np.concatenate([self._lines, lines])[order],
            np.concatenate([self._times, times])[order],
        )

    def newer(self, lines: Longs, times: Longs) -> npt.NDArray[np.bool_]:
        """Which rows are newer than their line's watermark. All lines are known."""
        return times > self._times[np.searchsorted(self._lines, lines)]

    def reach(self, lines: Longs, times: Longs) -> None:
        """Rows are on their way to the table."""
        np.maximum.at(self._times, np.searchsorted(self._lines, lines), times)
