"""What tests of the streams core are made of: sensors, devices, frames, logs. No network, no clock."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.devices import Calibration, Device, GrossRange, Limits, Sensor, Station
from schemas.frames import RawFrame
from streams.pipeline import Outcome, advance
from streams.plan import Plan, plan_of
from streams.state import State
from streams.validation import Arrival

US = 1_000_000
START_US = 1_700_000_400_000_000  # on a boundary of 10 minutes, not of an hour
APPENDED_US = START_US + 10 * 366 * 86_400 * US  # long after: nothing is in the future
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(time_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=time_us)


def make_sensor(channel: str = "a", **changes: Any) -> Sensor:
    facts = {"channel": channel, "point": channel, "quantity": "wind_speed", "unit": "m/s", "statistic": "avg"}
    return Sensor.model_validate({**facts, **changes})


def make_vane(channel: str = "vane", **changes: Any) -> Sensor:
    return make_sensor(channel, **{"quantity": "wind_direction", "unit": "deg", **changes})


def limited(fail: tuple[float, float] | None = None, suspect: tuple[float, float] | None = None) -> Limits:
    return Limits(gross_range=GrossRange(fail=fail, suspect=suspect))


def numbers(**changes: Any) -> Calibration:
    """A calibration whose numbers differ from one another."""
    facts = {"logger_slope": 0.05, "logger_offset": 0.2, "slope": 0.046, "offset": 0.243}
    return Calibration.model_validate({**facts, **changes})


def make_device(*sensors: Sensor, **changes: Any) -> Device:
    facts = {
        "device_id": "mast-7",
        "name": "Mast 7",
        "station": Station(station_id="hill", name="Hill"),
        "interval_s": 1.0,
        "sensors": sensors or (make_sensor(),),
        "configured_at": instant(START_US),
        "configured_by": "test",
    }
    return Device.model_validate({**facts, **changes})


def make_plan(*sensors: Sensor, **changes: Any) -> Plan:
    return plan_of(make_device(*sensors, **changes))


def make_frame(
    seconds: Sequence[float] | npt.NDArray[Any],
    values: Any = None,
    *,
    channels: tuple[str, ...] = ("a",),
    sequence: int = 0,
    spool: str = "spool",
) -> RawFrame:
    """Rows at `seconds` after START_US; the values are 1.0 if none are given."""
    times = START_US + np.round(np.asarray(seconds, np.float64) * US).astype(np.int64)
    shape = (len(times), len(channels))
    grid = np.ones(shape) if values is None else np.array(values, np.float64).reshape(shape)
    return RawFrame("mast-7", spool, sequence, times, channels, grid)


def in_log(frames: Iterable[RawFrame], *, first: int = 0, appended_us: int = APPENDED_US) -> list[Arrival]:
    return [Arrival(frame, first + at, appended_us) for at, frame in enumerate(frames)]


def in_batches(arrivals: Sequence[Arrival], sizes: Iterable[int]) -> Iterator[Sequence[Arrival]]:
    """The log, cut into batches of these sizes, and the rest as one."""
    at = 0
    for size in sizes:
        if at < len(arrivals):
            yield arrivals[at : at + size]
        at += size
    if at < len(arrivals):
        yield arrivals[at:]


def advanced(
    state: State, batches: Iterable[Sequence[Arrival]], plan: Plan, *, generation: int = 0
) -> tuple[State, Outcome]:
    """Batch after batch; everything that they brought about, together."""
    whole = Outcome()
    for batch in batches:
        state, outcome = advance(state, batch, plan, generation=generation)
        for name in ("clean", "windows", "refused", "alarms"):
            getattr(whole, name).extend(getattr(outcome, name))
        whole.repeated += outcome.repeated
        whole.late += outcome.late
    return state, whole


def one_by_one(arrivals: Sequence[Arrival]) -> Iterator[Sequence[Arrival]]:
    return ([arrival] for arrival in arrivals)


def windows_of(outcome: Outcome, length_s: int | None = None) -> list[tuple[Any, ...]]:
    """(start in s, length, channel, count, expected, suspect, failed, missing, mean, sd, min, max), as emitted."""
    columns = ("starts", "lengths_s", "channels", "counts", "expected", "suspect", "failed", "missing")
    said = ("means", "sds", "minima", "maxima")
    rows = [
        row
        for frame in outcome.windows
        for row in zip(*(np.asarray(getattr(frame, name)).tolist() for name in columns + said), strict=True)
    ]
    return [((start - START_US) // US, *rest) for start, *rest in rows if length_s in (None, rest[0])]
