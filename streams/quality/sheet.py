"""Where the tests write what they found. Pure; the worst flag wins, and missing readings have no other."""

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.quality import Flag, Test
from streams.quality.context import Bytes
from streams.quality.found import Bools, Found, Index


class Sheet:
    """Flags and test bits of the readings (n, c) of a frame, in the making."""

    def __init__(self, values: Doubles, missing: Bools | None, base: Bytes, known: Longs | None) -> None:
        self.missing = missing
        self.flags = np.empty_like(values, np.uint8)
        self.flags[:] = base
        self.tests = np.zeros(values.shape, np.int64, "F" if values.flags.f_contiguous else "C")
        if known is not None:
            self.tests[:] = known

    def mark(
        self,
        test: Test,
        found: Found,
        columns: Index | None = None,
        *,
        rows: Index | None = None,
        doubtful: bool = False,
    ) -> None:
        """What a test found, in some of the columns and rows (None: all).

        `doubtful`: a channel may have no other test, so that being evaluated makes the difference.
        """
        if doubtful:
            self.evaluated(None if found.seen is None else ~np.isnan(found.seen), columns, rows)
        for flag, mask in ((Flag.SUSPECT, found.suspect), (Flag.FAIL, found.fail)):
            if mask is not None:
                row, column = np.nonzero(mask)
                if len(row):
                    row = row if rows is None else rows[row]
                    self.flag(row, column if columns is None else columns[column], flag, np.int64(test))

    def flag(self, row: Index, column: Index, flag: Flag, bits: Longs | np.int64) -> None:
        """Single readings; those that are missing stay so."""
        if self.missing is not None:
            there = ~self.missing[row, column]
            row, column = row[there], column[there]
            bits = bits if isinstance(bits, np.int64) else bits[there]
        self.flags[row, column] = np.maximum(self.flags[row, column], np.uint8(flag))
        if isinstance(bits, np.int64):
            self.tests[row, column] |= bits
        else:  # a reading may stand here once for each of its tracks
            np.bitwise_or.at(self.tests, (row, column), bits)

    def evaluated(self, where: Bools | None, columns: Index | None, rows: Index | None) -> None:
        """These readings are good unless a test says something else."""
        across = slice(None) if columns is None else columns
        at = (slice(None) if rows is None else rows[:, None], across)
        flags = self.flags[at]
        unsaid = flags == Flag.NOT_EVALUATED
        flags[unsaid if where is None else unsaid & where] = Flag.GOOD
        self.flags[at] = flags

    def finish(self) -> None:
        """Missing is missing, whatever was evaluated."""
        if self.missing is not None:
            self.flags[self.missing] = Flag.MISSING
