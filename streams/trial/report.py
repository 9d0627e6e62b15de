"""What the limits make of the rows. Pure: runs the stage's tests, all together and each alone."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.devices import Device, Sensor, Station
from schemas.errors import Refused
from schemas.limits import Limits
from schemas.quality import Flag, Test
from streams.quality.checks import course_of
from streams.quality.judge import Judged, judge
from streams.trial.limits_file import Asked
from streams.trial.rows import Rows

Flags = npt.NDArray[np.uint8]
WORDS = {Flag.GOOD: "good", Flag.NOT_EVALUATED: "not evaluated", Flag.SUSPECT: "suspect", Flag.FAIL: "fail"}
WORDS[Flag.MISSING] = "missing"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One channel's: flags (n,), by all tests and by each alone."""

    channel: str
    flags: Flags
    tests: dict[str, Flags]


def verdicts(rows: Rows, asked: Asked, channels: Iterable[str], *, where: str) -> list[Verdict]:
    """Raises `Refused` for limits that name a column which is not there."""
    for key, column in asked.limits.channels():
        if column not in rows.columns:
            table, _, key = key.partition(".")  # noqa: PLW2901 - its two parts
            known = ", ".join(rows.columns)
            raise Refused(f'{where}: [{table}] {key} = "{column}" is no column of the file (columns: {known})')
    chosen = tuple(channels)
    together = _judged(rows, asked, chosen, asked.limits)
    alone = {
        name: _judged(rows, asked, chosen, Limits(**{name: getattr(asked.limits, name)})) for name in asked.tables()
    }
    found = []
    for channel in chosen:
        at = rows.columns.index(channel)
        tests = {name: _by(judged, Test[name.upper()], at) for name, judged in alone.items()}
        found.append(Verdict(channel, together.flags[:, at], tests))
    return found


def _judged(rows: Rows, asked: Asked, chosen: tuple[str, ...], limits: Limits) -> Judged:
    device = _device(rows.columns, asked, chosen, limits)
    course = course_of(device)
    return judge(course.begin(), rows.times, rows.values, rows.values, course.checks(rows.columns))


def _by(judged: Judged, test: Test, at: int) -> Flags:
    """Flags by one test; an infinite reading fails by its range, which this test has nothing to do with."""
    flags, said = judged.flags[:, at], judged.tests[:, at] & test > 0
    others = np.isin(flags, (Flag.SUSPECT, Flag.FAIL)) & ~said
    return np.where(others, np.uint8(Flag.NOT_EVALUATED), flags)


def _device(columns: tuple[str, ...], asked: Asked, chosen: tuple[str, ...], limits: Limits) -> Device:
    sensors = tuple(
        Sensor(
            channel=column,
            point=column,
            quantity=asked.quantity if column in chosen else "value",
            unit="",
            statistic=asked.statistic if column in chosen else "value",
            limits=limits if column in chosen else Limits(),
        )
        for column in columns
    )
    return Device(
        device_id="trial",
        name="trial",
        station=Station(station_id="trial", name="trial"),
        interval_s=asked.interval_s,
        sensors=sensors,
        configured_at=datetime(1970, 1, 1, tzinfo=UTC),
        configured_by="trial",
    )


def as_json(rows: Rows, found: list[Verdict], *, several: bool) -> dict[str, Any]:
    """The one channel's arrays, or those of each."""
    each = {
        verdict.channel: {
            "time": list(rows.said),
            "value": [value if np.isfinite(value) else None for value in _column(rows, verdict).tolist()],
            "flag": verdict.flags.tolist(),
            "tests": {name: flags.tolist() for name, flags in verdict.tests.items()},
        }
        for verdict in found
    }
    return {"channels": each} if several else next(iter(each.values()))


def as_text(rows: Rows, found: list[Verdict], *, shown_max: int) -> Iterator[str]:
    """Counts by flag and test, and the rows that are flagged."""
    for verdict in found:
        counts = ", ".join(f"{n} {WORDS[flag]}" for flag in Flag if (n := int((verdict.flags == flag).sum())))
        yield f"{verdict.channel}: {len(verdict.flags)} rows: {counts}"
        for name, flags in verdict.tests.items():
            suspect, fail = int((flags == Flag.SUSPECT).sum()), int((flags == Flag.FAIL).sum())
            unsaid = int((flags == Flag.NOT_EVALUATED).sum())
            yield f"  {name:<18}{suspect:>9} suspect{fail:>9} fail{unsaid:>9} not evaluated"
        flagged = np.flatnonzero(np.isin(verdict.flags, (Flag.SUSPECT, Flag.FAIL)))
        for row in flagged[:shown_max].tolist():
            why = ", ".join(name for name, flags in verdict.tests.items() if flags[row] in {Flag.SUSPECT, Flag.FAIL})
            value = _column(rows, verdict)[row]
            yield f"  {rows.said[row]}  {value:>12.6g}  {WORDS[Flag(int(verdict.flags[row]))]:<8}{why or 'gross_range'}"
        if len(flagged) > shown_max:
            yield f"  ... and {len(flagged) - shown_max} more (--rows {len(flagged)} shows all)"
    late = int((rows.times <= np.maximum.accumulate(np.append(rows.times[0] - 1, rows.times))[:-1]).sum())
    if late:
        yield f"{late} rows are not in order of time: only the tests that look at one row judge them"


def _column(rows: Rows, verdict: Verdict) -> npt.NDArray[np.float64]:
    column: npt.NDArray[np.float64] = rows.values[:, rows.columns.index(verdict.channel)]
    return column
