"""What the database needs from time to time: aggregates made anew where rows have changed, chunks compressed, and what
is older than retention dropped. SQL on a given connection; asks of no database what it has not.

TimescaleDB notes which ranges of a table were touched below an aggregate's watermark, whoever touched them: late rows,
a replay, a recalibration. A refresh makes only those anew, so it may span everything, and costs milliseconds where
nothing was touched. It must not begin before what retention has dropped: one late row there would erase the
aggregate's history.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import structlog
from psycopg import sql

from infra.database import first_line

log = structlog.get_logger(__name__)

PERIOD_S = 60.0  # how late an aggregate shows late rows; below it refreshes that find nothing begin to cost
COMPRESS_PERIODS = 60  # compressing is tried once in so many periods
SLICE = timedelta(days=180)  # of one refresh, which is one transaction

WIDTHS = {
    "aggregate_10min": timedelta(minutes=10),
    "aggregate_hourly": timedelta(hours=1),
    "aggregate_daily": timedelta(days=1),
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ONE_AT_A_TIME = "SELECT pg_try_advisory_lock(hashtext('telltale upkeep'))"
RELEASE = "SELECT pg_advisory_unlock(hashtext('telltale upkeep'))"
KIND = """
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'), now()"""
AGGREGATES = "SELECT view_name FROM timescaledb_information.continuous_aggregates WHERE view_name = ANY (%s)"
OLDEST_CHUNK = "SELECT min(range_start) FROM timescaledb_information.chunks WHERE hypertable_name = 'readings'"
COMPRESSION_JOBS = """
SELECT job_id FROM timescaledb_information.jobs
WHERE proc_name IN ('policy_compression', 'policy_columnstore') AND hypertable_name = ANY (%s)"""
SERIES = {"readings": "time", "windows": "start", "heartbeats": "received"}

# Chunks that somebody else has dropped are seen by the oldest one having moved on; from then on it is as if we had.
NOTICE = """
UPDATE retention SET horizon = greatest(horizon, %(oldest)s), dropped = greatest(dropped, %(oldest)s),
  oldest = %(oldest)s
WHERE series = 'readings' AND oldest < %(oldest)s"""
REMEMBER = """
INSERT INTO retention AS r (series, oldest) VALUES ('readings', %(oldest)s)
ON CONFLICT (series) DO UPDATE SET oldest = excluded.oldest WHERE r.oldest IS DISTINCT FROM excluded.oldest"""

RAISE_HORIZONS = """
UPDATE retention SET horizon = greatest(horizon, date_trunc('day', now() - keep, 'UTC')) WHERE keep IS NOT NULL"""
TO_DROP = "SELECT series, horizon FROM retention WHERE horizon IS NOT NULL ORDER BY series"
DROPPED = "UPDATE retention SET dropped = greatest(dropped, %s) WHERE series = %s AND dropped IS DISTINCT FROM %s"
KEEP = """
INSERT INTO retention (series, keep) VALUES (%s, make_interval(days => %s))
ON CONFLICT (series) DO UPDATE SET keep = excluded.keep"""
FLOOR = "SELECT max(dropped) FROM retention WHERE series = 'readings'"
MONTHS = """
SELECT inhrelid::regclass::text FROM pg_inherits
WHERE inhparent = 'readings'::regclass AND inhrelid::regclass::text ~ '^readings_[0-9]{4}_[0-9]{2}$'"""


@dataclass(slots=True)
class Done:
    """What one round has done."""

    refreshed: int = 0  # aggregates and slices that were looked through
    dropped: int = 0  # chunks, partitions, or rows of a table without them
    compressed: int = 0  # tables whose chunks were looked through

    def told(self) -> dict[str, int]:
        return asdict(self)


def round_of(connection: psycopg.Connection[Any], *, compress: bool = True) -> Done | None:
    """All that is due; None where another is at it. The connection is in autocommit. Raises `psycopg.Error`."""
    if not _one(connection, ONE_AT_A_TIME)[0]:
        return None
    try:
        done = Done()
        with connection.transaction():
            connection.execute(RAISE_HORIZONS)
        done.refreshed = refresh(connection)  # before anything is dropped: what came late must be in the aggregates
        done.dropped = _drop(connection)
        if compress:
            done.compressed = recompress(connection)
        return done
    finally:
        if not connection.closed and not connection.broken:
            connection.execute(RELEASE)


def keep(connection: psycopg.Connection[Any], series: str, *, days: int | None) -> None:
    """How long a series is kept; None: for ever. What was dropped stays refused."""
    connection.execute(KEEP, (series, days))


