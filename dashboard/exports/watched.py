"""An export that is watched: what goes wrong becomes an alarm, what works clears it. For the command and for jobs."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from dashboard.exports.making import Progress, Summary, export
from dashboard.exports.request import ExportRequest
from dashboard.exports.told import ExportAlarms
from infra.database import first_line
from schemas.errors import Unavailable


def watched_export(
    connect: Callable[[], psycopg.Connection[Any]],
    request: ExportRequest,
    path: Path,
    *,
    alarms: ExportAlarms | None,
    slow_s: float,
    force: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Summary:
    """As `export`, on a connection of its own. Raises `Refused`, `Cancelled`, and `Unavailable` for sick neighbours."""
    begun, is_told = time.monotonic(), False

    def watch(step: Progress) -> None:
        nonlocal is_told
        progress(step)
        if alarms is not None and not is_told and step.elapsed_s > slow_s:
            is_told = True
            alarms.slow(step.elapsed_s, limit_s=slow_s)

    try:
        with connect() as connection:
            done = export(connection, request, path, force=force, progress=watch, is_cancelled=is_cancelled)
    except psycopg.Error as error:
        why = f"database: {first_line(error)}"
        _tell(alarms, why)
        raise Unavailable(why) from error
    except Unavailable as error:
        _tell(alarms, str(error))
        raise
    if alarms is not None:
        alarms.worked(time.monotonic() - begun, limit_s=slow_s)
    return done


def _tell(alarms: ExportAlarms | None, why: str) -> None:
    if alarms is not None:
        alarms.failed(why)
