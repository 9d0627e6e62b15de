"""Frames that are still to come from below those received, and the windows that wait for them. Pure.

After an outage an edge sends new data before its backlog. The new data moves the device's watermark past the whole
outage, but the backlog is not late for it: while a hole in the sequence numbers stands, the windows in which its rows
may lie wait. A hole has two ends in time, because an edge numbers frames as it takes them: what fills it is not older
than the frame below it and not newer than the frame above it (by more than the device's lateness). Filled from below,
it shrinks from below: it is a second watermark, that of the backlog.

A frame that never comes would hold windows for ever. So a hole is given up when the device's newest reading is
`WAIT_US` past the one that was newest when the hole last shrank.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.columnar import Longs
from streams.sequences import Received

NEVER = int(np.iinfo(np.int64).min)

WAIT_US = 3_600_000_000
"""An hour of the device's time without a single frame of its backlog. An edge with a backlog sends of it by the second;
windows beside a frame that is lost for good are that much later."""

HOLES_MAX = 64
"""As many as ranges of sequence numbers are remembered; beyond it the one untouched for longest is given up."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Frames `first` to `last` of a spool have not come. Times in µs UTC."""

    spool_id: str
    first: int
    last: int
    low_us: int  # windows that end at or before this do not wait for it
    high_us: int  # nor do windows that start after this
    touched_us: int  # the device's watermark when it came to be, or last shrank


Holes = tuple[Hole, ...]


def in_line(received: Received, frames: Iterable[tuple[str, int]], *, from_start: bool) -> bool:
    """Whether frames (spool, sequence) come one behind the other, so that no hole begins or shrinks.

    `from_start`: a spool that has not been seen is expected to begin with its first frame.
    """
    last = {spool: ranges[-1][1] for spool, ranges in received.spools.items()}
    for spool, sequence in frames:
        if sequence != last.get(spool, -1 if from_start else sequence - 1) + 1:
            return False
        last[spool] = sequence
    return True


def after_frame(
    holes: Holes,
    received: Received,
    frame: tuple[str, int],
    *,
    span_us: tuple[int, int] | None,
    watermark_us: tuple[int, int],
    lateness_us: int,
    from_start: bool,
) -> Holes:
    """The holes after a frame.

    Args:
        holes: before it.
        received: before it.
        frame: its spool and sequence.
        span_us: times of its first and last row; None: none could be taken.
        watermark_us: the device's watermark before it and after it.
        lateness_us: how far the rows may be out of order.
        from_start: whether a spool's frames before the first that came are expected.
    """
    spool, sequence = frame
    before_us, after_us = watermark_us
    ranges = received.spools.get(spool)
    newest = ranges[-1][1] if ranges else (-1 if from_start else sequence - 1)
    if sequence > newest + 1:
        if span_us is not None:
            low = before_us if before_us == NEVER else before_us - lateness_us
            holes += (Hole(spool, newest + 1, sequence - 1, low, span_us[0] + lateness_us, after_us),)
    else:
        parts: list[Hole] = []
        for hole in holes:
            if hole.spool_id != spool or not hole.first <= sequence <= hole.last:
                parts.append(hole)
                continue
            below = replace(hole, last=sequence - 1, touched_us=after_us)
            above = replace(hole, first=sequence + 1, touched_us=after_us)
            if span_us is not None:
                below = replace(below, high_us=min(hole.high_us, span_us[0] + lateness_us))
                above = replace(above, low_us=max(hole.low_us, span_us[1] - lateness_us))
            parts += (below, above)
        holes = tuple(parts)
    waited = [h for h in holes if h.first <= h.last and h.low_us < h.high_us and after_us - h.touched_us <= WAIT_US]
    if len(waited) > HOLES_MAX:
        waited.remove(min(waited, key=lambda hole: hole.touched_us))
    return tuple(waited)


def passed(
    starts: Longs, length_us: int, *, watermark_us: int | Longs, lag_us: int, more_us: int, holes: Holes
) -> npt.NDArray[np.bool_]:
    """Which windows [start, start + length) lie behind the watermark by `lag_us` and wait for no hole.

    `more_us` is how much of the lag comes on top of the lateness that the holes' ends have in them already.
    """
    ends = starts + length_us
    behind: npt.NDArray[np.bool_] = ends + lag_us <= watermark_us
    for hole in holes:
        behind &= (ends <= max(hole.low_us - more_us, NEVER)) | (starts > hole.high_us)
    return behind
