"""The stage's standard work for peers in Python: decode, range check, slope and offset, ten-minute windows.

fastavro both ways; one reading is computed as numbers, a frame by numpy. A device's state is plain lists, so that
every store can keep it: [start, counts, means, m2s, minima, maxima].
"""

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

AVRO = Path(__file__).parents[3] / "schemas" / "avro"
WINDOW_US = 600_000_000
LARGEST = sys.float_info.max  # JSON, in which Quix keeps state, has no infinity


def _plain(schema: Any) -> Any:
    """Without logical types: times stay numbers."""
    if isinstance(schema, dict):
        return {name: _plain(part) for name, part in schema.items() if name != "logicalType"}
    return [_plain(part) for part in schema] if isinstance(schema, list) else schema


RAW, CLEAN, WINDOWS = (
    fastavro.parse_schema(_plain(json.loads((AVRO / f"{name}.v1.avsc").read_text())))
    for name in ("raw_frame", "clean_frame", "window_frame")
)


def _encoded(schema: Any, number: int, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    out.write(b"\0\0\0\0" + bytes([number]))
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def step(data: bytes, state: list[Any] | None) -> tuple[bytes, list[bytes], list[Any]]:
    """One record: the calibrated one, the windows that it closed, the device's state after it."""
    raw = _read(data)
    channels, times = raw["channels"], raw["times"]
    work = _one if len(raw["values"]) == 1 else _frame
    values, flags, closed, state = work(raw["values"], times, len(channels), state)
    clean = _encoded(
        CLEAN,
        2,
        {
            "device_id": raw["device_id"],
            "generation": 0,
            "times": times,
            "channels": channels,
            "logged": raw["values"],
            "values": values,
            "quality": flags,
            "tests": [1 if flag in (3, 4) else 0 for flag in flags],
        },
    )
    return clean, [_window(raw["device_id"], channels, each) for each in closed], state


def _read(data: bytes) -> Any:
    stream = io.BytesIO(data)
    stream.seek(5)
    return fastavro.schemaless_reader(stream, RAW, None)


def _one(logged: list[float], times: list[int], _: int, state: list[Any] | None) -> tuple[Any, Any, Any, Any]:
    value = 0.046 * ((logged[0] - 0.2) / 0.05) + 0.243
    flag = 9 if math.isnan(value) else 4 if not 0 <= value <= 75 else 3 if value > 50 else 1
    start = times[0] - times[0] % WINDOW_US
    closed = []
    if state is None or start > state[0]:
        closed = [state] if state else []
        state = [start, [0], [0.0], [0.0], [LARGEST], [-LARGEST]]
    if flag == 1:
        _, counts, means, m2s, minima, maxima = state
        counts[0] += 1
        delta = value - means[0]
        means[0] += delta / counts[0]
        m2s[0] += delta * (value - means[0])
        minima[0], maxima[0] = min(minima[0], value), max(maxima[0], value)
    return [value], [flag], closed, state


def _frame(logged: list[float], times: list[int], columns: int, state: list[Any] | None) -> tuple[Any, Any, Any, Any]:
    values = 0.046 * ((np.array(logged).reshape(-1, columns) - 0.2) / 0.05) + 0.243
    failed = (values < 0) | (values > 75)
    flags = np.where(np.isnan(values), 9, np.where(failed, 4, np.where(values > 50, 3, 1)))
    starts = np.array(times) - np.array(times) % WINDOW_US
    closed = []
    for start in np.unique(starts).tolist():
        rows = np.where(flags[starts == start] == 1, values[starts == start], np.nan)
        if state is None or start > state[0]:
            closed += [state] if state else []
            state = [start, *([0] * columns for _ in range(3)), [LARGEST] * columns, [-LARGEST] * columns]
        good = ~np.isnan(rows)
        n = good.sum(0)
        filled = np.where(good, rows, 0.0)
        mean = filled.sum(0) / np.maximum(n, 1)
        m2 = (np.where(good, rows - mean, 0.0) ** 2).sum(0)
        count, before = np.array(state[1]), np.array(state[2], float)
        total = np.maximum(count + n, 1)
        delta = mean - before
        state = [
            start,
            (count + n).tolist(),
            (before + delta * n / total).tolist(),
            (np.array(state[3], float) + m2 + delta**2 * count * n / total).tolist(),
            np.minimum(state[4], np.where(good, rows, LARGEST).min(0)).tolist(),
            np.maximum(state[5], np.where(good, rows, -LARGEST).max(0)).tolist(),
        ]
    return values.ravel().tolist(), flags.ravel().tolist(), closed, state


def _window(device_id: str, channels: list[str], state: list[Any]) -> bytes:
    n = len(channels)
    start, counts, means, m2s, minima, maxima = state
    return _encoded(
        WINDOWS,
        3,
        {
            "device_id": device_id,
            "generation": 0,
            "channels": channels,
            "starts": [start] * n,
            "lengths_s": [600] * n,
            "revisions": [0] * n,
            "counts": counts,
            "expected": [600] * n,
            "suspect": [0] * n,
            "failed": [0] * n,
            "missing": [0] * n,
            "means": means,
            "sds": [math.sqrt(m2 / (count - 1)) if count > 1 else 0.0 for m2, count in zip(m2s, counts, strict=True)],
            "minima": minima,
            "maxima": maxima,
        },
    )
