"""Readings whose flags change no more, which is what windows and alarms are made of. Pure.

A channel with a spike limit gives each row when the next one has come; so does one with a gap limit its first row of
all. Every other reading is settled at once.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs
from streams.quality.context import FLAG, WAITS, Bytes, Context
from streams.quality.found import Bools
from streams.quality.look_back import Part, Seen

G = TypeVar("G", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Settled:
    """Rows of a frame's channels, m rows of c channels; those carried over from earlier frames come first."""

    times: Longs  # (m,) µs UTC
    values: Doubles  # (m, c) calibrated
    flags: Bytes  # (m, c)
    carried: int = 0
    # (m, c) which are among these, and newer than those before them in their channel; None: all are settled. The flag
    # of a reading that is not among these is 0.
    fresh: Bools | None = None


def settled(context: Context, frame: Settled, parts: list[Part], seen: list[Seen]) -> Settled:
    """Without the readings of a frame that wait for their successors, with those that had waited for the frame.

    Args:
        context: as it was before the frame.
        frame: all its readings.
        parts: of the frame.
        seen: what looking back at each part brought.
    """
    flags, fresh = frame.flags.copy(), np.zeros_like(frame.flags, bool)
    carried = []
    for part, each in zip(parts, seen, strict=True):
        sequence = part.sequence
        if part.rows is None and sequence.columns.whole:
            fresh[:] = True
        else:
            fresh[np.ix_(np.arange(len(fresh)) if part.rows is None else part.rows, sequence.columns.at)] = True
        waits = sequence.waits_first if each.first else sequence.waits
        if waits is not None:
            flags[each.row, sequence.columns.at[waits != 0]] = 0
            fresh[each.row, sequence.columns.at[waits != 0]] = False
        held = np.flatnonzero(sequence.places.among(context.flags) & WAITS)
        if len(held):
            carried.append((part.last_us, sequence.columns.at[held], sequence.places.at[held], each.last_flags[held]))
    carried.sort(key=lambda row: row[0])
    values = np.full((len(carried), flags.shape[1]), np.nan)
    before = np.zeros(values.shape, np.uint8)
    for at, (_, columns, places, last_flags) in enumerate(carried):
        values[at, columns] = context.values[places]
        before[at, columns] = last_flags
    return Settled(
        np.concatenate((np.array([row[0] for row in carried], np.int64), frame.times)),
        _joined(values, frame.values),
        _joined(before, flags),
        len(carried),
        _joined(before != 0, fresh),
    )


def _joined(first: npt.NDArray[G], rows: npt.NDArray[G]) -> npt.NDArray[G]:
    """Behind one another, channel by channel in memory."""
    both = np.empty((len(first) + len(rows), rows.shape[1]), rows.dtype, "F")
    both[: len(first)], both[len(first) :] = first, rows
    return both


@dataclass(frozen=True, slots=True)
class Held:
    """Readings that wait, k of as many channels."""

    channels: tuple[str, ...]
    times: Longs  # (k,)
    values: Doubles  # (k,)
    flags: Bytes  # (k,) as they were sent

    def pick(self, which: Bools) -> "Held":
        """Some of them."""
        names = tuple(name for name, is_one in zip(self.channels, which.tolist(), strict=True) if is_one)
        return Held(names, self.times[which], self.values[which], self.flags[which])


def held(context: Context) -> Held:
    """The readings that wait."""
    at = np.flatnonzero(context.flags & WAITS)
    names = tuple(context.layout.channels[place] for place in at.tolist())
    return Held(names, context.times[at], context.values[at], context.flags[at] & np.uint8(FLAG))
