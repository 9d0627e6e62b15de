"""Many frames of one byte layout, read as one array. Knows how raw and clean frames lie in bytes; knows no broker.

A device's frames differ in a sequence number, times and values, and lie alike otherwise: the same channels, as many
rows, ids of the same length. The first frame of a kind is read as the codec reads it, noting where its parts lie; all
others of its length are compared with it at once, and what lies alike is read in a few numpy calls. What does not is
left to the codec. `Codec.decode_frame` is the oracle: a block's frames equal what it gives, to the last bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.columnar import (
    Doubles,
    Longs,
    Unreadable,
    join_eight,
    read_long,
    read_string,
    read_strings,
    unzigzag,
)
from schemas.frames import CleanFrame, RawFrame

Index = npt.NDArray[np.intp]
Octets = npt.NDArray[np.uint8]

KINDS_MAX = 32
"""Layouts tried per length: a fleet has a few. Beyond it what is left is read frame by frame, as hostile bytes are."""

FEW = 3  # frames of one length below which the codec is as fast

SEQUENCE_BYTES_MAX = 9  # 63 bits; a tenth byte may not fit, which is the codec's to say

_HIGH = np.uint64(0x8080808080808080)
_EIGHT_BYTES = np.uint64(0x0080808080808080)  # high bits of a varint that fills eight bytes


@dataclass(frozen=True, slots=True, eq=False)
class RawBlock:
    """m frames of n rows of the same c channels, in the order in which they were given."""

    at: Index  # (m,) which of the records
    device_ids: Octets  # (m, d)
    spool_ids: Octets  # (m, s)
    sequences: Longs  # (m,)
    times: Longs  # (m, n)
    channels: tuple[str, ...]
    values: Doubles  # (m, n, c)

    def __len__(self) -> int:
        return len(self.at)

    def frame(self, number: int) -> RawFrame:
        """One of the frames."""
        return RawFrame(
            self.device_ids[number].tobytes().decode(),
            self.spool_ids[number].tobytes().decode(),
            int(self.sequences[number]),
            self.times[number],
            self.channels,
            self.values[number],
        )


@dataclass(frozen=True, slots=True, eq=False)
class CleanBlock:
    """m frames of n rows of the same c channels and one generation, in the order in which they were given."""

    at: Index  # (m,) which of the records
    device_ids: Octets  # (m, d)
    generation: int
    times: Longs  # (m, n)
    channels: tuple[str, ...]
    logged: Doubles  # (m, n, c)
    values: Doubles  # (m, n, c)
    quality: Longs  # (m, n, c)
    tests: Longs  # (m, n, c)

    def frames(self) -> list[CleanFrame]:
        """All of them."""
        ids = [row.tobytes().decode() for row in self.device_ids]
        columns = zip(ids, self.times, self.logged, self.values, self.quality, self.tests, strict=True)
        return [
            CleanFrame(device, self.generation, times, self.channels, logged, values, quality, tests)
            for device, times, logged, values, quality, tests in columns
        ]


Where = tuple[int, int]
"""Of a part of a frame: begin and end."""


class Layout(Protocol):
    """Where the parts of a frame lie, and by which bytes others are known to lie like it."""

    @property
    def alike(self) -> tuple[Where, ...]:
        """What every frame of this kind has in common, byte for byte."""

    @property
    def texts(self) -> tuple[Where, ...]: ...

    @property
    def eights(self) -> Where:
        """Varints of eight bytes each."""

    @property
    def varints(self) -> tuple[Where, ...]:
        """Others, as wide as these."""

    @property
    def singles(self) -> tuple[Where, ...]:
        """Varints of one byte each."""


L = TypeVar("L", bound=Layout)


@dataclass(frozen=True, slots=True)
class _RawLayout:
    device: Where
    spool: Where
    sequence: Where
    times: Where
    channels: tuple[str, ...]
    values: Where
    alike: tuple[Where, ...]

    @property
    def texts(self) -> tuple[Where, ...]:
        return self.device, self.spool

    @property
    def eights(self) -> Where:
        return self.times

    @property
    def varints(self) -> tuple[Where, ...]:
        return (self.sequence,)

    @property
    def singles(self) -> tuple[Where, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class _CleanLayout:
    device: Where
    generation: int
    times: Where
    channels: tuple[str, ...]
    logged: Where
    values: Where
    quality: Where
    tests: Where
    alike: tuple[Where, ...]

    @property
    def texts(self) -> tuple[Where, ...]:
        return (self.device,)

    @property
    def eights(self) -> Where:
        return self.times

    @property
    def varints(self) -> tuple[Where, ...]:
        return ()

    @property
    def singles(self) -> tuple[Where, ...]:
        return self.quality, self.tests


def _is_plain(frame: Octets, layout: Layout) -> bool:
    """Whether a frame's varints have the widths of its layout."""
    wide = (_words(frame[None], layout.eights) & _HIGH) == _EIGHT_BYTES
    return bool(wide.all()) and all(bool((frame[begin:end] < 128).all()) for begin, end in layout.singles)


