"""Records' arrays as rows of a table, and which way they go. Pure: arrays in, arrays out; a sensor is a number."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.columnar import Longs
from schemas.frames import CleanFrame, WindowFrame
from sinks.timescale.packing import READINGS, TIMESTAMPTZ, WINDOWS, Rows, Series

Ids = npt.NDArray[np.int32]

TIME_US_MIN = -2_208_988_800_000_000  # 1900-01-01
TIME_US_MAX = 7_258_118_400_000_000  # 2200-01-01
"""What the database keeps. On plain PostgreSQL each month is a partition: the bound is some 3,600 of them."""


class Misfit(NamedTuple):
    """A record that no column can hold."""

    place: int  # among the records
    detail: str


def readings(frames: Sequence[CleanFrame], ids: Sequence[Ids]) -> Rows:
    """One row for each reading, in the frames' order. `ids[i]` are the sensors of `frames[i].channels`."""
    heights = [len(frame.times) for frame in frames]
    widths = np.repeat([len(each) for each in ids], heights)
    rows_of_ids = [each for each, height in zip(ids, heights, strict=True) for _ in range(height)]
    return {
        "sensor_id": np.concatenate(rows_of_ids) if rows_of_ids else np.empty(0, np.int32),
        "time": np.repeat(np.concatenate([frame.times for frame in frames]), widths),
        "logged": np.concatenate([frame.logged for frame in frames], axis=None),
        "value": np.concatenate([frame.values for frame in frames], axis=None),
        "quality": np.concatenate([frame.quality for frame in frames], axis=None),
        "tests": np.concatenate([frame.tests for frame in frames], axis=None),
    }


_WINDOW_FIELDS = {
    "length_s": "lengths_s",
    "start": "starts",
    "revision": "revisions",
    "count": "counts",
    "expected": "expected",
    "suspect": "suspect",
    "failed": "failed",
    "missing": "missing",
    "mean": "means",
    "sd": "sds",
    "min": "minima",
    "max": "maxima",
}


def windows(frames: Sequence[WindowFrame], ids: Sequence[Ids]) -> Rows:
    """One row for each window, in the frames' order. `ids[i]` are the sensors of `frames[i].channels`."""
    sizes = [len(each) for each in ids]
    rows: Rows = {
        name: np.concatenate([getattr(frame, field) for frame in frames]) for name, field in _WINDOW_FIELDS.items()
    }
    rows["sensor_id"] = np.concatenate(ids)
    rows["generation"] = np.repeat(np.array([frame.generation for frame in frames], np.int64), sizes)
    return rows


def misfits(series: Series, rows: Rows, sizes: Sequence[int]) -> list[Misfit]:
    """Records with a number that its column cannot hold. `sizes[i]` is the number of rows of record i.

    numpy would wrap such a number silently where PostgreSQL refuses it.
    """
    found: dict[int, str] = {}
    for name, kind in series.columns.items():
        if kind is TIMESTAMPTZ:
            low, high = TIME_US_MIN, TIME_US_MAX - 1
        elif np.dtype(kind.bytes).kind == "i":
            limits = np.iinfo(kind.bytes)
            low, high = int(limits.min), int(limits.max)
        else:
            continue
        values = rows[name]
        if not len(values) or (int(values.min()) >= low and int(values.max()) <= high):
            continue
        ends = np.cumsum(sizes)
        for at in np.flatnonzero((values < low) | (values > high)):
            place = int(np.searchsorted(ends, at, side="right"))
            found.setdefault(place, f"{name} = {values[at]}: expected {low} to {high}")
    return [Misfit(place, detail) for place, detail in sorted(found.items())]


def last_of_each_key(series: Series, rows: Rows) -> Rows:
    """Rows sorted by key; of rows with the same key only the last, which is the last in Kafka's order."""
    order = np.lexsort([rows[name] for name in reversed(series.key)])  # stable: equal keys stay in order
    keys = [rows[name][order] for name in series.key]
    last = np.ones(len(order), bool)
    if len(order):
        last[:-1] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    kept = order[last]
    return {name: values[kept] for name, values in rows.items()}


def split(rows: Rows, newer: npt.NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """The rows that are newer, and the rest."""
    if newer.all():
        return rows, {name: values[:0] for name, values in rows.items()}
    return {name: values[newer] for name, values in rows.items()}, {name: v[~newer] for name, v in rows.items()}


def months(times: Longs) -> set[str]:
    """The months, as `2016-12`, in which the times lie (in UTC)."""
    ends = np.array([times.min(), times.max()]) if len(times) else times
    found = np.unique(ends.astype("M8[us]").astype("M8[M]"))
    if len(found) > 1:  # else all of them lie in that one
        found = np.unique(times.astype("M8[us]").astype("M8[M]"))
    return {str(month) for month in found}


__all__ = [
    "READINGS",
    "WINDOWS",
    "Ids",
    "Misfit",
    "last_of_each_key",
    "misfits",
    "months",
    "readings",
    "split",
    "windows",
]
