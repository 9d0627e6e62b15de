"""Blocks of frames, sorted out by device. Knows records as they were consumed; decodes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.blocks import Octets, RawBlock
from schemas.columnar import Doubles, Longs
from streams.validation import Batch

Index = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


class Record(Protocol):
    """A consumed record, as aiokafka gives it."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int  # ms, the broker's append time
    signature: bytes | None  # the header of that name
    oversized: bool  # its content was withheld: its batch unpacks to more than is taken
    traceparent: bytes | None  # as well


VALUE, OFFSET, TIMESTAMP, KEY = (attrgetter(name) for name in ("value", "offset", "timestamp", "key"))
"""Mapped over a pile: half of what going through it in Python costs, and that is done for each single reading."""


def bytes_of(records: Sequence[Record]) -> int:
    """Of their values."""
    try:
        return sum(map(len, map(VALUE, records)))
    except TypeError:  # some have none
        return sum([len(record.value or b"") for record in records])


def key_of(record: Record) -> str:
    """The device that its sender says it is of."""
    return (record.key or b"").decode(errors="replace")


def batches(blocks: Sequence[RawBlock], records: Sequence[Record]) -> tuple[dict[bytes, Batch], list[int]]:
    """One batch for each key whose frames are all in blocks, and which records of the blocks are to be read singly.

    Args:
        blocks: of `records`.
        records: of `readings.raw`, in log order.
    """
    count = len(records)
    offsets = np.fromiter(map(OFFSET, records), np.int64, count)
    appended_us = np.fromiter(map(TIMESTAMP, records), np.int64, count) * 1000
    keys = _Keys([key or b"" for key in map(KEY, records)])
    in_blocks = np.zeros(len(records), bool)
    pieces: dict[bytes, list[_Piece]] = {}
    singly: set[bytes] = set()
    for block in blocks:
        in_blocks[block.at] = True
        for key, piece in _sorted_out(block, keys):
            if piece is None:
                singly.add(key)
            else:
                pieces.setdefault(key, []).append(piece)
    singly.update(keys.names[at] for at in keys.number[~in_blocks].tolist())
    found: dict[bytes, Batch] = {}
    for key, parts in pieces.items():
        batch = None if key in singly else _batch(parts, key, offsets, appended_us)
        if batch is None:
            singly.add(key)
        else:
            found[key] = batch
    if not singly:
        return found, []
    return found, [at for block in blocks for at in block.at.tolist() if keys.names[keys.number[at]] in singly]


class _Keys:
    """The keys of some records, numbered."""

    def __init__(self, keys: list[bytes]) -> None:
        places = {key: at for at, key in enumerate(dict.fromkeys(keys))}
        self.number = np.fromiter(map(places.__getitem__, keys), np.intp, len(keys))  # (n,) among the names
        self.names = list(places)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Frames of one device and spool in one block, m of n rows."""

    at: Index  # (m,) which of the records
    spool_id: bytes
    sequences: Longs  # (m,)
    channels: tuple[str, ...]
    times: Longs  # (m, n)
    values: Doubles  # (m, n, c)


def _sorted_out(block: RawBlock, keys: _Keys) -> Iterator[tuple[bytes, _Piece | None]]:
    """The frames of each key; None: they are not all of that device, or of several spools."""
    number = keys.number[block.at]
    order = np.argsort(number.astype(np.uint16) if len(keys.names) < 1 << 16 else number, kind="stable")
    at, number = block.at[order], number[order]
    spools, sequences = block.spool_ids[order], block.sequences[order]
    times, values = block.times[order], block.values[order]
    first = np.ones(len(at), bool)
    first[1:] = number[1:] != number[:-1]
    begins = np.flatnonzero(first)
    names = [keys.names[one] for one in number[begins].tolist()]
    own = _named(names, np.cumsum(first) - 1, block.device_ids[order])
    own[1:] &= first[1:] | (spools[1:] == spools[:-1]).all(axis=1)
    sound = np.logical_and.reduceat(own, begins).tolist()
    ends = [*begins[1:].tolist(), len(at)]
    for name, begin, end, is_sound in zip(names, begins.tolist(), ends, sound, strict=True):
        part = slice(begin, end)
        piece = None
        if is_sound:
            spool_id = spools[begin].tobytes()
            piece = _Piece(at[part], spool_id, sequences[part], block.channels, times[part], values[part])
        yield name, piece


def _named(names: list[bytes], of: Index, ids: Octets) -> Bools:
    """Which of the ids (m, d) are those of their names, byte for byte."""
    d = ids.shape[1]
    fits = np.array([len(name) == d for name in names], bool)
    octets = np.frombuffer(b"".join([name if len(name) == d else bytes(d) for name in names]), np.uint8)
    same: Bools = (octets.reshape(len(names), d)[of] == ids).all(axis=1)
    same &= fits[of]
    return same


def _batch(pieces: list[_Piece], key: bytes, offsets: Longs, appended_us: Longs) -> Batch | None:
    """Frames that have one key; None: they are of several spools or channel lists."""
    piece = pieces[0]
    at, sequences = piece.at, piece.sequences
    rows = np.full(len(at), piece.times.shape[1])
    times, values = piece.times.reshape(-1), piece.values.reshape(-1, len(piece.channels))
    if len(pieces) > 1:
        if len({(each.spool_id, each.channels) for each in pieces}) > 1:
            return None
        at = np.concatenate([each.at for each in pieces])
        rows = np.repeat([each.times.shape[1] for each in pieces], [len(each.at) for each in pieces])
        order = np.argsort(at)  # back into log order
        by_row = np.argsort(np.repeat(np.argsort(order), rows), kind="stable")
        sequences = np.concatenate([each.sequences for each in pieces])[order]
        times = np.concatenate([each.times.reshape(-1) for each in pieces])[by_row]
        values = np.concatenate([each.values.reshape(-1, len(piece.channels)) for each in pieces])[by_row]
        at, rows = at[order], rows[order]
    return Batch(
        key.decode(),
        piece.spool_id.decode(),
        sequences,
        offsets[at],
        appended_us[at],
        rows,
        piece.channels,
        times,
        values,
    )
