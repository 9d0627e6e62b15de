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
    SPIKE = 1 << 1
    RATE_OF_CHANGE = 1 << 2
    FLAT_LINE = 1 << 3
    GAP = 1 << 4  # of the time before the reading
    ICING = 1 << 5
    SD_ZERO = 1 << 6
    CONTRADICTION = 1 << 7  # between minimum, average, maximum and deviation
    STALLED_AT_OFFSET = 1 << 8
    DEAD_BAND = 1 << 9
    SENSOR_PAIR = 1 << 10
    BATTERY_LOW = 1 << 11
    NOT_CALIBRATED = 1 << 16  # no test: the value is the logged one because a number for calibration is missing