def _lie_like(grid: Octets, layout: Layout) -> npt.NDArray[np.bool_]:
    """Which of the frames (m, length) lie like the first, which is plain: eight bytes of each at a time.

    The high bits of varints say where each ends; those of texts, that they are ASCII and need not be looked at.
    """
    first, mask = grid[0], np.zeros(grid.shape[1], np.uint8)
    for begin, end in layout.alike:
        mask[begin:end] = 0xFF
    for begin, end in (layout.eights, *layout.varints, *layout.singles):
        mask[begin:end] = 0x80
    for begin, end in layout.texts:
        mask[begin:end] = 0x80 if (first[begin:end] < 128).all() else 0xFF
    asked = mask.view(np.uint64)
    which = np.flatnonzero(asked)
    words = grid.view(np.uint64)[:, which] if len(which) < len(asked) else grid.view(np.uint64)
    same: npt.NDArray[np.bool_] = (((words ^ words[0]) & asked[which]) == 0).all(axis=1)
    return same


def read_blocks(values: Sequence[bytes | None], header: bytes) -> tuple[list[RawBlock], list[int]]:
    """The raw frames that lie alike, and which of the records are left to be read one by one (in ascending order).

    Args:
        values: records of `readings.raw`.
        header: with which a frame of today's schema begins.
    """
    kinds, left = _sorted_out(values, header, _raw_layout)
    return _joined([_raw_block(grid, at, layout) for grid, at, layout in kinds]), left


def read_clean_blocks(values: Sequence[bytes | None], header: bytes) -> tuple[list[CleanBlock], list[int]]:
    """The same of `readings.clean`."""
    kinds, left = _sorted_out(values, header, _clean_layout)
    return [_clean_block(grid, at, layout) for grid, at, layout in kinds], left


def _sorted_out(
    values: Sequence[bytes | None], header: bytes, layout_of: Callable[[bytes, int], L | None]
) -> tuple[list[tuple[Octets, Index, L]], list[int]]:
    """Frames by kind: their bytes (m, length), which records they are, how they lie. And which records are left."""
    there = [value or b"" for value in values]
    lengths = np.fromiter(map(len, there), np.int64, len(there))
    kinds: list[tuple[Octets, Index, L]] = []
    left: list[int] = []
    order = np.argsort(lengths, kind="stable")
    for at in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = int(lengths[at[0]]) if len(at) else 0
        if len(at) < FEW or length <= len(header):
            left += at.tolist()
            continue
        fill = bytes(-length % 8)  # so that they can be looked at eight bytes at a time
        raw = fill.join(there if len(at) == len(there) else map(there.__getitem__, at.tolist())) + fill
        grid = np.frombuffer(raw, np.uint8).reshape(len(at), -1)
        left += _by_layout(grid, length, at, header, layout_of, kinds)
    return kinds, sorted(left)


def _joined(blocks: list[RawBlock]) -> list[RawBlock]:
    """Blocks whose frames differ in the width of their sequence numbers only are one."""
    alike: dict[tuple[object, ...], list[RawBlock]] = {}
    for block in blocks:
        shape = block.device_ids.shape[1], block.spool_ids.shape[1], block.times.shape[1], block.channels
        alike.setdefault(shape, []).append(block)
    joined = []
    for some in alike.values():
        if len(some) == 1:
            joined += some
            continue
        order = np.argsort(np.concatenate([block.at for block in some]))
        parts = {
            name: np.concatenate([getattr(block, name) for block in some])[order]
            for name in ("at", "device_ids", "spool_ids", "sequences", "times", "values")
        }
        joined.append(RawBlock(channels=some[0].channels, **parts))
    return joined


def _by_layout(  # noqa: PLR0917 - frames, and what is looked for in them
    grid: Octets,
    length: int,
    at: Index,
    header: bytes,
    layout_of: Callable[[bytes, int], L | None],
    kinds: list[tuple[Octets, Index, L]],
) -> list[int]:
    """Puts frames of one length (and what fills them up) to their kinds; those that are left."""
    left: list[int] = []
    for _ in range(KINDS_MAX):
        if len(at) < FEW:
            break
        layout = _layout(grid[0, :length], header, layout_of)
        if layout is None:
            left.append(int(at[0]))
            grid, at = grid[1:], at[1:]
            continue
        same = _lie_like(grid, layout)
        if same.all():
            kinds.append((grid, at, layout))
            return left
        kinds.append((grid[same], at[same], layout))
        grid, at = grid[~same], at[~same]
    left += at.tolist()
    return left


