"""Campbell's binary cells to numbers. Pure: a numpy record of raw cells in, columns out. Knows no file.

FP2: sign, two bits of decimal exponent, 13 bits of mantissa, high byte first (CR1000 manual, appendix on FP2 data).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from producers.files.logger_file import Kind
from schemas.columnar import Doubles

SECONDS_1990 = 631_152_000  # from 1970 to Campbell's epoch

Raw = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CellType:
    """How a cell lies in the file, and what it is."""

    raw: str  # numpy's name
    kind: Kind
    read: Callable[[Raw], Doubles]


def _plain(raw: Raw) -> Doubles:
    values = raw.astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _fp2(raw: Raw) -> Doubles:
    cells = raw.astype(np.int64)
    mantissa, exponent = cells & 0x1FFF, (cells >> 13) & 3
    values: Doubles = mantissa / np.array([1.0, 10.0, 100.0, 1000.0])[exponent]
    values[(cells & 0x8000) != 0] *= -1
    # 8191 is infinity, 8190 not a number, and what exceeds the format is written as 7999.
    values[(exponent == 0) & (mantissa >= 7999)] = np.nan
    return values


def _fp4(raw: Raw) -> Doubles:
    """Sign, 7 bits of exponent of two with an excess of 64, 24 bits of mantissa (CR10X manual, appendix C)."""
    cells = raw.astype(np.int64)
    values: Doubles = np.ldexp((cells & 0xFFFFFF) / 2.0**24, ((cells >> 24) & 0x7F) - 64)
    values[(cells & 0x80000000) != 0] *= -1
    values[np.abs(values) >= 99_999] = np.nan
    return values


def _ieee4(raw: Raw) -> Doubles:
    with np.errstate(invalid="ignore"):
        return shortest(raw.astype(np.float32))


def shortest(values: npt.NDArray[np.float32]) -> Doubles:
    """Each as the decimal of fewest digits that is this very number: 0.1 and not 0.10000000149, as loggers print it."""
    with np.errstate(invalid="ignore"):  # broken bytes may be a signalling NaN
        exact = values.astype(np.float64)
    exact[~np.isfinite(exact)] = np.nan
    out = exact.copy()
    left = np.isfinite(exact) & (exact != 0)
    with np.errstate(all="ignore"):
        power = np.floor(np.log10(np.abs(exact)))
        for digits in (7, 8):
            scale = 10.0 ** np.abs(digits - 1 - power)
            up = digits - 1 >= power
            near = np.where(up, np.rint(exact * scale) / scale, np.rint(exact / scale) * scale)
            same = left & (near.astype(np.float32) == values)
            out[same] = near[same]
            left &= ~same
    return out


def _bool(raw: Raw) -> Doubles:
    return np.where(raw != 0, -1.0, 0.0)  # as Campbell writes true


def _none(raw: Raw) -> Doubles:
    return np.full(len(raw), np.nan)


_TYPES: dict[str, CellType] = {
    "FP2": CellType(">u2", Kind.VALUE, _fp2),
    "FP4": CellType(">u4", Kind.VALUE, _fp4),
    "IEEE4": CellType("<f4", Kind.VALUE, _ieee4),
    "IEEE4L": CellType("<f4", Kind.VALUE, _ieee4),
    "IEEE4B": CellType(">f4", Kind.VALUE, _ieee4),
    "IEEE8": CellType("<f8", Kind.VALUE, _plain),
    "IEEE8L": CellType("<f8", Kind.VALUE, _plain),
    "IEEE8B": CellType(">f8", Kind.VALUE, _plain),
    "USHORT": CellType("<u2", Kind.VALUE, _plain),
    "SHORT": CellType("<i2", Kind.VALUE, _plain),
    "UINT1": CellType("u1", Kind.VALUE, _plain),
    "INT1": CellType("i1", Kind.VALUE, _plain),
    "UINT2": CellType(">u2", Kind.VALUE, _plain),
    "INT2": CellType(">i2", Kind.VALUE, _plain),
    "UINT4": CellType(">u4", Kind.VALUE, _plain),
    "INT4": CellType(">i4", Kind.VALUE, _plain),
    "ULONG": CellType("<u4", Kind.VALUE, _plain),
    "LONG": CellType("<i4", Kind.VALUE, _plain),
    "BOOL": CellType("u1", Kind.VALUE, _bool),
    "BOOL2": CellType("<u2", Kind.VALUE, _bool),
    "BOOL4": CellType("<u4", Kind.VALUE, _bool),
    "BOOL8": CellType("u1", Kind.TEXT, _none),  # eight bits, written as text
    "SECNANO": CellType("<u4,<u4", Kind.TIME, _none),
    "NSEC": CellType(">u4,>u4", Kind.TIME, _none),
}
_ASCII = re.compile(r"ASCII\((\d{1,5})\)", re.ASCII)


def cell_type(word: str) -> CellType | None:
    """Of the header's word for it; None for one that is not known."""
    text = word.strip().upper()
    found = _ASCII.fullmatch(text)
    if found and int(found[1]):
        return CellType(f"S{int(found[1])}", Kind.TEXT, _none)
    return _TYPES.get(text)


def text_of(raw: Raw) -> list[str]:
    """Cells of a column of text, times or bits."""
    if raw.dtype.kind == "S":
        return [bytes(cell).split(b"\0")[0].decode("latin-1") for cell in raw.tolist()]
    if raw.dtype.names:
        first, second = raw.dtype.names
        times = (raw[first].astype(np.int64) + SECONDS_1990) * 1_000_000 + raw[second].astype(np.int64) // 1000
        return [str(each) for each in times.astype("datetime64[us]")]
    return [f"{int(cell):08b}"[::-1] for cell in raw.tolist()]
