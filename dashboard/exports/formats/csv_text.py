"""CSV: comment lines that say what it is and what was left out and why, one line of names, one row a time.

What was left out is known at the end and stands at the beginning: rows go to a nameless file first.
"""

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator

from dashboard.exports.choice import Choice
from dashboard.exports.clock import moment
from dashboard.exports.columns import Column
from dashboard.exports.formats import PROGRAM, Source
from dashboard.exports.outputs import BUFFER_BYTES, Outputs
from dashboard.exports.query import Tally
from dashboard.exports.request import Interval
from dashboard.exports.text import Cells, stamps
from infra.printable import printable

COMMENT = "# "
LINE_END = "\n"


def write(choice: Choice, source: Source, out: Outputs, tally: Tally, *, has_comments: bool = True) -> None:
    """The file."""
    request = choice.request
    cells = Cells(request.cell_separator, request.decimal, request.missing, LINE_END)
    file = out.main()
    with tempfile.TemporaryFile(dir=out.path.parent) as rows:
        for block in source(choice, tally):
            rows.write(cells.rows(stamps(block, choice), block.values))
            tally.note(block.times_us)
        if has_comments:
            file.write("".join(COMMENT + printable(line) + LINE_END for line in about(choice, tally)).encode())
        file.write(_names(choice).encode())
        rows.seek(0)
        shutil.copyfileobj(rows, file, BUFFER_BYTES)


def about(choice: Choice, tally: Tally) -> Iterator[str]:
    """Lines for people: what, when, how, and what is not there."""
    request = choice.request
    yield f"{PROGRAM}: {choice.title}"
    if tally.first_us is not None and tally.last_us is not None:
        first, last = (f"{moment(each):%Y-%m-%d %H:%M:%S}Z" for each in (tally.first_us, tally.last_us))
        yield f"rows: {tally.rows}, beginning {first} to {last}" + (
            "" if choice.step_s is None else f", every {choice.step_s:g} s"
        )
    zone = f"{choice.clock.name}, with its offset" if choice.clock.is_named else choice.clock.told
    yield f"time: {request.stamp} of the interval, {zone}"
    kind = "as logged" if request.values == "logged" else "calibrated"
    yield f"values: {kind}" + (
        "" if request.interval is Interval.AS_LOGGED else f", {request.interval} intervals of {tally.readings} readings"
    )
    yield f"missing: {request.missing or 'empty'}"
    yield f"left in: quality {', '.join(flag.name.lower() for flag in request.quality)}; " + (
        f"flags {', '.join(choice.included) or 'none'}"
    )
    causes = [
        f"{cause}: {count} {'rows' if cause.startswith('rows') else 'readings'}"
        for cause, count in sorted(tally.left_out.items())
    ]
    if choice.view is None:
        yield f"left out: {'; '.join(causes) or 'nothing'}"
    else:
        yield f"left out: readings of other quality; flags {', '.join(choice.excluded) or 'none'}"
    for column in choice.columns:
        yield f"{column.label}: {', '.join(_facts(column))}"


def _facts(column: Column) -> Iterator[str]:
    yield column.name
    if column.quantity:
        yield f"{column.quantity} {column.statistic or ''}".strip()
    if column.figure is not None:
        yield f"{column.figure} of the interval"
    if column.unit:
        yield column.unit
    if column.height_m is not None:
        yield f"{column.height_m:g} m"
    if column.boom_orientation_deg is not None:
        yield f"boom {column.boom_orientation_deg:g} deg"


def _names(choice: Choice) -> str:
    line = io.StringIO()
    separator = choice.request.cell_separator
    csv.writer(line, delimiter=separator, lineterminator=LINE_END).writerow(
        ["time", *(column.label for column in choice.columns)]
    )
    return line.getvalue()
