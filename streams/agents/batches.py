"""Blocks of frames, sorted out by device. Knows records as they were consumed; decodes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.blocks import RawBlock
from schemas.columnar import Doubles, Longs
from streams.validation import Batch

Index = npt.NDArray[np.intp]


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


def key_of(record: Record) -> str:
    """The device that its sender says it is of."""
    return (record.key or b"").decode(errors="replace")


def batches(blocks: Sequence[RawBlock], records: Sequence[Record]) -> tuple[dict[bytes, Batch], list[int]]:
    """One batch for each key whose frames are all in blocks, and which records of the blocks are to be read singly.

    Args:
        blocks: of `records`.
        records: of `readings.raw`, in log order.
    """
    offsets = np.array([record.offset for record in records], np.int64)
    appended_us = np.array([record.timestamp for record in records], np.int64) * 1000
    keys = [record.key or b"" for record in records]
    places = {key: at for at, key in enumerate(dict.fromkeys(keys))}
    number = np.array([places[key] for key in keys], np.intp)
    in_blocks = np.zeros(len(records), bool)
    pieces: dict[bytes, list[_Piece]] = {}
    singly: set[bytes] = set()
    for block in blocks:
        in_blocks[block.at] = True
        for key, piece in _sorted_out(block, keys, number):
            if piece is None:
                singly.add(key)
            else:
                pieces.setdefault(key, []).append(piece)
    singly.update(keys[at] for at in np.flatnonzero(~in_blocks).tolist())
    found: dict[bytes, Batch] = {}
    for key, parts in pieces.items():
        batch = None if key in singly else _batch(parts, key, offsets, appended_us)
        if batch is None:
            singly.add(key)
        else:
            found[key] = batch
    if not singly:
        return found, []
    return found, [at for block in blocks for at in block.at.tolist() if keys[at] in singly]


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Frames of one device and spool in one block, m of n rows."""

    at: Index  # (m,) which of the records
    spool_id: bytes
    sequences: Longs  # (m,)
    channels: tuple[str, ...]
    times: Longs  # (m, n)
    values: Doubles  # (m, n, c)


def _sorted_out(block: RawBlock, keys: list[bytes], number: Index) -> Iterator[tuple[bytes, _Piece | None]]:
    """The frames of each key; None: they are not all of that device, or of several spools."""
    order = np.argsort(number[block.at], kind="stable")
    at = block.at[order]
    of = [keys[one] for one in at.tolist()]
    d = block.device_ids.shape[1]
    own = np.array([len(key) == d for key in of], bool)
    named = np.frombuffer(b"".join([key if len(key) == d else bytes(d) for key in of]), np.uint8).reshape(len(of), d)
    own &= (named == block.device_ids[order]).all(axis=1)
    spools, sequences = block.spool_ids[order], block.sequences[order]
    times, values = block.times[order], block.values[order]
    first = np.ones(len(at), bool)
    first[1:] = number[at[1:]] != number[at[:-1]]
    own[1:] &= first[1:] | (spools[1:] == spools[:-1]).all(axis=1)
    begins = np.flatnonzero(first)
    sound = np.logical_and.reduceat(own, begins).tolist()
    ends = [*begins[1:].tolist(), len(at)]
    for begin, end, is_sound in zip(begins.tolist(), ends, sound, strict=True):
        part = slice(begin, end)
        piece = None
        if is_sound:
            spool_id = spools[begin].tobytes()
            piece = _Piece(at[part], spool_id, sequences[part], block.channels, times[part], values[part])
        yield of[begin], piece


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
