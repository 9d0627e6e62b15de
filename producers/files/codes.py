"""Numbers that loggers write where they have no value, such as -9999 or 7999. Pure: columns in, counts and places out.

A file does not say which of its numbers are such codes, and each may be a real value somewhere: they are made missing
only where a description says so. What looks like one and stays a number is counted, so that somebody is told.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.columnar import Doubles, Longs

NEVER_MEASURED = (-6999.0, -7999.0, -9999.0, -9999.9, -9999.99, -99999.0, -2147483648.0)
"""Told wherever they stand."""

SOMETIMES_MEASURED = (
    *(-99.0, -99.9, -99.99, -888.0, -888.88, -999.0, -999.9, -999.99, -32768.0),
    *(888.88, 999.0, 999.9, 999.99, 6999.0, 7999.0, 9998.0, 9999.0, 9999.9, 9999.99, 99999.0),
    *(32767.0, 65535.0, 2147483647.0, 4294967295.0),
)
"""Told where they stand apart from what else the channel has: a barometer does show 999.9."""

_CODES = np.array(sorted((*NEVER_MEASURED, *SOMETIMES_MEASURED)))
_BELOW, _ABOVE = _CODES[_CODES < 0].max(), _CODES[_CODES > 0].min()
APART_SHARE, APART_SPANS = 0.1, 0.25
"""How far apart: by so much of the code itself, and of the span of the others."""


@dataclass(frozen=True, slots=True)
class Met:
    """A number of one channel that looks like a code and was taken as a number."""

    channel: str
    code: float
    count: int
    first_line: int

    @property
    def text(self) -> str:
        """The number as a description has it."""
        return f"{self.code:.10g}"

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count:,} times"
        return f"{self.channel}: {self.text} {times}, first in line {self.first_line}"


@dataclass(slots=True)
class _Channel:
    """What was met of one: the range of its other values, and of each code how often and where first."""

    low: float = np.inf
    high: float = -np.inf
    codes: dict[float, tuple[int, int]] = field(default_factory=dict)

    def widen(self, low: float, high: float) -> None:
        self.low, self.high = min(self.low, low), max(self.high, high)

    def looks(self, code: float) -> bool:
        if code in NEVER_MEASURED or self.low > self.high:
            return True
        apart = max(self.low - code, code - self.high)
        return apart > max(APART_SHARE * abs(code), APART_SPANS * (self.high - self.low))


@dataclass(slots=True)
class Codes:
    """Of one file, or of one that grows: what is to be missing, and what only looks so."""

    every: Doubles = field(default_factory=lambda: np.empty(0))  # missing in whatever channel
    of: Mapping[str, Doubles] = field(default_factory=dict)  # missing in this channel
    _channels: dict[str, _Channel] = field(default_factory=dict)

    def take(self, channels: Sequence[str], values: Doubles, lines: Longs) -> None:
        """n rows of c channels; what is to be missing becomes NaN in place, the rest is looked at."""
        if not values.size:
            return
        if len(self.every):
            values[np.isin(values, self.every)] = np.nan
        for at, channel in enumerate(channels):
            if channel in self.of:
                values[np.isin(values[:, at], self.of[channel]), at] = np.nan
        lows, highs = np.fmin.reduce(values, axis=0).tolist(), np.fmax.reduce(values, axis=0).tolist()
        for at, (channel, low, high) in enumerate(zip(channels, lows, highs, strict=True)):
            if math.isnan(low):
                continue
            known = self._channels.setdefault(channel, _Channel())
            coded = low <= _BELOW or high >= _ABOVE
            known.widen(*(_look(known, values[:, at], lines, low, high) if coded else (low, high)))

    def add(self, other: "Codes", *, shift: int) -> None:
        """What was met in the next piece of the file, whose lines are `shift` further down."""
        for channel, met in other._channels.items():
            known = self._channels.setdefault(channel, _Channel())
            known.widen(met.low, met.high)
            for code, (count, line) in met.codes.items():
                so_far, first = known.codes.get(code, (0, line + shift))
                known.codes[code] = so_far + count, first

    def met(self, *, but: Iterable[str] = ()) -> list[Met]:
        """By channel, in the order in which they came; channels in `but` are left out."""
        return list(self._met(frozenset(but)))

    def _met(self, but: frozenset[str]) -> Iterator[Met]:
        for channel, known in self._channels.items():
            for code, (count, line) in sorted(known.codes.items()):
                if channel not in but and known.looks(code):
                    yield Met(channel, code, count, line)


def _look(known: _Channel, column: Doubles, lines: Longs, low: float, high: float) -> tuple[float, float]:
    """The range without codes, (inf, -inf) for nothing."""
    places = np.flatnonzero(np.isin(column, _CODES[slice(*np.searchsorted(_CODES, [low, np.nextafter(high, np.inf)]))]))
    if not len(places):
        return low, high
    codes, firsts, counts = np.unique(column[places], return_index=True, return_counts=True)
    for code, first, count in zip(codes.tolist(), firsts.tolist(), counts.tolist(), strict=True):
        so_far, line = known.codes.get(code, (0, int(lines[places[first]])))
        known.codes[code] = so_far + count, min(line, int(lines[places[first]]))
    rest = np.delete(column, places)
    rest = rest[~np.isnan(rest)]
    return (float(rest.min()), float(rest.max())) if len(rest) else (np.inf, -np.inf)


def told_of(met: Iterable[str]) -> str:
    """What is said of a file that has been read, with what to do."""
    return (
        f"may mean missing, taken as numbers: {', '.join(met)}; if so, list them under missing in a --description and "
        "send the file --again (producers/README.md)"
    )


def how_to(met: Sequence[Met], format_: str | None) -> str:
    """What to write into a description, so that they become missing."""
    words = ", ".join(f'"{text}"' for text in dict.fromkeys(each.text for each in met))
    every = "in its [[arrays]]" if format_ == "mixed-array" else "for every channel"
    one = "" if format_ == "mixed-array" else f', or for one: below [[columns]] name = "{met[0].channel}"'
    return f"where it does: --description FILE with missing = [{words}] {every}{one} (producers/README.md)"