def refresh(
    connection: psycopg.Connection[Any],
    begin: datetime | None = None,
    end: datetime | None = None,
    *,
    report: Callable[[str, datetime], None] = lambda *_: None,
) -> int:
    """Makes the continuous aggregates of [begin, end) agree with the readings, where they do not; None: all there is.

    Returns how many slices were looked through: 0 where there are no aggregates. Raises `psycopg.Error`.
    """
    is_timescale, now = _one(connection, KIND)
    if not is_timescale:
        return 0
    (oldest,) = _one(connection, OLDEST_CHUNK)
    if oldest is None:
        return 0
    for statement in (NOTICE, REMEMBER):
        connection.execute(statement, {"oldest": oldest})
    (dropped,) = _one(connection, FLOOR)
    first = max(each for each in (begin, oldest, dropped) if each is not None)
    there = {name for (name,) in connection.execute(AGGREGATES, (list(WIDTHS),))}
    slices = 0
    for name, width in WIDTHS.items():
        if name not in there:
            continue
        call = sql.SQL("CALL refresh_continuous_aggregate({}, %s::timestamptz, %s::timestamptz)").format(name)
        for lower, upper in spans(first, end or now, width=width, floor=dropped, now=now):
            connection.execute(call, (lower, upper))
            slices += 1
            report(name, upper)
    return slices


def spans(
    begin: datetime, end: datetime, *, width: timedelta, floor: datetime | None, now: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """Slices of whole buckets over [begin, end), neither below `floor` nor into buckets that are not over. Pure."""
    lower = _floored(begin, width)
    if floor is not None and lower < floor:
        lower = -(-(floor - EPOCH) // width) * width + EPOCH
    last = min(_floored(end - timedelta(microseconds=1), width) + width, _floored(now - width, width))
    while lower < last:
        upper = min(last, lower + SLICE)
        yield lower, upper
        lower = upper


def _floored(time: datetime, width: timedelta) -> datetime:
    return (time - EPOCH) // width * width + EPOCH


def recompress(connection: psycopg.Connection[Any]) -> int:
    """Compresses chunks that are due, and again those that late rows have opened. Counts tables."""
    if not _one(connection, KIND)[0]:
        return 0
    jobs = connection.execute(COMPRESSION_JOBS, (list(SERIES),)).fetchall()
    for (job,) in jobs:
        connection.execute(sql.SQL("CALL run_job({})").format(sql.Literal(job)))
    return len(jobs)


def _drop(connection: psycopg.Connection[Any]) -> int:
    """Drops what lies wholly before its series' horizon."""
    is_timescale, _ = _one(connection, KIND)
    count = 0
    for series, horizon in connection.execute(TO_DROP).fetchall():
        with connection.transaction():  # noted first: who comes after a crash must not make anything anew from the rest
            connection.execute(DROPPED, (horizon, series, horizon))
        if is_timescale:
            count += len(connection.execute("SELECT drop_chunks(%s::regclass, %s)", (series, horizon)).fetchall())
        elif series == "readings":
            count += _drop_months(connection, horizon)
        else:
            count += connection.execute(
                sql.SQL("DELETE FROM {} WHERE {} < %s").format(sql.Identifier(series), sql.Identifier(SERIES[series])),
                (horizon,),
            ).rowcount
    if is_timescale:
        connection.execute(REMEMBER, {"oldest": _one(connection, OLDEST_CHUNK)[0]})
    return count


def _drop_months(connection: psycopg.Connection[Any], horizon: datetime) -> int:
    first_kept = f"readings_{horizon.astimezone(UTC):%Y_%m}"
    old = sorted(name for (name,) in connection.execute(MONTHS) if name < first_kept)
    for name in old:
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
    return len(old)


def _one(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    assert row is not None  # noqa: S101 - each answers with one row
    return row


def connect(dsn: str) -> psycopg.Connection[Any]:
    """A connection for upkeep: patient with locks, but not for ever."""
    connection = psycopg.connect(
        dsn, autocommit=True, prepare_threshold=None, connect_timeout=5, application_name="telltale-upkeep"
    )
    connection.execute("SET timezone = 'UTC'")
    connection.execute("SET lock_timeout = '30s'")
    return connection


class Keeper(threading.Thread):
    """Rounds of upkeep beside a sink, until it is told to end. Trouble is logged; the next round tries again."""

    def __init__(self, dsn: str, *, period_s: float = PERIOD_S) -> None:
        super().__init__(name="upkeep", daemon=True)
        self._dsn, self._period_s, self._ending = dsn, period_s, threading.Event()
        self._connection: psycopg.Connection[Any] | None = None

    def run(self) -> None:
        number = 0
        while not self._ending.wait(self._period_s):
            try:
                with connect(self._dsn) as self._connection:
                    done = round_of(self._connection, compress=number % COMPRESS_PERIODS == 0)
            except psycopg.Error as error:
                if not self._ending.is_set():
                    log.warning("upkeep_failed", detail=first_line(error))
                continue
            finally:
                self._connection = None
            number += 1
            if done is not None and done.dropped:
                log.info("upkeep", **done.told())

    def end(self) -> None:
        """Breaks off what it does and waits for it."""
        self._ending.set()
        connection = self._connection
        if connection is not None:
            try:
                connection.cancel_safe(timeout=3.0)
            except psycopg.Error as error:
                log.info("upkeep_not_cancelled", detail=str(error).strip())
        self.join(5.0)


@contextmanager
def beside(dsn: str, *, period_s: float) -> Iterator[None]:
    """Upkeep while the block runs; none where the period is 0."""
    if period_s == 0:
        yield
        return
    keeper = Keeper(dsn, period_s=period_s)
    keeper.start()
    try:
        yield
    finally:
        keeper.end()
