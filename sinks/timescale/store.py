"""A batch becomes one database transaction: first its positions, then its rows. Knows SQL; knows no broker.

While the database works on one batch, `foresee` makes the next one ready in another thread: its rows, sorted and
packed, as far as no question must be put to the database.

Readings and windows go the fastest way that was measured: the last of each key, sorted by key; rows newer than their
sensor's watermark by binary COPY inside a savepoint, the rest by an upsert from arrays. A COPY that meets an existing
key is taken back, and all rows go by the upsert.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any

import numpy as np
import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import ConnStatus, Format

from schemas.columnar import Longs
from schemas.frames import CleanFrame, WindowFrame
from schemas.rejection import Rejection
from sinks.timescale import horizon, measured
from sinks.timescale import rows as rows_of
from sinks.timescale.batch import Batch, Entry, Part, Refusal
from sinks.timescale.months import Months
from sinks.timescale.packing import (
    FLOAT8,
    INT2,
    INT4,
    INT8,
    READINGS,
    TIMESTAMPTZ,
    WINDOWS,
    Rows,
    Series,
    Type,
    array_bytes,
    copy_bytes,
)
from sinks.timescale.positions import (
    Claim,
    Fenced,
    Position,
    Replay,
    acquire,
    advance,
    evict,
    stored_already,
)
from sinks.timescale.projections import project
from sinks.timescale.recalibration.standing import UPSERT as OLDER
from sinks.timescale.recalibration.standing import older
from sinks.timescale.sensors import Sensors
from sinks.timescale.watermarks import NEVER, Watermarks

APPLICATION = "telltale-sink {}"
"""How our sessions are called in pg_stat_activity; the place is for the owner."""

INTERRUPT_S = 3.0
COPY_ROWS_MIN = 400  # below it the upsert's one round trip is quicker than savepoint, COPY and release

# The newest row of each sensor, by index; newest partition first.
NEWEST_READINGS = """
SELECT s.line, (extract(epoch FROM r.time) * 1000000)::int8
FROM unnest(%s::int8[]) AS s (line),
LATERAL (SELECT time FROM readings WHERE sensor_id = s.line ORDER BY time DESC LIMIT 1) AS r"""
NEWEST_WINDOWS = """
SELECT s.line, (extract(epoch FROM w.start) * 1000000)::int8
FROM unnest(%s::int8[]) AS s (line),
LATERAL (SELECT start FROM windows WHERE sensor_id = (s.line >> 32)::int
  AND length_s = (s.line & 4294967295)::int ORDER BY start DESC LIMIT 1) AS w"""


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds on what waits in the database, in seconds.

    A transaction of ours that stands still holds its partitions against a successor; above these bounds the server
    ends it. Below them a slow disk would be taken for a hang.
    """

    connect_s: int = 5
    lock_s: int = 5
    statement_s: int = 120
    idle_in_transaction_s: int = 10


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one series on their way: `fresh` as COPY takes them (none: empty), `late` by the upsert."""

    series: Series
    rows: Rows  # all of them, for the case that COPY meets an existing key
    fresh: bytes
    late: Rows
    calculated_ms: int  # when the stage calculated the oldest of them


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch's rows, made from what was remembered then."""

    memory: int
    pieces: list[Piece]


