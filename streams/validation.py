"""Which rows and columns of a frame can be taken at all. Pure: frames in, frames and refusals out.

A frame is cut, not dropped: what can be taken goes on, and the rest becomes a frame of the same identity with the
reason why. Times are judged against when the broker took the frame, so that a replay judges as the first run did.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.frames import RawFrame
from schemas.rejection import Rejection
from streams.plan import Plan


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame as it lay in the log."""

    frame: RawFrame
    offset: int
    appended_us: int  # when the broker took it, µs UTC


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows and columns that cannot be taken."""

    arrival: Arrival  # with only those rows and columns
    reason: Rejection
    detail: str


def validate(arrival: Arrival, plan: Plan) -> tuple[RawFrame | None, list[Refused]]:
    """What of the frame goes on (None: nothing), and what does not."""
    frame = arrival.frame
    refused: list[Refused] = []

    def refuse(part: RawFrame, reason: Rejection, detail: str) -> None:
        refused.append(Refused(replace(arrival, frame=part), reason, detail))

    if len(set(frame.channels)) < len(frame.channels):
        twice = sorted({name for name in frame.channels if frame.channels.count(name) > 1})
        refuse(frame, Rejection.REPEATED_CHANNEL, f"channels stand twice: {', '.join(twice)}")
        return None, refused
    unknown = [name for name in frame.channels if name not in plan.columns]
    if unknown:
        known = [name for name in frame.channels if name in plan.columns]
        detail = f"not configured for {frame.device_id}: {', '.join(unknown)}"
        refuse(_columns(frame, unknown), Rejection.UNKNOWN_CHANNEL, detail)
        if not known:
            return None, refused
        frame = _columns(frame, known)
    if not len(frame.times):
        return None, refused
    low, high = int(frame.times.min()), int(frame.times.max())
    latest = arrival.appended_us + plan.future_limit_us
    if high > latest:
        ahead = frame.times > latest
        detail = f"up to {(high - arrival.appended_us) / 1e6:.0f} s ahead, {plan.device.future_limit_s:.0f} s allowed"
        refuse(_rows(frame, ahead), Rejection.TIME_IN_FUTURE, detail)
        frame = _rows(frame, ~ahead)
    if low < plan.exists_from_us:
        before = frame.times < plan.exists_from_us
        if before.any():
            detail = f"{frame.device_id} exists from {plan.device.exists_from}"
            refuse(_rows(frame, before), Rejection.TIME_BEFORE_DEVICE, detail)
            frame = _rows(frame, ~before)
    if (frame.times[1:] <= frame.times[:-1]).any():
        repeated = _repeated(frame.times)
        if repeated.any():
            refuse(_rows(frame, repeated), Rejection.REPEATED_TIME, "a later row of the frame has the same time")
            frame = _rows(frame, ~repeated)
    return (frame if len(frame.times) else None), refused


def _repeated(times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which rows have a later row of the same time."""
    order = np.argsort(times, kind="stable")
    again = np.zeros(len(times), bool)
    again[order[:-1]] = times[order[1:]] == times[order[:-1]]
    return again


def _columns(frame: RawFrame, names: list[str]) -> RawFrame:
    at = [frame.channels.index(name) for name in names]
    return replace(frame, channels=tuple(names), values=frame.values[:, at])


def _rows(frame: RawFrame, which: npt.NDArray[np.bool_]) -> RawFrame:
    status = None if frame.status is None else frame.status[which]
    return replace(frame, times=frame.times[which], values=frame.values[which], status=status)
