"""Exports beside `psql \\copy` of the same readings: rows/s of readings for each format, seconds, and memory.

Each export is a process of its own as a person starts it, so that seconds hold its start (about one) and memory is its
peak; its CPU seconds tell what a busy machine has added. One year and six years of 80 columns at 10 minutes, on
PostgreSQL with the primary key that the sink writes.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import psycopg
from bench_stack import Figure, database, figure, own_folder

from infra.postgres import programs
from sinks.timescale import schema
from sinks.timescale.months import Months
from sinks.timescale.packing import READINGS, copy_bytes

WINS = """
psql wins: it writes rows as they lie. Exports turn rows into columns and look up what is flagged and calibrated; their
start (about a second) counts too, which is why six years come nearer than one. The zip is packed by one core.
"""

COLUMNS = 80
FIRST, YEARS = 2015, 6
STEP_US = 600_000_000
MAST = f"""
INSERT INTO stations VALUES ('hill', 'Hill', 53.3, -6.2, 120);
INSERT INTO devices (device_id, station_id, name, interval_s, loggers, configured_at, configured_by)
VALUES ('mast', 'hill', 'Mast', 600, '[{{"utc_offset_minutes": 0}}]', '2015-01-01', 'bench');
INSERT INTO sensors (sensor_id, device_id, channel, point, quantity, unit, statistic, height_m, boom_orientation_deg)
SELECT p * 4 + k + 1, 'mast', 'P' || p || (array['', 'Std', 'Min', 'Max'])[k + 1], 'P' || p,
  CASE WHEN p % 3 = 2 THEN 'wind_direction' ELSE 'wind_speed' END, CASE WHEN p % 3 = 2 THEN 'deg' ELSE 'm/s' END,
  (array['avg', 'sd', 'min', 'max'])[k + 1], 120 - p * 5, (p % 2) * 180
FROM generate_series(0, {COLUMNS // 4 - 1}) p, generate_series(0, 3) k"""
QUERY = "SELECT sensor_id, time, value, quality FROM readings WHERE time < '{}-01-01'"


def run() -> Iterator[Figure]:
    """The figures. Takes some minutes, most of them for filling and for six years."""
    with own_folder() as folder, database(folder) as dsn:
        fill(dsn)
        yield from _figures(dsn, folder)


def fill(dsn: str) -> None:
    """Six years, values of three decimals as loggers write them; a year on each core."""
    schema.migrate(dsn)
    years = range(FIRST, FIRST + YEARS)
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(MAST.encode())
        Months().ensure(connection, {f"{year}-{month:02}" for year in years for month in range(1, 13)})
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(partial(_fill_year, dsn), years))
        connection.execute("VACUUM ANALYZE readings")


def _fill_year(dsn: str, year: int) -> None:
    chance = np.random.default_rng(year)
    begin, end = (int(datetime(each, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 for each in (year, year + 1))
    times = np.arange(begin, end, STEP_US)
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        for sensor in range(1, COLUMNS + 1):
            values = np.round(chance.random(len(times)) * 20, 3)
            rows = {
                "sensor_id": np.full(len(times), sensor),
                "time": times,
                "logged": values,
                "value": values,
                "quality": np.where(chance.random(len(times)) < 0.01, 4, 1),
                "tests": np.zeros(len(times), np.int64),
            }
            with connection.cursor().copy(READINGS.copy.encode()) as copy:
                copy.write(copy_bytes(READINGS, rows))


def _figures(dsn: str, folder: Path) -> Iterator[Figure]:
    for years in (1, YEARS):
        readings = COLUMNS * sum(366 if year % 4 == 0 else 365 for year in range(FIRST, FIRST + years)) * 144
        limit = _psql(dsn, folder, years)
        yield figure("export", f"psql \\copy, {years} years: readings", readings / limit, "readings/s")
        for kind in ("windographer", "csv", "parquet", "zip") if years == 1 else ("windographer", "csv", "parquet"):
            seconds, cpu_s, peak_mb, size_mb = _export(dsn, folder, kind, years)
            what = f"{kind}, {years} years of {COLUMNS} columns"
            yield figure("export", f"{what}: readings", readings / seconds, "readings/s", beside=readings / limit)
            yield figure("export", what, seconds, "s")
            yield figure("export", f"{what}: CPU of its process", cpu_s, "s")
            yield figure("export", f"{what}: memory", peak_mb, "MB")
            yield figure("export", f"{what}: file", size_mb, "MB")


def _psql(dsn: str, folder: Path, years: int) -> float:
    """Seconds of `psql \\copy`, or of the same COPY by libpq where psql is not installed."""
    out, query = folder / "psql.csv", QUERY.format(FIRST + years)
    psql = shutil.which("psql") or str(programs.find().folder / "psql")
    begun = time.perf_counter()
    subprocess.run([psql, dsn, "-qc", rf"\copy ({query}) TO '{out}' CSV"], check=True)
    seconds = time.perf_counter() - begun
    out.unlink()
    return seconds


def _export(dsn: str, folder: Path, kind: str, years: int) -> tuple[float, float, float, float]:
    """Seconds, CPU seconds, peak memory and size of one export."""
    out = folder / f"out.{kind}"
    words = ["export", kind, "--station", "hill", "--to", f"{FIRST + years}-01-01", "--out", str(out), "--json"]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.command", *words, "--database", dsn],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise RuntimeError(f"{words} ended with {process.returncode}")
    size = out.stat().st_size
    out.unlink()
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, size / 1e6
