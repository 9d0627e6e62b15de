"""Rows of text, a whole block at a time. Arrays in, bytes out.

Numbers are the shortest that read back as the same double. A block of a hundred thousand cells is one call of a column
each, and one that joins them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.exports.arrow import doubles, text, texts, times
from dashboard.exports.choice import Choice
from dashboard.exports.clock import Clock
from dashboard.exports.query import Block
from dashboard.exports.request import Format
from schemas.columnar import Doubles

US = 1_000_000


class NeedsFractions(Exception):  # noqa: N818 - no trouble: the file is begun again with finer stamps
    """A stamp is no whole second, and those before it were written as if all were."""


@dataclass(frozen=True, slots=True)
class Cells:
    """How cells are written."""

    separator: str
    decimal: str
    missing: str
    line_end: str

    def rows(self, stamps: pa.Array, values: Sequence[Doubles]) -> bytes:
        """All rows of a block."""
        if not len(stamps):
            return b""
        columns = [stamps, *(self._column(each) for each in values)]
        columns[-1] = pc.binary_join_element_wise(columns[-1], text(self.line_end), text(""))
        joined = pc.binary_join_element_wise(*columns, text(self.separator))
        ends = np.frombuffer(joined.buffers()[1], np.int32, len(joined) + 1)
        return memoryview(joined.buffers()[2])[ends[0] : ends[-1]].tobytes()

    def _column(self, values: Doubles) -> pa.Array:
        texts = pc.cast(doubles(values), pa.string())
        if self.decimal != ".":
            texts = pc.replace_substring(texts, ".", self.decimal)
        return pc.fill_null(texts, text(self.missing))


def stamps(block: Block, choice: Choice) -> pa.Array:
    """The rows' stamps as text, in the file's zone. Raises `NeedsFractions`."""
    times_us = block.times_us + stamp_shift_us(choice)
    if not choice.has_fractions and bool((times_us % US).any()):
        raise NeedsFractions
    kind = pa.timestamp("us" if choice.has_fractions else "s")
    array = pc.cast(times(times_us + choice.clock.offsets_us(times_us), kind), pa.string())
    if choice.clock.offset_minutes is None or (
        choice.clock.is_named and choice.request.format in (Format.CSV, Format.IEA43)
    ):
        array = pc.binary_join_element_wise(array, texts(_offsets(choice.clock, times_us)), text(""))
    return array


def stamp_shift_us(choice: Choice) -> int:
    """What is added to the beginning of the interval."""
    if choice.request.stamp == "begin" or choice.step_s is None:
        return 0
    return round(choice.step_s * US)


def _offsets(clock: Clock, times_us: npt.NDArray[np.int64]) -> list[str]:
    known: dict[int, str] = {}
    return [
        known.setdefault(offset, Clock("", clock.zone, offset // (60 * US)).told.removeprefix("UTC"))
        for offset in clock.offsets_us(times_us).tolist()
    ]
