"""Which rows and columns of a frame can be taken at all. Pure: frames in, frames and refusals out.

A frame is cut, not dropped: what can be taken goes on, and the rest becomes a frame of the same identity with the
reason why. Times are judged against when the broker took the frame, so that a replay judges as the first run did.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs
from schemas.frames import RawFrame
from schemas.rejection import Rejection
from streams.plan import Plan

Bools = npt.NDArray[np.bool_]

NAMES_SHOWN_MAX, NAME_SHOWN_MAX = 8, 64  # channels in a refusal's text, and characters of each


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame as it lay in the log."""

    frame: RawFrame
    offset: int
    appended_us: int  # when the broker took it, µs UTC


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """m frames of one device, spool and channel list, as they lay in the log: N rows in all, of c channels."""

    device_id: str
    spool_id: str
    sequences: Longs  # (m,)
    offsets: Longs  # (m,) ascending
    appended_us: Longs  # (m,)
    rows: Longs  # (m,) of each frame; none is 0
    channels: tuple[str, ...]
    times: Longs  # (N,)
    values: Doubles  # (N, c)

    def __len__(self) -> int:
        return len(self.offsets)

    def arrivals(self) -> list[Arrival]:
        """The same, frame by frame."""
        cuts = np.cumsum(self.rows)[:-1]
        return [
            Arrival(RawFrame(self.device_id, self.spool_id, sequence, times, self.channels, values), offset, appended)
            for sequence, times, values, offset, appended in zip(
                self.sequences.tolist(),
                np.split(self.times, cuts),
                np.split(self.values, cuts),
                self.offsets.tolist(),
                self.appended_us.tolist(),
                strict=True,
            )
        ]


class Facts(NamedTuple):
    """What can be said of a batch at a glance."""

    sequences: tuple[int, int]  # of the first and the last frame
    offsets: tuple[int, int]
    appended_us: tuple[int, int]  # the lowest and the highest
    times_us: tuple[int, int]  # of the first and the last row
    ahead_us: int  # how far the last row of a frame lies ahead of the broker's time at most
    readings: int
    in_line: bool  # frame after frame, none left out
    in_order: bool  # each row newer than the one before it
    clock_ahead: bool  # the broker's clock never stepped back


def _facts(batch: Batch) -> Facts:
    """Of one batch."""
    sequences, offsets, appended, times = batch.sequences, batch.offsets, batch.appended_us, batch.times
    rows = batch.rows
    ahead = times[np.cumsum(rows) - 1] - appended if len(rows) > 1 else times[-1:] - appended
    return Facts(
        (int(sequences[0]), int(sequences[-1])),
        (int(offsets[0]), int(offsets[-1])),
        (int(appended.min()), int(appended.max())),
        (int(times[0]), int(times[-1])),
        int(ahead.max()),
        len(times) * len(batch.channels),
        bool((sequences[1:] - sequences[:-1] == 1).all()),
        bool((times[1:] > times[:-1]).all()),
        bool((appended[1:] >= appended[:-1]).all()),
    )


