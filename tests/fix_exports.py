"""A small mast in the database, whose values follow from their place, for exports."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from fix_sink import Database

from dashboard.exports.making import Summary, export
from dashboard.exports.request import ExportRequest
from sinks.timescale.months import Months

BEGIN = datetime(2020, 3, 27, tzinfo=UTC)
STEPS = 5 * 144  # days of ten minutes; in Dublin summer time begins on the third
HOUR = timedelta(hours=1)
MAST = """
INSERT INTO stations VALUES ('hill', 'Hill', -33.25, 18.5, 120.5);
INSERT INTO devices (device_id, station_id, name, interval_s, loggers, configured_at, configured_by)
VALUES ('mast', 'hill', 'Mast', 600, '[{"utc_offset_minutes": 60}]', '2020-01-01', 'test');
INSERT INTO sensors (sensor_id, device_id, channel, point, quantity, unit, statistic, height_m, boom_orientation_deg)
VALUES (1, 'mast', 'Spd80', 'Spd80', 'wind_speed', 'm/s', 'avg', 80, 0),
  (2, 'mast', 'Spd80Max', 'Spd80', 'wind_speed', 'm/s', 'max', 80, 0),
  (3, 'mast', 'Dir78', 'Dir78', 'wind_direction', 'deg', 'avg', 78.5, 180),
  (4, 'mast', 'T2', 'T2', 'air_temperature', 'deg_C', 'avg', 2, NULL),
  (5, 'mast', 'Rain', 'Rain', 'precipitation', 'mm', 'sum', NULL, NULL)"""
ROWS = """INSERT INTO readings
SELECT * FROM unnest(%s::int[], %s::timestamptz[], %s::float8[], %s::float8[], %s::int[], %s::int[])"""


def time(step: int) -> datetime:
    return BEGIN + timedelta(minutes=10 * step)


def truth(sensor: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Calibrated values and flags of a sensor, by step; NaN where nothing is stored."""
    places = np.arange(STEPS, dtype=float)
    values = {
        1: 8 + 5 * np.sin(places / 20) + places / 7919,
        2: 10 + 5 * np.sin(places / 20) + places / 104_729,
        3: (350 + places * 1.7) % 360,
        4: 11.3 - places / 100,
        5: np.where(places % 13 == 0, 0.2, 0.0),
    }[sensor]
    flags = np.where(places % 50 == 3, 4, np.where(places % 50 == 4, 3, 1)) if sensor == 1 else np.ones(STEPS)
    if sensor == 4:
        values = np.where(places % 100 == 7, np.nan, values)  # stored, and says "missing"
        flags = np.where(places % 100 == 7, 9, 1)
    return values, flags.astype(int)


def fill(dsn: str, sensors: tuple[int, ...] = (1, 2, 3, 4, 5)) -> None:
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(MAST.encode())
        connection.execute("SELECT flag_category('icing', '#4dabf7')")  # a shared server's tables were emptied
        kind = connection.execute("SELECT relkind FROM pg_class WHERE oid = 'readings'::regclass").fetchone()
        if kind and kind[0] == "p":
            Months().ensure(connection, {"2020-03", "2020-04"})
        for sensor in sensors:
            values, flags = truth(sensor)
            here = [step for step in range(STEPS) if sensor != 5 or step % 4]  # rain has holes
            arrays = (
                [sensor] * len(here),
                [time(step) for step in here],
                [float(2 * values[step]) for step in here],
                [float(values[step]) for step in here],
                [int(flags[step]) for step in here],
                [0] * len(here),
            )
            connection.execute(ROWS, arrays)


class Exported:
    """Makes exports of one database into a folder."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn, self.folder = dsn, folder

    def __call__(self, kind: str, *, name: str = "out", **words: Any) -> tuple[Path, Summary]:
        path = self.folder / f"{name}.{kind}"
        said = words if {"station", "device", "sensors"} & set(words) else {"station": "hill", **words}
        with psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None) as connection:
            return path, export(connection, ExportRequest(format=kind, **said), path, force=True)

    def command(self, *words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        where = () if "--database" in words else ("--database", self.dsn)
        line = [sys.executable, "-m", "infra.command", "export", *words, *where]
        return subprocess.run(line, cwd=self.folder, capture_output=True, text=True, check=False, **options)

    def left(self) -> list[str]:
        return sorted(each.name for each in self.folder.iterdir())


@pytest.fixture
def hill(stored: Database) -> Database:
    """A database with the mast in it."""
    fill(stored.dsn)
    return stored


@pytest.fixture
def exported(hill: Database, tmp_path: Path) -> Exported:
    folder = tmp_path / "exports"
    folder.mkdir()
    return Exported(hill.dsn, folder)


Flag = Callable[..., None]


def flag(dsn: str, channel: str, first: int, last: int, category: str) -> None:
    """Flags steps [first, last)."""
    with psycopg.connect(dsn, autocommit=True, prepare_threshold=None) as connection:
        connection.execute(
            "SELECT flag(sensor('mast', %s), tstzrange(%s, %s), %s, 'why', 'me')",
            (channel, time(first), time(last), category),
        )
