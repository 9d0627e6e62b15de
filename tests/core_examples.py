"""What tests of the streams core are made of: sensors, devices, frames, logs. No network, no clock."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from schemas.alarms import Alarm
from schemas.devices import AlarmRule, Calibration, Device, RuleKind, Sensor, Station
from schemas.frames import DeviceState, RawFrame
from schemas.limits import Gap, GrossRange, Limits, Spike
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


def as_known_now(outcome: Outcome, length_s: int) -> list[tuple[Any, ...]]:
    """The windows of one length as `windows_of` has them, of each the last that was sent; by start, then channel."""
    last = {(row[0], row[2]): row for row in windows_of(outcome, length_s)}
    return [last[key] for key in sorted(last)]


LATENESS_S = 90
LENGTHS_S = (60, 600)
EDGE = instant(START_US + 400 * US)
PLAN = make_plan(
    make_sensor("speed", limits=limited(fail=(-40, 40), suspect=(-30, 30)), windows_s=LENGTHS_S, statistic="sum"),
    make_vane("vane", windows_s=LENGTHS_S, calibrations=[numbers(dead_band_orientation_deg=33.0)]),
    make_sensor("gust", windows_s=[600], calibrations=[numbers(valid_to=EDGE), numbers(valid_from=EDGE, slope=0.5)]),
    lateness_s=LATENESS_S,
)
CHANNELS = ("speed", "vane", "gust")

SPIKED = make_plan(
    make_sensor(
        "speed",
        limits=Limits(
            gross_range=GrossRange(fail=(-40, 40), suspect=(-30, 30)),
            spike=Spike(suspect=20, fail=40),
        ),
        windows_s=LENGTHS_S,
        statistic="sum",
        alarm_rules=[
            AlarmRule(name="fast", kind=RuleKind.ABOVE, limit=25, hysteresis=10),
            AlarmRule(name="jumpy", kind=RuleKind.RATE, limit=15),
        ],
    ),
    make_vane(
        "vane",
        limits=Limits(spike=Spike(method="differential", suspect=60, fail=100), gap=Gap(suspect_s=5, fail_s=200)),
        windows_s=LENGTHS_S,
    ),
    make_sensor(
        "gust",
        limits=Limits(gap=Gap(suspect_s=5, fail_s=200)),
        windows_s=[600],
        alarm_rules=[AlarmRule(name="gusty", kind=RuleKind.ABOVE, limit=15)],
    ),
    lateness_s=LATENESS_S,
)
"""With tests that look at the row that follows."""


def rows_of(outcome: Outcome) -> list[tuple[Any, ...]]:
    """Every stored row, in order, as bits."""
    return [
        (
            frame.generation,
            frame.channels,
            time,
            *(getattr(frame, name)[at].tobytes() for name in ("logged", "values", "quality", "tests")),
        )
        for frame in outcome.clean
        for at, time in enumerate(frame.times.tolist())
    ]


def refusals_of(outcome: Outcome) -> list[tuple[Any, ...]]:
    return [
        (
            part.reason,
            part.detail,
            part.arrival.offset,
            part.arrival.frame.channels,
            part.arrival.frame.values.tobytes(),
        )
        for part in outcome.refused
    ]


def steps_of(outcome: Outcome) -> dict[str, list[Alarm]]:
    """Each alarm's events in order; between alarms there is none."""
    steps: dict[str, list[Alarm]] = {}
    for alarm in outcome.alarms:
        steps.setdefault(alarm.alarm_id, []).append(alarm)
    return steps


def assert_same_record(one: DeviceState, other: DeviceState) -> None:
    for name in DeviceState.__slots__:
        mine, theirs = getattr(one, name), getattr(other, name)
        if name in ("window_means", "window_m2s"):
            assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-9), name
        else:
            assert np.array_equal(mine, theirs, equal_nan=isinstance(mine, np.ndarray)), name
