"""The work itself: slice after slice of a sensor's readings, each a transaction that also notes how far it came.

Nothing is lost beside a live sink. A slice is one UPDATE of one table that computes from `logged` as it stands when the
row is locked; a row that the sink writes meanwhile is waited for and computed from what the sink wrote, and one that it
writes afterwards is the sink's. A sensor is gone through again until nothing is found to change. What the stage
calculated before the run began, and the sink stores after it, does not undo it: see `standing`.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from schemas.errors import Refused, Unavailable
from schemas.quality import Test
from sinks.timescale.recalibration import ways as ways_of
from sinks.timescale.recalibration.selection import Selection, Sensor
from sinks.timescale.recalibration.summary import Summary
from sinks.timescale.recalibration.ways import Way, Ways

SLICE_ROWS = 20_000  # of one transaction: a row stays locked for some 0.2 s at most, far below the sink's lock timeout
PASSES_MAX = 5  # each finds what was written during the one before; more says that something else is wrong
TRIES_MAX = 20  # of a slice that meets a lock or a deadlock
TRY_S = 0.25
MICROSECOND = timedelta(microseconds=1)

SPAN = """
SELECT (SELECT time FROM readings WHERE sensor_id = %(sensor)s ORDER BY time LIMIT 1),
       (SELECT time FROM readings WHERE sensor_id = %(sensor)s ORDER BY time DESC LIMIT 1)"""
SLICE_END = """
SELECT time FROM readings WHERE sensor_id = %(sensor)s AND time >= %(begin)s AND time < %(end)s
ORDER BY time OFFSET %(rows)s LIMIT 1"""

AS_NOW = """recalibrated(logged, {0}value, {0}quality, {0}tests, %(way)s, %(logger_slope)s::float8,
  %(logger_offset)s::float8, %(slope)s::float8, %(offset)s::float8, %(turn)s::float8, %(bits)s::int,
  %(fail)s::float8[], %(suspect)s::float8[])"""
MINE = "sensor_id = %(sensor)s AND time >= %(begin)s AND time < %(end)s"

LOOK = f"""
SELECT count(*), count(*) FILTER (WHERE differs), min(time) FILTER (WHERE differs), max(time) FILTER (WHERE differs),
  max(abs(new - value)) FILTER (WHERE differs AND abs(new) < 1e300 AND abs(value) < 1e300),
  count(*) FILTER (WHERE tests & %(bit)s::int <> 0), count(*) FILTER (WHERE new_tests & %(bit)s::int <> 0),
  {{}}, {{}}
FROM (SELECT r.time, r.value, r.tests, r.quality, n.value AS new, n.tests AS new_tests, n.quality AS new_quality,
    n.differs
  FROM readings r, {AS_NOW.format("r.")} AS n WHERE {MINE}) AS compared""".format(  # noqa: S608 - our own words
    *(
        f"count(*) FILTER (WHERE {finite}), sum({name}) FILTER (WHERE {finite}), min({name}) FILTER (WHERE {finite}), "
        f"max({name}) FILTER (WHERE {finite}), sum(sind({name})) FILTER (WHERE {finite}), "
        f"sum(cosd({name})) FILTER (WHERE {finite}), "
        f"count(*) FILTER (WHERE {flag} = 3), count(*) FILTER (WHERE {flag} = 4)"
        for name, flag in (("value", "quality"), ("new", "new_quality"))
        for finite in (f"abs({name}) < 1e300",)  # so that sums do not overflow, which is an error here
    )
)
# Of one table: a row that was written while this waited for it is computed anew from what stands there then.
REWRITE = f"""
UPDATE readings
SET (value, quality, tests) = (SELECT n.value, n.quality, n.tests FROM {AS_NOW.format("readings.")} AS n)
WHERE {MINE} AND ({AS_NOW.format("")}).differs"""  # noqa: S608 - our own words

OPEN = """
SELECT recalibration_id, begins, ends, reached, numbers, rows, changed, changed_from, changed_to, summary
FROM recalibrations
WHERE sensor_id = %s AND asked_from IS NOT DISTINCT FROM %s AND asked_to IS NOT DISTINCT FROM %s AND finished IS NULL
ORDER BY recalibration_id DESC LIMIT 1"""
BEGIN = """
INSERT INTO recalibrations (sensor_id, asked_from, asked_to, begins, ends, reached, numbers, author, as_of)
VALUES (%(sensor)s, %(asked_from)s, %(asked_to)s, %(begins)s, %(ends)s, %(begins)s, %(numbers)s, %(author)s,
  clock_timestamp())
RETURNING recalibration_id"""
# Waits for each sink's transaction that began without knowing of this run, and lets none begin before it is recorded
# (see `standing`); readers and backups are not in the way.
ALONE = "LOCK TABLE recalibrations IN EXCLUSIVE MODE"
ANEW = """
UPDATE recalibrations
SET reached = %(begins)s, numbers = %(numbers)s, rows = 0, summary = '{}', as_of = clock_timestamp()
WHERE recalibration_id = %(id)s AND reached = %(stood)s AND finished IS NULL"""
# Two at the same work: the one that comes second to a slice sees that it was done.
REACH = """
UPDATE recalibrations SET ends = %(ends)s, reached = %(reached)s, numbers = %(numbers)s, rows = %(rows)s,
  changed = %(changed)s, changed_from = %(changed_from)s, changed_to = %(changed_to)s, summary = %(summary)s
