"""From tests to one flag per reading. Pure: rows and what is remembered in, flags and test bits out.

The worst flag wins (4 over 3 over 1 over 2) and the bits say which tests gave it; a missing reading is 9.

The result for a series does not depend on how it is cut into frames. Only the spike test (and the gap test for the
first row of all) looks at the row that follows: until it comes, a row is judged by the other tests, and if the verdict
changes its flag, the row comes back as a correction, to be sent again with its identity.

A row whose time is not after the last one of its channel came late. It is judged by the tests that look at one row
alone, and changes neither what is remembered nor the verdict on its neighbours, which have been sent. A late row of
the very time of the last one replaces that one where readings are kept: it is corrected no more.

Windows and alarms are about verdicts: `Judged.settled` has the readings whose flags change no more.

For the tests that compare readings an infinite one counts as missing: it fails by its range.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from schemas.columnar import Doubles, Longs
from schemas.quality import Test
from streams.quality.checks import Checks
from streams.quality.context import FLAG, SETTLED, Bytes, Context, fitted
from streams.quality.found import Index
from streams.quality.glance import glance
from streams.quality.gross_range import gross_range
from streams.quality.look_back import Part, Seen, look_back, parts_of, replaced
from streams.quality.settled import Settled, settled
from streams.quality.sheet import Sheet


@dataclass(frozen=True, slots=True)
class Correction:
    """A row that was sent and has another flag now: some columns of the frame's channel list."""

    time: int  # µs UTC
    columns: Index  # (k,)
    logged: Doubles  # (k,)
    values: Doubles
    flags: Bytes
    tests: Longs


class Judged(NamedTuple):
    """What is to be remembered, and what became of the rows."""

    context: Context
    flags: Bytes  # (n, c)
    tests: Longs  # (n, c)
    corrections: tuple[Correction, ...]  # earlier rows than these, oldest first
    settled: Settled  # the readings whose flags are known for good now


def judge(
    context: Context,
    times: Longs,
    values: Doubles,
    logged: Doubles,
    checks: Checks,
    *,
    known: Longs | None = None,
) -> Judged:
    """Flags and test bits of calibrated values.

    Args:
        context: what is remembered of the device.
        times: (n,) µs UTC, in the order in which the rows came.
        values: (n, c) calibrated, NaN = missing.
        logged: (n, c) as logged; kept for corrections.
        checks: of the c channels.
        known: (n, c) bits that are known of the readings already.
    """
    context = fitted(context, checks.course.layout)
    if not values.size:
        none = np.empty(values.shape, np.uint8)
        return Judged(context, none, np.zeros(values.shape, np.int64), (), Settled(times, values, none))
    parts = parts_of(context, times, checks) if checks.looks_back else []
    late = checks.looks_back and not _are_all(parts, checks)
    doubt = checks.late_doubt if late else checks.doubt
    with np.errstate(over="ignore", invalid="ignore"):
        clean, look = values, glance(values, doubt)
        sheet = Sheet(values, look.missing, checks.late_base if late else checks.base, known)
        ranged = gross_range(values, look, checks.spans)
        if ranged:
            sheet.mark(Test.GROSS_RANGE, ranged[1], ranged[0])
            if look.infinite():
                clean = np.where(np.isinf(values), np.nan, values)
                look = glance(clean, doubt)
        for test, pointwise in checks.pointwise:
            doubtful = look.doubtful(pointwise.columns.at)
            sheet.mark(test, pointwise.find(clean, times, look), pointwise.columns.at, doubtful=doubtful)
        seen = [look_back(context, part, times, clean, look, sheet, late=late) for part in parts]
    sheet.finish()
    corrections = []
    for part, each in zip(parts, seen, strict=True):
        corrections += _corrections(context, part, each)
    before = context
    for part, each in zip(parts, seen, strict=True):
        context = each.remembered(context, part, values, logged, sheet)
    if late or (context.waiting and not checks.looks_back):
        context = replaced(context, times, parts, checks)
    readings = Settled(times, values, sheet.flags)
    if checks.looks_back and (before.waiting or context.waiting):  # without, all are settled
        readings = settled(before, readings, parts, seen)
    return Judged(context, sheet.flags, sheet.tests, tuple(sorted(corrections, key=lambda each: each.time)), readings)


def _are_all(parts: list[Part], checks: Checks) -> bool:
    """Whether they are the whole frame: a channel of which no row is in order has no part."""
    channels = sum(len(part.sequence.columns.at) for part in parts)
    return channels == len(checks.channels) and all(part.rows is None for part in parts)


def _corrections(context: Context, part: Part, seen: Seen) -> list[Correction]:
    """The row before these, if the verdict on it has changed its flags."""
    if not seen.changed:
        return []
    sent = part.sequence.places.among(context.flags)
    known = part.sequence.places.among(context.tests)
    open_ = (sent & SETTLED) == 0
    if not (((seen.last_flags != sent & FLAG) | (seen.last_tests != known)) & open_).any():
        return []
    at = np.flatnonzero(open_)
    places = part.sequence.places.at[at]
    return [
        Correction(
            part.last_us,
            part.sequence.columns.at[at],
            context.logged[places],
            context.values[places],
            seen.last_flags[at],
            seen.last_tests[at],
        )
    ]
