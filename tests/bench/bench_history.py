"""Six years of a mast's ten-minute statistics (25 million readings) from Kafka into the database: time and size.

Compression is TimescaleDB's: it is measured where TELLTALE_BENCH_DATABASE names a server that has it (a superuser's
DSN; databases are made there), and left out on plain PostgreSQL.
"""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
from bench_sink import fill, fresh
from bench_stack import Figure, figure, own_stack, service

from schemas.frames import CleanFrame
from schemas.topics import READINGS_CLEAN

SENSORS, STATISTICS, YEARS = 20, ("avg", "sd", "min", "max"), 6
ROWS = 144  # of a frame: a day
DAYS = YEARS * 1461 // 4
BEGIN_US = 1_451_606_400_000_000  # 2016-01-01


def days() -> Iterator[CleanFrame]:
    chance = np.random.default_rng(3)
    channels = tuple(f"s{sensor:02}_{name}" for sensor in range(SENSORS) for name in STATISTICS)
    flags = np.ones((ROWS, len(channels)), np.int64)
    for day in range(DAYS):
        times = BEGIN_US + (day * ROWS + np.arange(ROWS, dtype=np.int64)) * 600_000_000
        # As a logger writes it: three decimals of a slowly wandering wind.
        logged = np.round(8 + np.cumsum(chance.normal(0, 0.2, (ROWS, len(channels))), axis=0), 3)
        yield CleanFrame("mast", 0, times, channels, logged, np.round(logged * 0.9916 + 0.041, 6), flags, flags * 0)


def run() -> list[Figure]:
    """The import, the size, and where it can be had the size after compression."""
    with own_stack() as (folder, kafka, dsn):
        fill(kafka, days())
        own = fresh(os.environ.get("TELLTALE_BENCH_DATABASE", dsn), "history")
        readings = DAYS * ROWS * SENSORS * len(STATISTICS)
        with psycopg.connect(own, autocommit=True) as look:
            taken = _import(kafka, own, folder, look)
            (stored,) = look.execute("SELECT count(*) FROM readings").fetchone()
            if stored != readings:
                raise RuntimeError(f"{stored} of {readings} readings are stored")
            sizes = _sizes(look)
    return [
        figure("history", f"{readings / 1e6:.1f} M readings, start of the sink to the last row", taken, "s"),
        figure("history", "rate", readings / taken, "rows/s"),
        *sizes,
    ]


def _import(kafka: str, dsn: str, folder: Path, look: psycopg.Connection) -> float:
    begin, told = time.perf_counter(), time.monotonic()
    with service(folder, "sink", "run", TELLTALE_KAFKA=kafka, TELLTALE_DATABASE=dsn):
        while True:
            (done,) = look.execute(
                "SELECT coalesce(sum(next_offset), 0) FROM sink_offsets WHERE topic = %s", (READINGS_CLEAN,)
            ).fetchone()
            if done >= DAYS:
                return time.perf_counter() - begin
            if time.monotonic() - told > 10:
                print(f"history: {done / DAYS:.0%} imported", file=sys.stderr, flush=True)
                told = time.monotonic()
            time.sleep(0.1)


def _sizes(look: psycopg.Connection) -> list[Figure]:
    if not look.execute("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'").fetchone():
        (size,) = look.execute(
            "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'readings'::regclass"
        ).fetchone()
        print("history: no TimescaleDB here, so no compression to be measured", file=sys.stderr)
        return [figure("history", "size, not compressed", float(size) / 1e6, "MB")]
    measure = "SELECT hypertable_size('readings')"
    (before,) = look.execute(measure).fetchone()
    look.execute("SELECT compress_chunk(c, if_not_compressed => true) FROM show_chunks('readings') AS c")
    (after,) = look.execute(measure).fetchone()
    return [
        figure("history", "size, not compressed", before / 1e6, "MB"),
        figure("history", "size, compressed", after / 1e6, "MB", beside=before / 1e6),
    ]
