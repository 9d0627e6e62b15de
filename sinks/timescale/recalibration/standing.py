"""Recalibrations stand: a reading that was calculated before one began, and is stored or stored again after it, is
calibrated by its numbers. What was calculated later is newer and is taken as it is.

So the last word wins, where a word is a calculation of the stage or a recalibration. When the stage calculated is the
time of the record in Kafka; when a recalibration began is `as_of`. The sink asks for the newest `as_of` in the first
statement of each transaction, and a run is recorded under a lock which waits for transactions that have asked: each
batch is either there for the run to find, or knows of the run.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg.types.json import Jsonb

from sinks.timescale.packing import READINGS, Rows
from sinks.timescale.recalibration.ways import Way, Ways

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

STANDING = """
SELECT sensor_id, asked_from, asked_to, as_of, numbers FROM recalibrations
WHERE sensor_id = ANY (%s) AND as_of > %s ORDER BY as_of"""

# As the upsert of the sink, but for value, quality and tests.
UPSERT = f"""
INSERT INTO readings ({", ".join(READINGS.columns)})
SELECT r.sensor_id, r.time, r.logged, n.value, n.quality, n.tests
FROM unnest(%s::int4[], %s::timestamptz[], %s::float8[], %s::float8[], %s::int2[], %s::int4[], %s::int4[])
    AS r (sensor_id, time, logged, value, quality, tests, place)
JOIN jsonb_to_recordset(%s) AS w (place int, way text, logger_slope float8, logger_offset float8, slope float8,
    "offset" float8, turn float8, bits int, fail float8[], suspect float8[]) USING (place),
  recalibrated(r.logged, r.value, r.quality, r.tests, w.way, w.logger_slope, w.logger_offset, w.slope, w."offset",
    w.turn, w.bits, w.fail, w.suspect) AS n
ON CONFLICT (sensor_id, time) DO UPDATE SET {
    ", ".join(f"{name} = EXCLUDED.{name}" for name in READINGS.columns if name not in READINGS.key)
}"""  # noqa: S608 - our own names


class Older(NamedTuple):
    """Which of n rows are older than a recalibration that covers them, and by what each is calibrated."""

    places: npt.NDArray[np.int32]  # (n,) into `ways`; -1: none covers it
    ways: list[Way]

    def told(self) -> Jsonb:
        """The ways, for `UPSERT`."""
        return Jsonb([way.arguments() | {"place": place} for place, way in enumerate(self.ways)])


def older(cursor: psycopg.Cursor[Any], rows: Rows) -> Older | None:
    """Looks among rows of readings, sorted by key, with the time of their calculation; None: none of them is."""
    calculated = rows["calculated_ms"]
    sensors = np.unique(rows["sensor_id"]).tolist()
    since = EPOCH + timedelta(milliseconds=max(0, int(calculated.min())))
    found = cursor.execute(STANDING, (sensors, since)).fetchall()
    places = np.full(len(calculated), -1, np.int32)
    ways: list[Way] = []
    for sensor_id, begin, end, as_of, numbers in found:  # the newest comes last, and wins
        first, last = np.searchsorted(rows["sensor_id"], [sensor_id, sensor_id + 1])
        mine = slice(int(first), int(last))
        times = rows["time"][mine]
        covered = (calculated[mine] < _micros(as_of) // 1000) & _between(times, begin, end)
        if not covered.any():
            continue
        timeline = Ways.of(numbers)
        without = len(ways) + len(timeline.ways)
        at = np.full(len(times), without, np.int32)
        for number, way in enumerate(timeline.ways):
            at[_between(times, way.valid_from, way.valid_to)] = len(ways) + number
        ways += [*timeline.ways, timeline.without]
        places[mine][covered] = at[covered]
    return Older(places, ways) if (places >= 0).any() else None


def _between(times: npt.NDArray[np.int64], begin: datetime | None, end: datetime | None) -> npt.NDArray[np.bool_]:
    inside = np.ones(len(times), bool)
    if begin is not None:
        inside &= times >= _micros(begin)
    if end is not None:
        inside &= times < _micros(end)
    return inside


def _micros(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)
