"""Rules on values and on their rate of change, over the rows of a frame. Pure: arrays in, conditions to the panel.

Readings count in order of their time: one that is not newer than all before it is too late to be judged. Failed and
missing readings are not judged: a sensor's error is the quality tests' matter.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.columnar import Doubles, Longs
from schemas.devices import DIRECTIONS, RuleKind
from schemas.frames import Ints
from schemas.quality import Flag
from streams.alarms.memory import Judging
from streams.alarms.panel import Panel
from streams.alarms.rules import Bound, Rules

Bools = npt.NDArray[np.bool_]
US = 1e6


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The value rules that concern some channels: r rules on k channels."""

    bounds: tuple[Bound, ...]  # (r,)
    columns: npt.NDArray[np.intp]  # (k,) of the frame
    places: npt.NDArray[np.intp]  # (k,) among the device's channels that have rules
    of: npt.NDArray[np.intp]  # (r,) which of the k
    sign: Doubles  # (r,) -1 for a rule that looks below
    on: Doubles  # (r,) sign * limit
    off: Doubles  # (r,) where the condition ends
    rates: tuple[int, ...]  # which of the r are rates


def thresholds_of(rules: Rules, channels: tuple[str, ...]) -> Thresholds | None:
    """For a frame's channels; None: no rule concerns them."""
    bounds = tuple(bound for bound in rules.values if bound.channel in channels)
    if not bounds:
        return None
    judged = [name for name in channels if name in rules.channels]
    sign = np.array([-1.0 if bound.kind is RuleKind.BELOW else 1.0 for bound in bounds])
    on = sign * np.array([bound.limit for bound in bounds], np.float64)
    return Thresholds(
        bounds,
        np.array([channels.index(name) for name in judged], np.intp),
        np.array([rules.channels.index(name) for name in judged], np.intp),
        np.array([judged.index(bound.channel) for bound in bounds], np.intp),
        sign,
        on,
        on - np.array([bound.hysteresis for bound in bounds]),
        tuple(at for at, bound in enumerate(bounds) if bound.kind is RuleKind.RATE),
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """Calibrated rows, in log order: n rows of c channels."""

    times: Longs  # (n,)
    values: Doubles  # (n, c)
    flags: Ints  # (n, c)
    fresh: Bools | None = None  # (n, c) which are there, and newer than those before them; None: by their times


def judge_values(
    judging: Judging, rows: Rows, thresholds: Thresholds, panel: Panel, channels: tuple[str, ...]
) -> Judging:
    """Give the panel the conditions that the rows bring about; what has been judged now."""
    judging = judging.aligned(channels)
    before = judging.times[thresholds.places]  # (k,)
    times = rows.times
    values = rows.values[:, thresholds.columns]  # (n, k)
    late = _late(times, before)
    if rows.fresh is not None:
        late = ~rows.fresh[:, thresholds.columns] | (times[:, None] <= before)
    if late is not None:
        values = np.where(late, np.nan, values)
    quiet = not panel.entries or not any(bound.key in panel.entries for bound in thresholds.bounds)
    usable = values
    beyond = values[:, thresholds.of] * thresholds.sign > thresholds.on
    if thresholds.rates or not quiet or beyond.any():  # so much for almost every frame without trouble
        usable = np.where(rows.flags[:, thresholds.columns] == Flag.FAIL, np.nan, values)
        last = judging.values[thresholds.places]
        for at, bound in enumerate(thresholds.bounds):
            k = int(thresholds.of[at])
            if bound.kind is RuleKind.RATE:
                _judge_rate(bound, times, usable[:, k], (int(before[k]), float(last[k])), late, k, panel)
            elif bound.key in panel.entries or beyond[:, at].any():
                told = ~np.isnan(usable[:, k])
                signed = usable[told, k] * thresholds.sign[at]
                on, off = signed > thresholds.on[at], signed <= thresholds.off[at]
                _conditions(bound, times[told], usable[told, k], on, off, panel)
    newest, last_values = judging.times.copy(), judging.values.copy()
    if late is None:
        newest[thresholds.places] = times[-1]
        last_values[thresholds.places] = usable[-1]
    else:
        for k, place in enumerate(thresholds.places.tolist()):
            fresh = np.flatnonzero(~late[:, k])
            if len(fresh):
                newest[place], last_values[place] = times[fresh[-1]], usable[fresh[-1], k]
    return replace(judging, times=newest, values=last_values)


def _late(times: Longs, before: Longs) -> Bools | None:
    """Which readings (n, k) are not newer than all before them; None: all are newer."""
    in_order = len(times) == 1 or bool((times[1:] > times[:-1]).all())
    if in_order and times[0] > before.max():
        return None
    newest = np.maximum.accumulate(times)
    late = np.empty(len(times), bool)
    late[0], late[1:] = False, times[1:] <= newest[:-1]
    result: Bools = late[:, None] | (times[:, None] <= before)
    return result


@np.errstate(over="ignore", invalid="ignore")  # between absurd numbers
def _judge_rate(  # noqa: PLR0917
    bound: Bound, times: Longs, values: Doubles, last: tuple[int, float], late: Bools | None, k: int, panel: Panel
) -> None:
    """Changes per second from each reading to the next; over a missing one there is none."""
    fresh = slice(None) if late is None else ~late[:, k]
    times, values = times[fresh], values[fresh]
    if not len(times):
        return
    steps_us = np.diff(times, prepend=last[0]).astype(np.float64) if not np.isnan(last[1]) else _steps(times)
    change = np.diff(values, prepend=last[1])
    if bound.quantity in DIRECTIONS:
        change = np.mod(change + 180.0, 360.0) - 180.0
    rates = np.abs(change) / steps_us * US
    told = ~np.isnan(rates)
    limit = bound.limit or 0.0
    on, off = rates > limit, rates <= limit - bound.hysteresis
    if bound.key in panel.entries or on.any():
        _conditions(bound, times[told], rates[told], on[told], off[told], panel)


def _steps(times: Longs) -> Doubles:
    """Without a reading before the first there is no first step."""
    steps = np.full(len(times), np.nan)
    steps[1:] = np.diff(times)
    return steps


def _conditions(bound: Bound, times: Longs, values: Doubles, on: Bools, off: Bools, panel: Panel) -> None:  # noqa: PLR0917
    """Between `on` and `off` the condition stays what it was. Only its changes are steps; delays end at readings."""
    if not len(times):
        return
    said = np.flatnonzero(on | off)
    states = on[said]
    first = panel.holds(bound.key)
    changes = said[states != np.concatenate(([first], states[:-1]))] if len(said) else said
    for at in changes.tolist():
        if at:
            panel.tick(bound, int(times[at - 1]))  # a delay may have ended at the reading before
        panel.condition(bound, bool(on[at]), int(times[at]), float(values[at]))
    panel.tick(bound, int(times[-1]))