class _Array:
    """An array in PostgreSQL's binary format."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def _dumper(kind: Type) -> tuple[type[_Array], type[Dumper]]:
    class ArrayDumper(Dumper):
        format = Format.BINARY
        oid = kind.array_oid

        def dump(self, obj: _Array) -> Buffer | None:
            return obj.data

    return type(f"{kind.name}_array", (_Array,), {}), ArrayDumper


_ARRAYS = {kind.name: _dumper(kind) for kind in (INT2, INT4, INT8, FLOAT8, TIMESTAMPTZ)}


def connect(dsn: str, *, owner: str, patience: Patience) -> psycopg.Connection[Any]:
    """A connection as the sink needs it. Raises `psycopg.Error`."""
    connection = psycopg.connect(
        dsn,
        autocommit=True,  # transactions are opened by name
        prepare_threshold=None,  # PGlite shares names of prepared statements between connections
        connect_timeout=patience.connect_s,
        application_name=APPLICATION.format(owner)[:63],
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=15_000,
    )
    try:
        for name, value in (
            ("synchronous_commit", "on"),
            ("lock_timeout", f"{patience.lock_s}s"),
            ("statement_timeout", f"{patience.statement_s}s"),
            ("idle_in_transaction_session_timeout", f"{patience.idle_in_transaction_s}s"),
            ("timezone", "UTC"),
        ):
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone():
            # Late rows into compressed chunks; with the default limit the sink would fail for ever.
            connection.execute("SET timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
        for wrapper, dumper in _ARRAYS.values():
            connection.adapters.register_dumper(wrapper, dumper)
    except BaseException:
        connection.close()
        raise
    return connection


class Store:
    """The sink's side of the database: one connection, made again when it is lost, and what is remembered of it.

    Used by one thread at a time, but for `foresee` and `interrupt`. Every method may raise `psycopg.Error`; see
    `sinks.timescale.trouble`.
    """

    def __init__(self, dsn: str, *, owner: str, copy: bool = True, patience: Patience | None = None) -> None:
        self._dsn, self._owner, self._copy = dsn, owner, copy
        self._patience = patience or Patience()
        self._connection: psycopg.Connection[Any] | None = None
        self._partitioned = False
        self._sensors, self._months = Sensors(), Months()
        self._watermarks = {READINGS.table: Watermarks(), WINDOWS.table: Watermarks()}
        self._memory = 0  # counts how often all of this was forgotten
        self._remembering = Lock()  # of sensors, watermarks, memory
        self._epochs: dict[Part, int] = {}

    @property
    def connection(self) -> psycopg.Connection[Any]:
        """The connection, made now if there is none."""
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._dsn, owner=self._owner, patience=self._patience)
            kind = self._connection.execute("SELECT relkind = 'p' FROM pg_class WHERE oid = 'readings'::regclass")
            self._partitioned = bool((kind.fetchone() or [False])[0])
        return self._connection

    def close(self) -> None:
        """Give the connection up; the next use makes a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def interrupt(self) -> None:
        """From any thread: what the connection does now ends with an error."""
        connection = self._connection
        if connection is not None and not connection.closed:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=INTERRUPT_S)

    def forget(self) -> None:
        """Believe nothing that was remembered: others may have written since."""
        with self._remembering:
            self._memory += 1
            self._sensors.forget()
            self._months.forget()
            self._watermarks = {name: Watermarks() for name in self._watermarks}

    def open(self, claim: Claim) -> tuple[Position, Replay | None]:
        """Takes a partition over. An owner that stands still inside a transaction loses its session."""
        try:
            position, replay = acquire(self.connection, claim, owner=self._owner)
        except psycopg.errors.LockNotAvailable:
            evict(self.connection, claim.part, mine=self._owner, name=APPLICATION)
            position, replay = acquire(self.connection, claim, owner=self._owner)
        self._epochs[claim.part] = position.epoch
        return position, replay

    def foresee(self, batch: Batch) -> None:
        """From another thread, while an earlier batch is being written: what can be done for this one without waiting.

        Never asks the database, and never waits for a thread that does: then it is left to `write`.
        """
        if not self._remembering.acquire(blocking=False):
            return
        try:
            batch.prepared = self._prepare(batch.entries, None)
        except (_Unknown, Unfit):
            pass
        finally:
            self._remembering.release()

    def write(self, batch: Batch) -> None:
        """Stores a batch, once. Raises `Fenced` when another owner has written.

        Entries that no column can hold become refusals before anything is written, and `Unfit` is raised; so do
        rows older than retention, and `Outdated` is raised.
        """
        connection = self.connection
        with self._remembering:
            if batch.prepared is None or batch.prepared.memory != self._memory:
                batch.prepared = self._prepare(batch.entries, connection)
        pieces: list[Piece] = batch.prepared.pieces
        for piece in pieces:
            kind = CleanFrame if piece.series is READINGS else WindowFrame
            mine = [entry for entry in batch.entries if isinstance(entry.body, kind)]
            oldest_us = int(piece.rows[piece.series.time].min())
            horizon.check(connection, piece.series.table, mine, oldest_us=oldest_us)
            if piece.series is READINGS and self._partitioned:
                self._months.ensure(connection, rows_of.months(piece.rows["time"]))
        if not self._transact(connection, batch, pieces) and not self._stored_already(connection, batch):
            raise Fenced(", ".join(map(str, batch.stretches)))

    def _transact(self, connection: psycopg.Connection[Any], batch: Batch, pieces: Sequence[Piece]) -> bool:
        """The transaction; false, and nothing is written, when a position does not stand where we left it."""
        began, written = time.monotonic(), []
        with connection.cursor() as cursor, connection.transaction() as transaction:
            done = advance(cursor, batch.stretches, epochs=self._epochs)
            if not done.is_mine:
                raise psycopg.Rollback(transaction)
            project(cursor, batch.entries)
            for piece in pieces:
                ways = self._write_piece(cursor, piece, recalibrated=done.recalibrated)
                written += [(piece.series.table, way, rows) for way, rows in ways.items()]
        if done.is_mine:
            measured.TRANSACTION.observe(time.monotonic() - began)
            for table, way, rows in written:
                measured.ROWS.labels(table, way).inc(rows)
        return done.is_mine

    def _stored_already(self, connection: psycopg.Connection[Any], batch: Batch) -> bool:
        with connection.cursor() as cursor:
            return stored_already(cursor, batch.stretches, epochs=self._epochs)

    def _prepare(self, entries: Sequence[Entry], connection: psycopg.Connection[Any] | None) -> Prepared:
        """Rows of each series, without repeated keys, and which way they go. Without a connection what is not
        remembered is `_Unknown`.

        The watermarks move on here, before the rows are stored, so that the next batch can be made ready meanwhile.
        Where the rows are not stored after all they are too high, and cost the next ones an upsert.
        """
        pieces = []
        for series, kind, build in ((READINGS, CleanFrame, rows_of.readings), (WINDOWS, WindowFrame, rows_of.windows)):
            mine = [entry for entry in entries if isinstance(entry.body, kind)]
            if not mine:
                continue
            frames: Any = [entry.body for entry in mine]
            ids = self._sensors.known(frames) if connection is None else self._sensors.of(connection, frames)
            if ids is None:
                raise _Unknown
            rows = build(frames, ids)
            if series is READINGS:
                rows["calculated_ms"] = np.repeat([e.timestamp_ms for e in mine], [e.rows for e in mine])
            if misfits := rows_of.misfits(series, rows, [entry.rows for entry in mine]):
                raise Unfit([(mine[place], detail) for place, detail in misfits])
            if not len(rows[series.time]):
                continue
            rows = rows_of.last_of_each_key(series, rows)
            lines = rows["sensor_id"].astype(np.int64)
            if series is WINDOWS:
                lines = (lines << 32) | rows["length_s"]
            self._look_up(connection, series, lines)
            pieces.append(self._piece(series, rows, lines))
        return Prepared(self._memory, pieces)

    def _look_up(self, connection: psycopg.Connection[Any] | None, series: Series, lines: Longs) -> None:
        """Reads the watermarks that are not known."""
        watermarks = self._watermarks[series.table]
        unknown = watermarks.unknown(lines)
        if not len(unknown):
            return
        if connection is None:
            raise _Unknown
        newest = NEWEST_READINGS if series is READINGS else NEWEST_WINDOWS
        found = dict(connection.execute(newest, (unknown.tolist(),)).fetchall())
        watermarks.learn(unknown, np.array([found.get(line, NEVER) for line in unknown.tolist()], np.int64))

    def _piece(self, series: Series, rows: Rows, lines: Longs) -> Piece:
        watermarks, times = self._watermarks[series.table], rows[series.time]
        fresh, late = b"", rows
        if self._copy and len(lines) >= COPY_ROWS_MIN:
            new, late = rows_of.split(rows, watermarks.newer(lines, times))
            if len(new[series.time]):
                fresh = copy_bytes(series, new)
        watermarks.reach(lines, times)
        calculated_ms = int(rows["calculated_ms"].min()) if series is READINGS else 0
        return Piece(series, rows, fresh, late, calculated_ms)

    @staticmethod
    def _write_piece(cursor: psycopg.Cursor[Any], piece: Piece, *, recalibrated: datetime | None) -> dict[str, int]:
        """Writes it; how many rows went which way."""
        series, late, fresh = piece.series, piece.late, piece.fresh
        ways = {}
        if recalibrated is not None and series is READINGS and piece.calculated_ms < recalibrated.timestamp() * 1000:
            found = older(cursor, piece.rows)
            if found is not None:
                is_older = found.places >= 0
                rows, late = rows_of.split(piece.rows | {"place": found.places}, is_older)
                fresh = b""
                cursor.execute(OLDER, [*_arrays(series.columns | {"place": INT4}, rows), found.told()])
                ways["recalibrated"] = len(rows[series.time])
        if fresh:
            cursor.execute("SAVEPOINT copying")
            try:
                _copy(cursor, series.copy, fresh)
                cursor.execute("RELEASE copying")
                ways["copy"] = len(piece.rows[series.time]) - len(late[series.time])
            except psycopg.errors.UniqueViolation:
                cursor.execute("ROLLBACK TO copying")
                late = piece.rows
        if len(late[series.time]):
            cursor.execute(series.upsert, _arrays(series.columns, late))
            ways["upsert"] = len(late[series.time])
        return ways


def _copy(cursor: psycopg.Cursor[Any], statement: str, body: bytes) -> None:
    began = time.monotonic()
    try:
        with cursor.copy(statement) as stream:
            stream.write(body)
        measured.COPY.observe(time.monotonic() - began)
    except ValueError as error:
        # The server has ended us in mid COPY (we were frozen, it stops): two answers where psycopg expects one.
        if cursor.connection.pgconn.status == ConnStatus.OK:
            raise
        raise psycopg.OperationalError(f"the server ended the connection in mid COPY ({error})") from error


def _arrays(columns: Mapping[str, Type], rows: Rows) -> list[_Array]:
    return [_ARRAYS[kind.name][0](array_bytes(kind, rows[name])) for name, kind in columns.items()]


class _Unknown(Exception):  # noqa: N818
    """The database must be asked first."""


class Unfit(Exception):  # noqa: N818
    """Entries that no column can hold."""

    def __init__(self, found: Sequence[tuple[Entry, str]]) -> None:
        super().__init__(found[0][1])
        self.found = found

    def refuse(self) -> None:
        """Makes refusals of them."""
        for entry, detail in self.found:
            entry.body = Refusal(Rejection.DATABASE_REFUSED, detail)
