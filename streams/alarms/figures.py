"""Rules on closed windows. Pure: a window record in, conditions to the panel. Time is the window's end."""

import numpy as np

from schemas.columnar import Doubles
from schemas.devices import RuleKind
from schemas.frames import WindowFrame
from streams.alarms.panel import Panel
from streams.alarms.rules import Bound, Rules

US = 1_000_000

_QUIET = np.errstate(divide="ignore", invalid="ignore")


def judge_windows(frame: WindowFrame, rules: Rules, panel: Panel) -> None:
    """The windows of one record, each for all rules on windows of its length."""
    if not len(frame.starts) or frame.revisions[0]:
        return  # a corrected window is the evidence put right, not news
    bounds = rules.figures.get(int(frame.lengths_s[0]), ())
    figures: dict[str, Doubles] = {}
    spans: dict[str, tuple[float, float]] = {}
    rows: dict[str, list[int]] | None = None
    for bound in bounds:
        name = "failed" if bound.kind is RuleKind.QUALITY_SHARE else bound.figure
        if name not in figures:
            figures[name] = _figure(frame, name)
            spans[name] = float(np.fmin.reduce(figures[name])), float(np.fmax.reduce(figures[name]))
        below, limit = bound.kind is RuleKind.WINDOW_BELOW, bound.limit or 0.0
        low, high = spans[name]
        if bound.key not in panel.entries and not (low < limit if below else high > limit):
            continue
        signed = -figures[name] if below else figures[name]
        if rows is None:
            rows = {}
            for at, channel in enumerate(frame.channels):
                rows.setdefault(channel, []).append(at)
        _conditions(bound, frame, rows.get(bound.channel, []), signed, panel)


@_QUIET
def _figure(frame: WindowFrame, name: str) -> Doubles:
    """One number per window; NaN where there is none."""
    if name == "failed":
        return np.asarray(frame.failed / (frame.counts + frame.suspect + frame.failed + frame.missing))
    if name == "completeness":
        return np.where(frame.expected > 0, (frame.counts + frame.suspect + frame.failed) / frame.expected, np.nan)
    return {"mean": frame.means, "sd": frame.sds, "min": frame.minima, "max": frame.maxima}[name]


def _conditions(bound: Bound, frame: WindowFrame, rows: list[int], signed: Doubles, panel: Panel) -> None:
    sign = -1.0 if bound.kind is RuleKind.WINDOW_BELOW else 1.0
    on, off = sign * (bound.limit or 0.0), sign * (bound.limit or 0.0) - bound.hysteresis
    for at in rows:
        number = float(signed[at])
        end_us = int(frame.starts[at]) + bound.length_s * US
        if number > on:
            panel.condition(bound, True, end_us, sign * number)
        elif number <= off:
            panel.condition(bound, False, end_us, sign * number)
        else:
            panel.tick(bound, end_us)
