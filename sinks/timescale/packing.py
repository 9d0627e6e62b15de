"""Rows as PostgreSQL reads them in binary, packed by numpy. Pure: arrays in, bytes out. Knows no connection.

A series is a table that grows with time: its rows have fixed width and no nulls (NaN stands for a missing value), so
that a whole batch is one structured array. Times are int64 microseconds since 1970, UTC.

Formats: PostgreSQL manual, "COPY, Binary Format"; arrays as `array_recv` in src/backend/utils/adt/arrayfuncs.c.
"""

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = dict[str, npt.NDArray[Any]]
"""Columns by name, all of one length."""

POSTGRES_EPOCH_US = 946_684_800_000_000  # 2000-01-01 UTC in microseconds since 1970
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Type:
    """A type of fixed width: its object ids, and how its bytes lie."""

    name: str
    oid: int
    array_oid: int
    bytes: str

    @property
    def width(self) -> int:
        return np.dtype(self.bytes).itemsize


INT2 = Type("int2", 21, 1005, ">i2")
INT4 = Type("int4", 23, 1007, ">i4")
INT8 = Type("int8", 20, 1016, ">i8")
FLOAT8 = Type("float8", 701, 1022, ">f8")
TIMESTAMPTZ = Type("timestamptz", 1184, 1185, ">i8")


@dataclass(frozen=True)
class Series:
    """A table that grows with time. The key is (sensor_id, ..., time): its last column is the time."""

    table: str
    columns: dict[str, Type]
    key: tuple[str, ...]

    @property
    def time(self) -> str:
        return self.key[-1]

    @cached_property
    def layout(self) -> np.dtype[Any]:
        """One row in COPY's binary format: the number of fields, then each field behind its length."""
        parts: list[tuple[str, str]] = [("fields", ">i2")]
        for name, kind in self.columns.items():
            parts += [(f"{name}_length", ">i4"), (name, kind.bytes)]
        return np.dtype(parts)

    @cached_property
    def copy(self) -> str:
        """For rows whose keys are new."""
        return f"COPY {self.table} ({', '.join(self.columns)}) FROM STDIN (FORMAT BINARY)"

    @cached_property
    def upsert(self) -> str:
        """For rows whose keys may be there: the last writer wins. One array for each column."""
        arrays = ", ".join(f"%s::{kind.name}[]" for kind in self.columns.values())
        news = ", ".join(f"{name} = EXCLUDED.{name}" for name in self.columns if name not in self.key)
        return (
            f"INSERT INTO {self.table} ({', '.join(self.columns)}) SELECT * FROM unnest({arrays}) "  # noqa: S608 - our own names
            f"ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {news}"
        )


READINGS = Series(
    "readings",
    {"sensor_id": INT4, "time": TIMESTAMPTZ, "logged": FLOAT8, "value": FLOAT8, "quality": INT2, "tests": INT4},
    ("sensor_id", "time"),
)
WINDOWS = Series(
    "windows",
    {
        "sensor_id": INT4,
        "length_s": INT4,
        "start": TIMESTAMPTZ,
        "generation": INT8,
        **dict.fromkeys(("revision", "count", "expected", "suspect", "failed", "missing"), INT4),
        **dict.fromkeys(("mean", "sd", "min", "max"), FLOAT8),
    },
    ("sensor_id", "length_s", "start"),
)


def copy_bytes(series: Series, rows: Rows) -> bytes:
    """The whole stream for `series.copy`."""
    packed = np.empty(len(rows[series.time]), series.layout)
    packed["fields"] = len(series.columns)
    for name, kind in series.columns.items():
        packed[f"{name}_length"] = kind.width
        packed[name] = _as_postgres(kind, rows[name])
    return COPY_HEADER + packed.tobytes() + COPY_TRAILER


def array_bytes(kind: Type, values: npt.NDArray[Any]) -> bytes:
    """A one-dimensional array without nulls."""
    packed = np.empty(len(values), np.dtype([("length", ">i4"), ("value", kind.bytes)]))
    packed["length"] = kind.width
    packed["value"] = _as_postgres(kind, values)
    return struct.pack(">iiiii", 1, 0, kind.oid, len(values), 1) + packed.tobytes()


def _as_postgres(kind: Type, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values - POSTGRES_EPOCH_US if kind is TIMESTAMPTZ else values
