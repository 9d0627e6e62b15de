"""A whole simulation: many devices, paced by the clock or as fast as the spool takes them. Composes."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from producers.edge import Edge
from producers.simulator.devices import SimulatedDevice, channel_names
from producers.simulator.faults import Fault
from producers.simulator.playing import Player, Truth
from schemas.devices import Device, Sensor, Station
from schemas.limits import GrossRange, Limits

STEP_S = 0.05  # paced: rows of so long go in one commit
FAST_ROWS = 100  # of each device in one commit
BACKLOG_BYTES = 64 << 20  # as fast as it goes, but not further ahead of the broker


@dataclass(frozen=True, slots=True)
class Performance:
    """What is asked for."""

    devices: tuple[str, ...]
    sensors: int
    rate: float
    faults: Mapping[Fault, float]
    duration_s: float | None
    seed: int
    start_us: int
    fast: bool = False

    @property
    def rows(self) -> int | None:
        return None if self.duration_s is None else round(self.duration_s * self.rate)

    def simulated(self) -> list[SimulatedDevice]:
        return [
            SimulatedDevice(
                device_id,
                sensors=self.sensors,
                rate=self.rate,
                faults=self.faults,
                seed=(self.seed, number),
                start_us=self.start_us,
            )
            for number, device_id in enumerate(self.devices)
        ]

    def configurations(self) -> Iterator[Device]:
        """What a person would have configured, so that the readings are judged and not rejected."""
        limits = Limits(gross_range=GrossRange(fail=(-60, 120), suspect=(0, 40)))
        facts = {"quantity": "wind_speed", "unit": "m/s", "statistic": "avg"}
        for device_id in self.devices:
            yield Device(
                device_id=device_id,
                name=device_id,
                station=Station(station_id="simulated", name="Simulated"),
                interval_s=1 / self.rate,
                sensors=tuple(
                    Sensor.model_validate({"channel": each, "point": each, "limits": limits, **facts})
                    for each in channel_names(self.sensors)
                ),
                configured_at=datetime.now(UTC),
                configured_by="telltale edge simulate",
            )


def perform(asked: Performance, edge: Edge, stop: threading.Event, *, truth: Path) -> dict[str, dict[str, int]]:
    """Until it is done or told to stop; counts per device."""
    written = Truth(truth)
    start = {"seed": asked.seed, "start_us": asked.start_us, "rate": asked.rate, "sensors": asked.sensors}
    faults = {str(fault): chance for fault, chance in asked.faults.items()}
    written.write({"start": {**start, "devices": asked.devices, "faults": faults}})
    player = Player(edge, asked.simulated(), written)
    step = FAST_ROWS if asked.fast else max(1, int(asked.rate * STEP_S))
    done = 0
    began = time.monotonic()
    try:
        while not stop.is_set() and (asked.rows is None or done < asked.rows):
            rows = step if asked.rows is None else min(step, asked.rows - done)
            if asked.fast:
                while edge.spool.bytes > BACKLOG_BYTES and not stop.wait(0.02):
                    pass
            else:
                stop.wait(max(0.0, began + (done + rows) / asked.rate - time.monotonic()))
            player.step(rows, waits=asked.fast)
            done += rows
    finally:
        counts = player.end()
    return counts