def facts_of(batches: Sequence[Batch]) -> list[Facts]:
    """Of each batch, all at once."""
    if len(batches) == 1:
        return [_facts(batches[0])]

    def edges(name: str) -> tuple[Longs, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        parts = [getattr(batch, name) for batch in batches]
        ends = np.cumsum([len(part) for part in parts])
        begins = np.concatenate(([0], ends[:-1]))
        return (np.concatenate(parts) if len(parts) > 1 else parts[0]), begins, ends - 1

    def of_all(between: Bools, begins: npt.NDArray[np.intp]) -> list[bool]:
        true = np.ones(len(between) + 1, bool)
        true[1:] = between
        true[begins] = True
        all_true: list[bool] = np.logical_and.reduceat(true, begins).tolist()
        return all_true

    sequences, begins, lasts = edges("sequences")
    offsets, appended = edges("offsets")[0], edges("appended_us")[0]
    times, first_rows, last_rows = edges("times")
    ahead = times[np.cumsum(edges("rows")[0]) - 1] - appended
    return [
        Facts((a, b), (c, d), (e, f), (g, h), k, (j + 1 - i) * len(batch.channels), *true)
        for batch, a, b, c, d, e, f, g, h, k, i, j, *true in zip(
            batches,
            sequences[begins].tolist(),
            sequences[lasts].tolist(),
            offsets[begins].tolist(),
            offsets[lasts].tolist(),
            np.minimum.reduceat(appended, begins).tolist(),
            np.maximum.reduceat(appended, begins).tolist(),
            times[first_rows].tolist(),
            times[last_rows].tolist(),
            np.maximum.reduceat(ahead, begins).tolist(),
            first_rows.tolist(),
            last_rows.tolist(),
            of_all(sequences[1:] - sequences[:-1] == 1, begins),
            of_all(times[1:] > times[:-1], first_rows),
            of_all(appended[1:] >= appended[:-1], begins),
            strict=True,
        )
    ]


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows and columns that cannot be taken."""

    arrival: Arrival  # with only those rows and columns
    reason: Rejection
    detail: str


@dataclass(frozen=True, slots=True)
class Run:
    """Frames of the same channels that follow one another, as one array: what can be taken of them."""

    first_sequence: int
    channels: tuple[str, ...]
    times: Longs  # (n,)
    values: Doubles  # (n, c)
    rows: list[int]  # of each frame; none is 0
    newest: bool = False  # each row is known to be newer than all before it


def runs(arrivals: Sequence[Arrival], plan: Plan) -> Iterator[tuple[Run | None, list[Refused]]]:
    """What can be taken of the frames, in order, and what cannot."""
    for _, group in groupby(arrivals, key=lambda arrival: arrival.frame.channels):
        together = list(group)
        run = _join([arrival.frame for arrival in together])
        if run is None or _sound(run, together, plan):
            yield run, []
            continue
        refused: list[Refused] = []
        kept = []
        for arrival in together:
            frame, parts = validate(arrival, plan)
            refused += parts
            if frame is not None:
                kept.append(frame)
        yield _join(kept), refused


def _join(frames: list[RawFrame]) -> Run | None:
    frames = [frame for frame in frames if len(frame.times)]
    if not frames:
        return None
    first, rows = frames[0], [len(frame.times) for frame in frames]
    if len(frames) == 1:
        return Run(first.sequence, first.channels, first.times, first.values, rows)
    times = np.concatenate([frame.times for frame in frames])
    return Run(first.sequence, first.channels, times, np.concatenate([frame.values for frame in frames]), rows)


def is_sound(channels: tuple[str, ...], facts: Facts, plan: Plan, after_us: int) -> bool:
    """Whether nothing can be wrong with a batch, and each of its rows is newer than all before it."""
    in_time = facts.in_order and facts.times_us[0] > max(after_us, plan.exists_from_us - 1)
    return in_time and facts.ahead_us <= plan.future_limit_us and _known(channels, plan)


def as_run(batch: Batch) -> Run:
    """A sound batch, as a run."""
    first = int(batch.sequences[0])
    return Run(first, batch.channels, batch.times, batch.values, batch.rows.tolist(), newest=True)


def _known(channels: tuple[str, ...], plan: Plan) -> bool:
    """Whether all of them are configured, and none stands twice."""
    if channels in plan.selections:
        return True
    return all(name in plan.columns for name in channels) and len(set(channels)) == len(channels)


def _sound(run: Run, arrivals: list[Arrival], plan: Plan) -> bool:
    """Whether nothing at all can be wrong: the quick way past `validate` for almost every frame."""
    if not _known(run.channels, plan):
        return False
    times = run.times
    if len(times) > 1 and not (times[1:] > times[:-1]).all():
        return False
    ahead = max([int(a.frame.times[-1]) - a.appended_us for a in arrivals if len(a.frame.times)])
    return ahead <= plan.future_limit_us and bool(times[0] >= plan.exists_from_us)


def validate(arrival: Arrival, plan: Plan) -> tuple[RawFrame | None, list[Refused]]:
    """What of the frame goes on (None: nothing), and what does not."""
    frame = arrival.frame
    refused: list[Refused] = []

    def refuse(part: RawFrame, reason: Rejection, detail: str) -> None:
        refused.append(Refused(replace(arrival, frame=part), reason, detail))

    if not len(frame.times):
        return None, refused
    if len(set(frame.channels)) < len(frame.channels):
        twice = [name for name, times in Counter(frame.channels).items() if times > 1]
        refuse(frame, Rejection.REPEATED_CHANNEL, f"channels stand twice: {_few(twice)}")
        return None, refused
    unknown = [at for at, name in enumerate(frame.channels) if name not in plan.columns]
    if unknown:
        known = [at for at, name in enumerate(frame.channels) if name in plan.columns]
        part = _columns(frame, unknown)
        refuse(part, Rejection.UNKNOWN_CHANNEL, f"not configured for {frame.device_id}: {_few(part.channels)}")
        if not known:
            return None, refused
        frame = _columns(frame, known)
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
            since = plan.device.exists_from or "no date; a clock that was never set begins in 1970"
            detail = f"{frame.device_id} exists from {since}"
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


def _few(names: Sequence[str]) -> str:
    """For people: a frame may hold a million names, of any length."""
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return ", ".join(name[:NAME_SHOWN_MAX] for name in names[:NAMES_SHOWN_MAX]) + more


def _columns(frame: RawFrame, at: list[int]) -> RawFrame:
    return replace(frame, channels=tuple(frame.channels[column] for column in at), values=frame.values[:, at])


def _rows(frame: RawFrame, which: npt.NDArray[np.bool_]) -> RawFrame:
    status = None if frame.status is None else frame.status[which]
    return replace(frame, times=frame.times[which], values=frame.values[which], status=status)
