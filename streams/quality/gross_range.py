"""QARTOD's gross range test. Pure: values and spans in, masks out.

A value on a bound is good. An infinite value fails, whatever the spans: no sensor measures it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.columnar import Doubles
from schemas.limits import GrossRange
from streams.quality.found import Bools, Found, Index
from streams.quality.glance import Glance

LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class Spans:
    """Bounds of c channels; the largest numbers there are where none is set."""

    fail_min: Doubles  # (c,)
    fail_max: Doubles
    suspect_min: Doubles
    suspect_max: Doubles
    inner_min: Doubles  # within both
    inner_max: Doubles
    limited: Bools  # (c,) whether the channel has any bound


def spans_of(ranges: Sequence[GrossRange | None]) -> Spans:
    """The bounds of c channels."""
    everything = (-LARGEST, LARGEST)
    fail = np.array([r.fail if r and r.fail else everything for r in ranges], np.float64).reshape(-1, 2)
    suspect = np.array([r.suspect if r and r.suspect else everything for r in ranges], np.float64).reshape(-1, 2)
    limited = np.array([r is not None and (r.fail is not None or r.suspect is not None) for r in ranges], bool)
    return Spans(
        fail[:, 0],
        fail[:, 1],
        suspect[:, 0],
        suspect[:, 1],
        np.maximum(fail[:, 0], suspect[:, 0]),
        np.minimum(fail[:, 1], suspect[:, 1]),
        limited,
    )


def gross_range(values: Doubles, seen: Glance, spans: Spans) -> tuple[Index, Found] | None:
    """What is out of range among values (n, c), and in which columns; None: nothing."""
    out = (seen.low < spans.inner_min) | (seen.high > spans.inner_max)
    if not out.any():
        return None
    at = np.flatnonzero(out)
    some = values[:, at]
    suspect = (some < spans.suspect_min[at]) | (some > spans.suspect_max[at])
    fail = (some < spans.fail_min[at]) | (some > spans.fail_max[at])
    return at, Found(suspect & np.isfinite(some), fail, None)
