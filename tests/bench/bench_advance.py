"""The pure core alone: 60 rows of 20 channels a frame, all tests on, in piles of one frame, ten and a hundred.

No broker, no codec; CPU time of the one thread. The limit is what numpy needs to read and write as many
readings once.
"""

import time

import numpy as np
from bench_stack import Figure, figure

from schemas.devices import Calibration, Device, Sensor, Station
from schemas.limits import Limits
from streams.pipeline import advance
from streams.plan import plan_of
from streams.state import State
from streams.validation import Batch

WINS = """
numpy's single pass wins by far, as it must: tests, calibration and windows each go over the readings several times. A
single frame costs about a millisecond whatever it holds, the price of some hundred calls of numpy; the stage therefore
takes together all frames of a device that wait, and devices of one kind as one array.
"""

ROWS, CHANNELS, SECONDS = 60, 20, 3.0
PILES = 1, 10, 100
START_US = 1_700_000_400_000_000

STEPS = {
    "spike": {"suspect": 15, "fail": 30},
    "rate_of_change": {"suspect_per_s": 10, "fail_per_s": 20},
    "flat_line": {"tolerance": 0.01, "suspect_s": 300, "fail_s": 900},
    "gap": {"suspect_s": 5, "fail_s": 60},
}
SPEED = {
    **STEPS,
    "gross_range": {"fail": (-5, 75), "suspect": (0, 50)},
    "icing": {"temperature": "temp", "tolerance": 0.01, "suspect_s": 600, "fail_s": 3600},
    "stalled_at_offset": {"suspect_s": 600, "fail_s": 3600, "tolerance": 0.01},
    "sd_zero": {"fail": 0.0},
    "contradiction": {"fail": 0.0},
}
VANE = {
    **STEPS,
    "gross_range": {"fail": (0, 360)},
    "spike": {"suspect": 150, "fail": 179},
    "rate_of_change": {"suspect_per_s": 170},
    "dead_band": {"suspect_width_deg": 4, "fail_width_deg": 2},
}
SLOW = {"gross_range": {"fail": (-60, 60)}, "flat_line": {"tolerance": 1e-4, "suspect_s": 300, "fail_s": 900}}


def device() -> Device:
    """Four anemometers with four statistics each, two vanes, a thermometer, a battery."""
    numbers = Calibration(
        logger_slope=0.05, logger_offset=0.2, slope=0.046, offset=0.243, dead_band_orientation_deg=33.0
    )

    def sensor(channel: str, quantity: str, unit: str, limits: dict[str, object], **facts: str) -> Sensor:
        facts = {"point": channel, "statistic": "avg", **facts}
        known = Limits.model_validate(limits)
        return Sensor(channel=channel, quantity=quantity, unit=unit, limits=known, calibrations=(numbers,), **facts)

    speeds = [
        sensor(f"v{n}{s}", "wind_speed", "m/s", SPEED if s == "avg" else STEPS, point=f"v{n}", statistic=s)
        for n in range(4)
        for s in ("avg", "sd", "min", "max")
    ]
    pair = [{"other": f"dir{1 - n}", "suspect_difference": 179, "fail_difference": 180} for n in range(2)]
    vanes = [sensor(f"dir{n}", "wind_direction", "deg", {**VANE, "sensor_pair": pair[n]}) for n in range(2)]
    low = {"battery": "battery", "suspect": 11, "fail": 10.5}
    return Device(
        device_id="mast-7",
        name="mast-7",
        station=Station(station_id="bench", name="bench"),
        interval_s=1,
        sensors=(
            *speeds,
            *vanes,
            sensor("temp", "air_temperature", "deg_C", {**STEPS, **SLOW, "battery_low": low}),
            sensor("battery", "voltage", "V", SLOW),
        ),
        configured_at="2024-01-01T00:00:00Z",
        configured_by="bench",
    )


def readings(rows: int) -> np.ndarray:
    """Of a good day, (rows, CHANNELS)."""
    chance = np.random.default_rng(1)
    mean = chance.normal(8, 1, (rows, 4))
    speeds = [mean, 1 + 0.2 * chance.random((rows, 4)), mean - 2, mean + 2 + chance.random((rows, 4))]
    vanes = chance.normal(180, 20, (rows, 2))
    slow = [chance.normal(10, 0.5, (rows, 1)), chance.normal(12.6, 0.05, (rows, 1))]
    return np.concatenate((np.stack(speeds, axis=2).reshape(rows, 16), vanes, *slow), axis=1)


def rate(frames: int) -> float:
    """Readings a second in piles of so many frames."""
    plan, state, rows = plan_of(device()), State("mast-7"), frames * ROWS
    names = tuple(sensor.channel for sensor in plan.device.sensors)
    values, sizes = readings(rows), np.full(frames, ROWS)
    spent, piles = 0.0, 0
    while spent < SECONDS:
        numbers = np.arange(piles * frames, (piles + 1) * frames)
        times = START_US + (piles * rows + np.arange(rows)) * 1_000_000
        batch = Batch("mast-7", "bench", numbers, numbers, times[::ROWS] + 90_000_000, sizes, names, times, values)
        began = time.thread_time()
        state, outcome = advance(state, batch, plan, generation=0)
        spent += time.thread_time() - began
        piles += 1
    if any((frame.quality != 1).any() for frame in outcome.clean):
        raise RuntimeError("readings of a good day are flagged")
    return piles * values.size / spent


def limit() -> float:
    """Readings a second that numpy reads and writes once."""
    values = readings(PILES[-1] * ROWS)
    out, began = np.empty_like(values), time.thread_time()
    for _ in range(200):
        np.multiply(values, 1.01, out=out)
    return 200 * values.size / (time.thread_time() - began)


def run() -> list[Figure]:
    """The core in small and in large piles."""
    once = limit()
    return [
        figure("advance", "numpy: one pass over as many readings (limit)", once, "readings/s"),
        *(
            figure(
                "advance",
                f"all tests, {frames} frames of {ROWS}x{CHANNELS} a pile",
                rate(frames),
                "readings/s",
                beside=once,
            )
            for frames in PILES
        ),
    ]
