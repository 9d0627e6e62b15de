"""Rows of readings as they wait in the spool. Knows arrays and bytes; knows no database.

Every cell is a reading: NaN says that the logger calls it missing. Rows that lack a channel are other rows.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.errors import Refused

GROUP_BYTES_MAX = 64 * 1024
"""A larger accept becomes several groups: a group is the smallest thing a frame is cut from, and one of this size,
compressed, crosses a 64 kbit/s link in some seconds. On a quick link several go into a frame."""

ROW_BYTES_MAX = 2 * 1024 * 1024
"""A single row beyond this would not fit into a message of `readings.raw`."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n rows of one device with the same c channels. Raises `Refused` on a shape that cannot be."""

    device_id: str
    times: Longs  # (n,) UTC microseconds, beginning of the interval or the instant
    channels: tuple[str, ...]
    values: Doubles  # (n, c)
    status: Longs | None = None  # (n,)

    def __post_init__(self) -> None:
        where = f"device {self.device_id}"
        if not self.channels or not all(self.channels) or len(set(self.channels)) != len(self.channels):
            raise Refused(f"{where}: channels must have names, each once, got {list(self.channels)}")
        if self.times.ndim != 1 or self.values.shape != (len(self.times), len(self.channels)):
            raise Refused(
                f"{where}: {len(self.times)} times of {len(self.channels)} channels need as many rows and columns "
                f"of values, got shape {self.values.shape}"
            )
        if self.status is not None and self.status.shape != self.times.shape:
            raise Refused(f"{where}: {len(self.times)} times but {len(self.status)} status words")
        if self.row_bytes > ROW_BYTES_MAX:
            raise Refused(f"{where}: a row of {len(self.channels)} channels is larger than a message may be")

    @property
    def readings(self) -> int:
        return len(self.times) * len(self.channels)

    @property
    def row_bytes(self) -> int:
        return 8 * (1 + len(self.channels) + (self.status is not None))

    def pieces(self) -> "Iterator[Rows]":
        """The same rows in pieces of at most `GROUP_BYTES_MAX`, never less than one row."""
        step = max(1, GROUP_BYTES_MAX // self.row_bytes)
        for at in range(0, len(self.times), step):
            yield self.part(at, at + step)

    def part(self, start: int, stop: int) -> "Rows":
        status = None if self.status is None else self.status[start:stop]
        return Rows(self.device_id, self.times[start:stop], self.channels, self.values[start:stop], status)

    def packed(self) -> tuple[bytes, int]:
        """(body, its CRC-32): times, values row-major, status; each little-endian, 8 bytes a number."""
        parts = [np.ascontiguousarray(self.times, "<i8").tobytes(), np.ascontiguousarray(self.values, "<f8").tobytes()]
        if self.status is not None:
            parts.append(np.ascontiguousarray(self.status, "<i8").tobytes())
        body = b"".join(parts)
        return body, zlib.crc32(body)


class Damaged(ValueError):  # noqa: N818 - named after what an operator reads
    """A body that is not what was written."""


def unpacked(
    device_id: str, channels: tuple[str, ...], body: bytes, *, rows: int, has_status: bool, crc32: int
) -> Rows:
    """What `packed` made. Raises `Damaged` where bytes have changed since."""
    wide = rows * len(channels)
    if len(body) != 8 * (rows + wide + rows * has_status) or zlib.crc32(body) != crc32:
        raise Damaged(f"a group of {rows} rows is not as it was written")
    times = np.frombuffer(body, "<i8", rows)
    values = np.frombuffer(body, "<f8", wide, 8 * rows).reshape(rows, len(channels))
    status = np.frombuffer(body, "<i8", rows, 8 * (rows + wide)) if has_status else None
    return Rows(device_id, times, channels, values, status)


def joined(parts: list[Rows]) -> Rows:
    """Rows of one stream, one after another."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    # Where one part has status words, those without get 0: no bit set.
    status = None
    if any(part.status is not None for part in parts):
        status = np.concatenate([np.zeros(len(p.times), np.int64) if p.status is None else p.status for p in parts])
    times = np.concatenate([part.times for part in parts])
    return Rows(first.device_id, times, first.channels, np.concatenate([part.values for part in parts]), status)
