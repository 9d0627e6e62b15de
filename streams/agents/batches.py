"""Blocks of frames, sorted out by device. Knows records as they were consumed; decodes nothing."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.blocks import RawBlock
from schemas.columnar import Longs
from streams.validation import Batch

Index = npt.NDArray[np.intp]


class Record(Protocol):
    """A consumed record, as aiokafka gives it."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int  # ms, the broker's append time


def batches(blocks: Sequence[RawBlock], records: Sequence[Record]) -> tuple[dict[bytes, Batch], list[int]]:
    """One batch for each key whose frames are all in blocks, and which records of the blocks are to be read singly.

    Args:
        blocks: of `records`.
        records: of `readings.raw`, in log order.
    """
    offsets = np.array([record.offset for record in records], np.int64)
    appended_us = np.array([record.timestamp for record in records], np.int64) * 1000
    of_each = [record.key for record in records]
    keys = {key: at for at, key in enumerate(dict.fromkeys(of_each))}
    number = np.array([keys[key] for key in of_each], np.intp)
    in_blocks = np.zeros(len(records), bool)
    pieces: dict[int, list[_Piece]] = {}
    for block in blocks:
        in_blocks[block.at] = True
        order = np.argsort(number[block.at], kind="stable")
        of = number[block.at[order]]
        begins = np.flatnonzero(np.concatenate(([True], of[1:] != of[:-1])))
        for key, some in zip(of[begins].tolist(), np.split(order, begins[1:]), strict=True):
            pieces.setdefault(key, []).append((block, some))
    names = list(keys)
    singly = set(number[~in_blocks].tolist())
    found: dict[bytes, Batch] = {}
    others: list[int] = []
    for key, parts in pieces.items():
        name = names[key]
        batch = None if name is None or key in singly else _batch(parts, name, offsets, appended_us)
        if batch is None or name is None:
            others += [at for block, some in parts for at in block.at[some].tolist()]
        else:
            found[name] = batch
    return found, others


_Piece = tuple[RawBlock, Index]  # some of the frames of a block


def _batch(pieces: list[_Piece], key: bytes, offsets: Longs, appended_us: Longs) -> Batch | None:
    """Frames that have one key; None: they are not all of that device, or of several spools or channel lists."""
    first, some = pieces[0]
    spool_id, channels = first.spool_ids[some[0]], first.channels
    for block, of in pieces:
        device_ids, spool_ids = block.device_ids[of], block.spool_ids[of]
        if len(key) != device_ids.shape[1] or (device_ids != np.frombuffer(key, np.uint8)).any():
            return None
        if len(spool_id) != spool_ids.shape[1] or (spool_ids != spool_id).any() or block.channels != channels:
            return None
    at = np.concatenate([block.at[of] for block, of in pieces])
    sequences = np.concatenate([block.sequences[of] for block, of in pieces])
    rows = np.concatenate([np.full(len(of), block.times.shape[1]) for block, of in pieces])
    times = np.concatenate([block.times[of].reshape(-1) for block, of in pieces])
    values = np.concatenate([block.values[of].reshape(-1, len(channels)) for block, of in pieces])
    if len(pieces) > 1:  # back into log order
        order = np.argsort(at)
        which = np.repeat(np.argsort(order), rows)  # of each row, the place of its frame
        by_row = np.argsort(which, kind="stable")
        at, sequences, rows, times, values = at[order], sequences[order], rows[order], times[by_row], values[by_row]
    return Batch(
        key.decode(),
        spool_id.tobytes().decode(),
        sequences,
        offsets[at],
        appended_us[at],
        rows,
        channels,
        times,
        values,
    )
