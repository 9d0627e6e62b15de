"""Windographer text: tab, CRLF, a header, one constant step, stamps of its beginning; a log of flags beside it.

As Windographer 4 exports it, so that it reads it back without asking (help pages "Raw Data Files", "Exporting Time
Series Data"). The date in the first line is the end of the data, not today: equal data make equal files.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import BinaryIO

import numpy as np

from dashboard.exports.choice import Choice, Flagged
from dashboard.exports.clock import micros
from dashboard.exports.formats import PROGRAM, Source
from dashboard.exports.outputs import Outputs
from dashboard.exports.query import Block, Tally
from dashboard.exports.request import Figure
from dashboard.exports.text import Cells, stamps
from infra.printable import printable
from schemas.errors import Refused
from schemas.quality import Flag

STEP_S_MIN = 60.0
"""The shortest that Windographer accepts."""
LINE_END = "\r\n"
OFF_STEP = "between steps"
FLAG_HEAD = ("Data Column", "Flag Name", "Start Time", "End Time", "Time Steps")


def write(choice: Choice, source: Source, out: Outputs, tally: Tally) -> None:
    """The text, and the log of flags beside it. Raises `Refused` where there is no constant step."""
    check(choice)
    text(choice, source, out.main(), tally, is_strict=True)
    if choice.request.flag_log and choice.flagged:
        flag_log(choice, out.beside(f"{out.path.stem}_flags.txt"))


def check(choice: Choice) -> None:
    """Whether it can be told in this format at all."""
    if choice.clock.offset_minutes is None:
        raise Refused(
            f"Windographer text has one zone without summer time, and {choice.clock.name} changes within the period; "
            "say --zone station, UTC, or an offset such as +01:00"
        )
    if choice.step_s is None:
        raise Refused(
            "Windographer text has one constant step, and what was chosen has several or none that is configured; "
            "choose one device, or say --interval 10min"
        )
    if choice.step_s < STEP_S_MIN or choice.step_s % 1:
        raise Refused(f"steps of {choice.step_s:g} s: Windographer takes 1 minute or more; say --interval 10min")


def text(choice: Choice, source: Source, file: BinaryIO, tally: Tally, *, is_strict: bool) -> None:
    """Header and rows. Strict: what lies between two steps is left out, and counted."""
    cells = Cells(choice.request.cell_separator, choice.request.decimal, choice.request.missing, LINE_END)
    *lines, names, end = header(choice)
    file.write(LINE_END.join([*map(printable, lines), names, end]).encode())
    steps = _Steps(round((choice.step_s or 0) * 1_000_000)) if is_strict else None
    for each in source(choice, tally):
        block = steps.only(each, tally) if steps else each
        file.write(cells.rows(stamps(block, choice), block.values))
        tally.note(block.times_us)


def header(choice: Choice) -> list[str]:
    """Twelve lines, the line of names, and an empty end."""
    station = choice.stations[0] if len(choice.stations) == 1 else None
    latitude = (station.latitude_deg if station else None) or 0.0
    longitude = (station.longitude_deg if station else None) or 0.0
    elevation = (station.elevation_m if station else None) or 0.0
    left_out = [f"quality {flag.name.lower()}" for flag in Flag if flag not in choice.request.quality]
    end = choice.request.stamp == "end"
    return [
        f"Created {_told(choice, choice.end)} by {PROGRAM} for Windographer",
        "",
        f"Latitude = {'S' if latitude < 0 else 'N'} {abs(latitude):.6f}",
        f"Longitude = {'W' if longitude < 0 else 'E'} {abs(longitude):.6f}",
        f"Elevation = {elevation:g} m",
        "Calm threshold = 0 m/s",
        "",
        f"Included flags: {', '.join(['<Unflagged data>', *choice.included])}",
        f"Excluded flags: {', '.join([*choice.excluded, *left_out])}",
        "",
        f"Time stamps indicate the {'end' if end else 'beginning'} of the time step.",
        "",
        choice.request.cell_separator.join(["Date/Time", *(column.label for column in choice.columns)]),
        "",
    ]


def flag_log(choice: Choice, file: BinaryIO) -> None:
    """One line for each column and range, end exclusive, by the file's clock."""
    lines = ["\t".join(FLAG_HEAD)]
    for column in choice.columns:
        if column.figure is Figure.COUNT:
            continue
        for each in _of(column.sensor_id, choice.flagged):
            steps = (
                "" if choice.step_s is None else f"{-(-(each.end - each.begin).total_seconds() // choice.step_s):.0f}"
            )
            times = (_told(choice, each.begin), _told(choice, each.end))
            lines.append("\t".join((column.label, printable(each.category), *times, steps)))
    file.write((LINE_END.join(lines) + LINE_END).encode())


def _of(sensor_id: int, flagged: Iterable[Flagged]) -> list[Flagged]:
    return [each for each in flagged if each.sensor_id == sensor_id]


def _told(choice: Choice, time: datetime) -> str:
    local = choice.clock.local(np.array([micros(time)], np.int64)).astype("datetime64[s]")[0]
    return str(local).replace("T", " ")


class _Steps:
    """The steps on which most of the first rows lie."""

    def __init__(self, step_us: int) -> None:
        self._step_us = step_us
        self._phase_us: int | None = None

    def only(self, block: Block, tally: Tally) -> Block:
        phases = block.times_us % self._step_us
        if self._phase_us is None and len(phases):
            found, counts = np.unique(phases, return_counts=True)
            self._phase_us = int(found[np.argmax(counts)])
        on = phases == self._phase_us
        if on.all():
            return block
        tally.leave_out(f"rows {OFF_STEP}", int((~on).sum()))
        return Block(block.times_us[on], tuple(values[on] for values in block.values), block.until_us)
