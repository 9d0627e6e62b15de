"""One export, from request to files: whole, or nothing is left. The interface for the command, jobs and the API.

    with psycopg.connect(dsn, autocommit=True) as connection:
        done = export(connection, ExportRequest(format="windographer", station="mast"), Path("mast.txt"))

Blocking; one connection; memory bounded by `query.READINGS_MAX`, whatever the period.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from pydantic import BaseModel, ConfigDict

from dashboard.exports import query
from dashboard.exports.choice import Choice
from dashboard.exports.choosing import choose
from dashboard.exports.clock import micros, moment
from dashboard.exports.formats import csv_text, iea43, parquet, windographer, zipped
from dashboard.exports.outputs import Made, Outputs, outputs
from dashboard.exports.query import Block, Tally, blocks
from dashboard.exports.request import ExportRequest, Format
from dashboard.exports.text import NeedsFractions
from schemas.errors import Refused
from schemas.records import Utc

WRITERS: dict[Format, Callable[..., None]] = {
    Format.WINDOGRAPHER: windographer.write,
    Format.CSV: csv_text.write,
    Format.PARQUET: parquet.write,
    Format.ZIP: zipped.write,
    Format.IEA43: iea43.write,
}


class Cancelled(Exception):  # noqa: N818 - somebody's wish, no error
    """The export was told to end; nothing is left of it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an export is. `share` is of the period, 0 to 1; `left_s` is None as long as nothing can be said."""

    rows: int
    readings: int
    share: float
    elapsed_s: float

    @property
    def left_s(self) -> float | None:
        return None if self.share <= 0 else self.elapsed_s * (1 - self.share) / self.share


class Summary(BaseModel):
    """What was made. Times are those of the first and last row's interval's beginning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: tuple[Made, ...]
    """The file that was asked for comes first."""
    format: Format
    rows: int
    columns: tuple[str, ...]
    readings: int
    first: Utc | None
    last: Utc | None
    step_s: float | None
    zone: str
    left_out: dict[str, int]
    """Readings by cause; rows that lie between steps."""
    notes: tuple[str, ...]
    seconds: float


def export(
    connection: psycopg.Connection[Any],
    request: ExportRequest,
    path: Path,
    *,
    force: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Summary:
    """Writes the file (and what stands beside it). `connection` must be in autocommit mode.

    Raises `Refused` (the request does not fit what is there), `Unavailable` (disk), `psycopg.Error`, `Cancelled`.
    """
    begun = time.monotonic()
    with query.snapshot(connection), outputs(path, force=force) as out:
        choice = choose(connection, request)
        if request.stamp == "end" and choice.step_s is None:
            raise Refused("the end of an interval cannot be told: the chosen devices have several or none configured")
        tally = _written(connection, choice, out, lambda share, now: _report(progress, now, share, begun), is_cancelled)
        if is_cancelled():
            raise Cancelled
        if not tally.rows:
            raise Refused(f"{request.subject}: no row is left")
        files = out.finish()
    off_step = tally.left_out.get(f"rows {windographer.OFF_STEP}")
    notes = [*choice.notes, *([f"{off_step} rows lie between steps and were left out"] if off_step else [])]
    return Summary(
        files=files,
        format=request.format,
        rows=tally.rows,
        columns=tuple(column.label for column in choice.columns),
        readings=tally.readings,
        first=None if tally.first_us is None else moment(tally.first_us),
        last=None if tally.last_us is None else moment(tally.last_us),
        step_s=choice.step_s,
        zone=choice.clock.told,
        left_out=dict(sorted(tally.left_out.items())),
        notes=tuple(notes),
        seconds=round(time.monotonic() - begun, 3),
    )


def _report(progress: Callable[[Progress], None], tally: Tally, share: float, begun: float) -> None:
    progress(Progress(tally.rows, tally.readings, share, time.monotonic() - begun))


def _written(
    connection: psycopg.Connection[Any],
    choice: Choice,
    out: Outputs,
    report: Callable[[float, Tally], None],
    is_cancelled: Callable[[], bool],
) -> Tally:
    writer = WRITERS[choice.request.format]
    for each in (choice, replace(choice, has_fractions=True)):
        tally = Tally()
        source = _Source(connection, each, report, is_cancelled)
        try:
            writer(each, source, out, tally)
        except NeedsFractions:
            continue
        finally:
            source.close()
        return tally
    raise AssertionError("stamps with microseconds hold every time")


class _Source:
    """Blocks of the choice or of parts of its columns, which tell how far they are."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        choice: Choice,
        report: Callable[[float, Tally], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._connection, self._whole, self._report, self._is_cancelled = connection, choice, report, is_cancelled
        self._done = 0.0
        self._blocks: Generator[Block, None, None] | None = None

    def __call__(self, part: Choice, tally: Tally) -> Iterator[Block]:
        weight = len(part.columns) / len(self._whole.columns)
        begin_us, length_us = micros(part.begin), micros(part.end) - micros(part.begin)
        self._report(self._done, tally)
        self._blocks = blocks(self._connection, part, tally, stopped=self._is_cancelled)
        for block in self._blocks:
            yield block
            if self._is_cancelled():
                raise Cancelled
            self._report(self._done + weight * (block.until_us - begin_us) / length_us, tally)
        self._done += weight

    def close(self) -> None:
        """Ends a statement that still runs, so that the connection can be used."""
        if self._blocks is not None:
            self._blocks.close()