WHERE recalibration_id = %(id)s AND reached = %(stood)s AND finished IS NULL"""
FINISH = "UPDATE recalibrations SET finished = now() WHERE recalibration_id = ANY (%s) AND finished IS NULL"


@dataclass(frozen=True, slots=True)
class Run:
    """How far a sensor's recalibration has come. Without an id it is a dry run, which notes and changes nothing."""

    sensor: Sensor
    begins: datetime
    ends: datetime
    reached: datetime
    ways: list[dict[str, Any]]
    recalibration_id: int | None = None
    is_resumed: bool = False
    is_settled: bool = False  # a last time through has found nothing to change
    rows: int = 0
    changed: int = 0
    changed_from: datetime | None = None
    changed_to: datetime | None = None
    summary: Summary = field(default_factory=Summary)


Report = Callable[[Run], None]


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A connection on which slices of compressed chunks may be rewritten."""
    connection = psycopg.connect(
        dsn,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=10,
        application_name="telltale-recalibrate",
    )
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET lock_timeout = '4s'")
    if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone():
        connection.execute("SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
    return connection


def recalibrate(
    connection: psycopg.Connection[Any],
    selection: Selection,
    *,
    author: str,
    dry_run: bool = False,
    slice_rows: int = SLICE_ROWS,
    report: Report = lambda _: None,
) -> Iterator[Run]:
    """Each sensor's run when its last slice is done; sensors without readings are left out.

    What was interrupted goes on where it stood. Call `finish` when the aggregates have followed. Raises `Refused`,
    `Unavailable`, `psycopg.Error`.
    """
    for sensor in selection.sensors:
        run = _begin(connection, sensor, selection, author=author, dry_run=dry_run)
        if run is None:
            continue
        for _ in range(1 if dry_run else PASSES_MAX):
            before = (
                run.changed if run.reached == run.begins else -1
            )  # what another process began is gone through again
            run = _pass(connection, run, slice_rows=slice_rows, report=report)
            if run.changed == before or dry_run:
                run = replace(run, is_settled=True)
                break
            run = _again(connection, run, selection)
        yield run


def finish(connection: psycopg.Connection[Any], runs: list[Run]) -> None:
    """Notes that all is done."""
    connection.execute(FINISH, ([run.recalibration_id for run in runs if run.recalibration_id is not None],))


def _begin(
    connection: psycopg.Connection[Any], sensor: Sensor, selection: Selection, *, author: str, dry_run: bool
) -> Run | None:
    span = _span(connection, sensor, selection)
    if not dry_run:
        asked = (sensor.sensor_id, selection.begin, selection.end)
        row = connection.execute(OPEN, asked).fetchone()
        if row is not None:
            number, begins, ends, reached, numbers, *counts, summary = row
            kept = ("rows", "changed", "changed_from", "changed_to")
            past: dict[str, Any] = dict(zip(kept, counts, strict=True))
            past["summary"] = Summary.of(summary)
            return Run(sensor, begins, ends, reached, numbers, number, is_resumed=True, **past)
    if span is None:
        return None
    run = Run(sensor, span[0], span[1], span[0], ways_of.read(connection, sensor.sensor_id, lock=False).plain())
    return run if dry_run else _patiently(partial(_record, connection, run, selection, author=author))


def _record(connection: psycopg.Connection[Any], run: Run, selection: Selection, *, author: str) -> Run:
    """One transaction: from its end on, sinks know of the run."""
    sensor_id = run.sensor.sensor_id
    names: dict[str, Any] = {"sensor": sensor_id, "asked_from": selection.begin, "asked_to": selection.end}
    with connection.transaction():
        connection.execute(ALONE)
        ways = ways_of.read(connection, sensor_id, lock=False).plain()
        names |= {"begins": run.begins, "ends": run.ends, "numbers": Jsonb(ways), "author": author}
        made = connection.execute(BEGIN, names).fetchone()
    assert made is not None  # noqa: S101 - RETURNING of an insert
    return replace(run, ways=ways, recalibration_id=made[0])


def _span(
    connection: psycopg.Connection[Any], sensor: Sensor, selection: Selection
) -> tuple[datetime, datetime] | None:
    """From the first reading to behind the last one, within what was asked for."""
    row = connection.execute(SPAN, {"sensor": sensor.sensor_id}).fetchone()
    if row is None or row[0] is None:
        return None
    begin = max(row[0].astimezone(UTC), selection.begin or row[0])
    end = min(row[1].astimezone(UTC) + MICROSECOND, selection.end or datetime.max.replace(tzinfo=UTC))
    return (begin, end) if begin < end else None


def _again(connection: psycopg.Connection[Any], run: Run, selection: Selection) -> Run:
    """Back to the beginning, with what has come meanwhile."""
    span = _span(connection, run.sensor, selection)
    again = replace(run, reached=run.begins, ends=max(run.ends, span[1]) if span else run.ends)
    with connection.transaction():
        _note(connection, run, again)
    return again


def _pass(connection: psycopg.Connection[Any], run: Run, *, slice_rows: int, report: Report) -> Run:
    """All slices that are left."""
    while run.reached < run.ends:
        try:
            run = _patiently(partial(_slice, connection, run, slice_rows=slice_rows))
        except _Changed:
            run = _patiently(partial(_anew, connection, run))
        else:
            report(run)
    return run


class _Changed(Exception):  # noqa: N818
    """The sensor is calibrated, or judged, otherwise than when the run began."""


def _anew(connection: psycopg.Connection[Any], run: Run) -> Run:
    """From the beginning, by the numbers of now: what was done is to be done again."""
    with connection.transaction():
        if run.recalibration_id is not None:
            connection.execute(ALONE)
        ways = ways_of.read(connection, run.sensor.sensor_id, lock=False).plain()
        if run.recalibration_id is not None:
            names = {"begins": run.begins, "numbers": Jsonb(ways), "id": run.recalibration_id, "stood": run.reached}
            if connection.execute(ANEW, names).rowcount != 1:
                raise _at_work(run)
    return replace(run, reached=run.begins, ways=ways, rows=0, summary=Summary())


def _at_work(run: Run) -> Refused:
    return Refused(f"{run.sensor.name}: another `telltale recalibrate` of the same period is at work on it")


def _patiently(work: Callable[[], Run]) -> Run:
    """Tries again, up to a bound, what met a lock or a deadlock."""
    for tried in range(TRIES_MAX):
        try:
            return work()
        except (psycopg.errors.TransactionRollback, psycopg.errors.LockNotAvailable) as error:
            if tried == TRIES_MAX - 1:
                raise Unavailable(f"database: {str(error).splitlines()[0]}, {TRIES_MAX} times") from None
            time.sleep(TRY_S)
    raise AssertionError("unreachable")


def _slice(connection: psycopg.Connection[Any], run: Run, *, slice_rows: int) -> Run:
    """One transaction."""
    is_dry = run.recalibration_id is None
    with connection.transaction():
        ways = ways_of.read(connection, run.sensor.sensor_id, lock=not is_dry)
        if ways.plain() != run.ways:
            raise _Changed
        first = not run.summary.is_whole
        end = _slice_end(connection, run, ways, slice_rows)
        names = _names(run, ways.at(run.reached), end)
        row = connection.execute(LOOK, names).fetchone()
        assert row is not None  # noqa: S101 - a SELECT of aggregates
        rows, changed, changed_from, changed_to = row[:4]
        if changed and not is_dry:
            connection.execute(REWRITE, names)
        after = replace(
            run,
            reached=end,
            rows=run.rows + (rows if first else 0),
            changed=run.changed + changed,
            changed_from=min((t for t in (run.changed_from, changed_from) if t is not None), default=None),
            changed_to=max((t for t in (run.changed_to, changed_to) if t is not None), default=None),
            summary=run.summary.plus(row[4:], is_angle=run.sensor.is_angle) if first else run.summary,
        )
        if end >= run.ends and first:
            after = replace(after, summary=replace(after.summary, is_whole=True))
        if not is_dry:
            _note(connection, run, after)
    return after


def _slice_end(connection: psycopg.Connection[Any], run: Run, ways: Ways, slice_rows: int) -> datetime:
    """Behind so many rows, but not over an edge between two calibrations."""
    edge = ways.edge_after(run.reached)
    end = min(run.ends, edge) if edge else run.ends
    names = {"sensor": run.sensor.sensor_id, "begin": run.reached, "end": end, "rows": slice_rows}
    row = connection.execute(SLICE_END, names).fetchone()
    return row[0] if row else end


def _names(run: Run, way: Way, end: datetime) -> dict[str, Any]:
    names = {"sensor": run.sensor.sensor_id, "begin": run.reached, "end": end, "bit": int(Test.NOT_CALIBRATED)}
    return way.arguments() | names


def _note(connection: psycopg.Connection[Any], stood: Run, run: Run) -> None:
    names = {name: getattr(run, name) for name in ("ends", "reached", "rows", "changed", "changed_from", "changed_to")}
    names |= {"id": run.recalibration_id, "stood": stood.reached, "numbers": Jsonb(run.ways)}
    names |= {"summary": Jsonb(run.summary.plain())}
    if connection.execute(REACH, names).rowcount != 1:
        raise _at_work(run)


def share(run: Run) -> float:
    """How much of the period is done, 0 to 1."""
    length = (run.ends - run.begins).total_seconds()
    return 1.0 if length <= 0 or not math.isfinite(length) else (run.reached - run.begins).total_seconds() / length