def _layout(frame: Octets, header: bytes, layout_of: Callable[[bytes, int], L | None]) -> L | None:
    """How a frame lies; None: it is not plain, or not readable at all."""
    data = frame.tobytes()
    if not data.startswith(header):
        return None
    try:
        layout = layout_of(data, len(header))
    except Unreadable:
        return None
    return layout if layout is not None and _is_plain(frame, layout) else None


def _raw_layout(data: bytes, begin: int) -> _RawLayout | None:
    """Where the parts of a plain frame lie. Raises `Unreadable`."""
    device, device_end = _text(data, begin)
    spool, spool_end = _text(data, device_end)
    _, sequence_end = read_long(data, spool_end)
    rows = _rows(data, sequence_end)
    if rows is None or sequence_end - spool_end > SEQUENCE_BYTES_MAX:
        return None
    count, values = read_long(data, rows.end)
    values_end = values + 8 * count
    if count != rows.cells or data[values_end:] != b"\0\0":
        return None
    times, times_end = rows.times
    return _RawLayout(
        (device, device_end),
        (spool, spool_end),
        (spool_end, sequence_end),
        rows.times,
        rows.channels,
        (values, values_end),
        ((0, device), (device_end, spool), (sequence_end, times), (times_end, values), (values_end, len(data))),
    )


class _Rows(NamedTuple):
    """What a frame's values are of."""

    times: Where
    channels: tuple[str, ...]
    cells: int  # values, at least one
    end: int  # where the values follow


def _rows(data: bytes, at: int) -> _Rows | None:
    """The times and channels that a frame has there; None: none, or times in several blocks. Raises `Unreadable`."""
    rows, begin = read_long(data, at)
    end = begin + 8 * rows
    if rows < 1 or end >= len(data) or data[end] != 0:
        return None
    channels, after = read_strings(data, end + 1)
    return _Rows((begin, end), channels, rows * len(channels), after) if channels else None


def _text(data: bytes, at: int) -> tuple[int, int]:
    """Where the bytes of a string begin and end. Raises `Unreadable`, also for what is no text."""
    _, end = read_string(data, at)
    return read_long(data, at)[1], end


def _words(grid: Octets, where: Where) -> npt.NDArray[np.uint64]:
    begin, end = where
    return np.ascontiguousarray(grid[:, begin:end]).view("<u8")


def _raw_block(grid: Octets, at: Index, layout: _RawLayout) -> RawBlock:
    begin, end = layout.sequence
    zigzag = np.zeros(len(grid), np.uint64)
    for place in range(end - begin):
        zigzag |= (grid[:, begin + place] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * place)
    times = unzigzag(join_eight(_words(grid, layout.times)))
    values = _words(grid, layout.values).view("<f8").reshape(len(grid), times.shape[1], len(layout.channels))
    return RawBlock(
        at,
        grid[:, slice(*layout.device)],
        grid[:, slice(*layout.spool)],
        unzigzag(zigzag),
        times,
        layout.channels,
        values,
    )


def _clean_layout(data: bytes, begin: int) -> _CleanLayout | None:
    """Where the parts of a frame lie whose flags and tests are of a byte each. Raises `Unreadable`."""
    device, device_end = _text(data, begin)
    generation, generation_end = read_long(data, device_end)
    rows = _rows(data, generation_end)
    if rows is None:
        return None
    parts, at = [rows.times], rows.end
    for width in (8, 8, 1, 1):  # logged, values, quality, tests
        count, begin = read_long(data, at)
        at = begin + width * count + 1
        if count != rows.cells or data[at - 1 : at] != b"\0":
            return None
        parts.append((begin, at - 1))
    if at != len(data):
        return None
    between = [(former[1], later[0]) for former, later in pairwise(parts)]
    times, logged, values, quality, tests = parts
    return _CleanLayout(
        (device, device_end),
        generation,
        times,
        rows.channels,
        logged,
        values,
        quality,
        tests,
        ((0, device), (device_end, times[0]), *between, (at - 1, len(data))),
    )


def _clean_block(grid: Octets, at: Index, layout: _CleanLayout) -> CleanBlock:
    times = unzigzag(join_eight(_words(grid, layout.times)))
    shape = (len(grid), times.shape[1], len(layout.channels))
    return CleanBlock(
        at,
        grid[:, slice(*layout.device)],
        layout.generation,
        times,
        layout.channels,
        *(_words(grid, where).view("<f8").reshape(shape) for where in (layout.logged, layout.values)),
        *(
            unzigzag(grid[:, slice(*where)].astype(np.uint64)).reshape(shape)
            for where in (layout.quality, layout.tests)
        ),
    )
