"""Numpy arrays as Arrow's, in place.

`pa.array`, and Python strings as arguments, would import pandas first where it is installed: a second, for nothing.
"""

import numpy as np
import pyarrow as pa

from schemas.columnar import Doubles, Longs


def doubles(values: Doubles) -> pa.Array:
    """NaN and infinite values are null."""
    kept = np.isfinite(values)
    nulls = None if kept.all() else pa.py_buffer(np.packbits(kept, bitorder="little"))
    return pa.Array.from_buffers(pa.float64(), len(values), [nulls, pa.py_buffer(np.ascontiguousarray(values))])


def times(times_us: Longs, kind: pa.DataType) -> pa.Array:
    """Of a type that counts microseconds, or seconds."""
    counts = times_us // 1_000_000 if kind.unit == "s" else times_us
    return pa.Array.from_buffers(kind, len(counts), [None, pa.py_buffer(np.ascontiguousarray(counts))])


def texts(words: list[str]) -> pa.Array:
    """Strings."""
    data = [word.encode() for word in words]
    ends = np.cumsum([0, *map(len, data)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(data), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(data))])


def text(word: str) -> pa.Scalar:
    """One string."""
    return texts([word])[0]
