"""What quality flags and test bits mean, everywhere. Knows numbers; knows no test.

Flags are those of QARTOD (the manuals of US IOOS). Where several tests flag one reading, the worst counts:
4 over 3 over 1 over 2; a missing reading is 9.
"""

from enum import IntEnum, IntFlag


class Flag(IntEnum):
    """QARTOD's primary flags."""

    GOOD = 1
    NOT_EVALUATED = 2
    SUSPECT = 3
    FAIL = 4
    MISSING = 9


class Test(IntFlag):
    """Which tests gave a reading its flag, and what else is known of it. A bit keeps its meaning for ever."""

    GROSS_RANGE = 1 << 0
    NOT_CALIBRATED = 1 << 16  # no test: the value is the logged one because a number for calibration is missing
